"""The first stage: an upload becomes a checked, versioned, prepared dataset."""

__all__ = [
    "dataset_documents",
    "dataset_queries",
    "file_ranges",
    "ingest",
    "prepared",
    "read",
    "reference",
    "schema_changes",
    "spec_changes",
    "typed_batches",
]
