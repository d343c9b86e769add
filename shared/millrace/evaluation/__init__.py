"""The third stage: measure candidates on an untouched holdout and apply the promotion gate."""

__all__ = ["evaluate", "holdout", "slices"]
