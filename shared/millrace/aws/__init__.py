"""Adapters on AWS: the only place that calls it."""

__all__ = ["clients", "management", "presigned", "rest_api", "serving_source", "tracking"]
