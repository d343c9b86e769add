"""Adapters on AWS: the only place that calls it."""

__all__ = ["clients", "management", "rest_api", "serving_source", "tracking"]
