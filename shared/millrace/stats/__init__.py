"""Distances between distributions, and tests of change."""

__all__ = ["distances"]
