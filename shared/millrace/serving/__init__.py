"""The last stage: requests become predictions of the registered model."""
