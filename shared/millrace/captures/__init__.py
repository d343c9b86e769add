"""Predictions as they were served, what became true afterwards, and both joined."""
