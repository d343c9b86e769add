"""The model card: what a version is, how good, for whom, why it serves, and how to call it, on one page."""
