"""Models that users logged with MLflow: the check and the wrapper after which they are served like trained ones."""

__all__ = ["check"]
