"""Histograms of training data, holdout predictions and traffic: they add up, so a window is the sum of its hours.

Bins are fixed by the training data. numpy only.
"""
