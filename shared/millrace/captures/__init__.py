"""Captured predictions, reported ground truth, and both joined."""

__all__ = ["delivery", "feedback", "joining", "records", "traffic", "window"]
