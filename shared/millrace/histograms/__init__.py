"""Histograms of training data, holdout predictions and traffic; histograms add up, so a window is the sum of its hours.

The training data fixes the bins. numpy only.
"""

__all__ = ["bins", "correlations", "outcomes", "predictions", "tables"]
