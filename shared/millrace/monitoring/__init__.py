"""Monitoring of models in production: drift, data quality, model quality, bias, serving; incidents and alerts."""

__all__ = [
    "alerts",
    "context",
    "due_models",
    "estimates",
    "job_series",
    "monitor",
    "report",
    "segments",
    "serving_health",
    "state",
]
