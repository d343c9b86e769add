"""MLflow's own web pages, from an installed MLflow, over the stack's API."""
