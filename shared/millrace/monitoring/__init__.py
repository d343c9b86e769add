"""Monitoring of models in production: drift, data quality, model quality, bias, serving; incidents and alerts."""

__all__ = ["alerts", "due_models", "monitor", "report", "serving_health", "state"]
