"""Millrace for MLflow's clients."""
