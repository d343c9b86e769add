"""Costs: list prices, the arithmetic of what is used, and statements of a month."""

__all__ = ["arithmetic", "prices", "statement"]
