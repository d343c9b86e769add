"""Costs: list prices, and the arithmetic of what a stack and its models use."""

__all__ = ["prices"]
