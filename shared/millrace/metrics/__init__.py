"""Metrics of predictions: one record each, computed with numpy alone, with bootstrap intervals."""

__all__ = ["bootstrap", "catalogue"]
