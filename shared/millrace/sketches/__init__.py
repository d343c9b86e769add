"""Sketches: what is kept of rows so that they need not be read again.

They add up: a window is the sum of its hours, and the training data is a sketch in the same cells. numpy only.
"""
