"""Captured predictions, reported ground truth, and both joined."""

__all__ = ["activity", "delivery", "feedback", "joining", "records", "traffic", "window"]
