"""The first stage: an upload becomes a checked, versioned, prepared dataset."""
