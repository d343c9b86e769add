"""Triggers of training runs: uploads, schedules, people, and the end of the run before."""

__all__ = ["requests", "retraining", "trigger_events"]
