"""Metrics of predictions: one record each, computed with numpy alone, with their confidence intervals."""

__all__ = ["bootstrap", "catalogue", "confidence_intervals"]
