"""Distances between distributions, and tests of change."""
