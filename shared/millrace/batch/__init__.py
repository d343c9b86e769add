"""Batch scoring: files of any size, in parts, to files of predictions."""

__all__ = ["finishing", "job", "job_planning", "part_scoring"]
