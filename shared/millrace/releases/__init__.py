"""Releases: guards on the evidence of both arms, the pure step from evidence to decision, and what carries it out."""

__all__ = ["changes", "control", "driver", "upkeep"]
