"""Batch scoring: files of any size, in parts, to files of predictions."""

__all__ = ["finish_step", "job_queries", "job_records", "job_requests", "part_step", "plan_step"]
