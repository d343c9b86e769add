"""Captured predictions, reported ground truth, and both joined."""
