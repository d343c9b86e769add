"""The provider that ``MLFLOW_TRACKING_AUTH=millrace`` names."""

from __future__ import annotations

from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider

from millrace_mlflow.signing import RequestSigner


class MillraceAuthProvider(RequestAuthProvider):
    """Signs the requests of MLflow's clients."""

    def get_name(self) -> str:
        """Return the value of ``MLFLOW_TRACKING_AUTH``."""
        return "millrace"

    def get_auth(self) -> RequestSigner:
        """Return what signs a request."""
        return RequestSigner()
