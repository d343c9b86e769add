"""MLflow's tracking and registry API: its endpoints as functions over the items of a table."""

__all__ = ["model_mirror", "tracking_api", "tracking_calls"]
