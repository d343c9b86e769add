"""Adapters on AWS: the only place that calls it."""
