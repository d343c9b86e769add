"""Releases: guards on the evidence of both arms, the pure step from evidence to decision, and what carries it out."""

__all__ = ["changes", "control", "driver", "paired_quality", "replay_events", "replay_evidence", "upkeep"]
