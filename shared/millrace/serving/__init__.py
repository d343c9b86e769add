"""The last stage: requests become predictions of the registered model."""

__all__ = ["cache", "capture", "explain", "handler", "intervals", "model", "openapi", "request", "rows", "scoring"]
