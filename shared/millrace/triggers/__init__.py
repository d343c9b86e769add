"""Triggers of training runs: uploads, schedules, people, and the end of the run before."""

__all__ = ["requests", "trigger_events"]
