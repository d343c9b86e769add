"""Captured predictions, the record of traffic, reported ground truth, and predictions joined with it."""

__all__ = ["activity", "delivery", "feedback", "job_windows", "joining", "records", "traffic", "window"]
