"""Versions as directories of other tools."""

__all__ = ["mlflow_model"]
