"""Millrace's own handler; the version lies in a folder, as the other servers' models do."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "functions" / "predict"))

import app
import worker
from millrace.key_scopes import KeyScopes
from millrace.routing import AliasPointer
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint, make_prediction_id

#: Of API Gateway, without a body.
EVENT: dict[str, Any] = {
    "resource": "/models/{model}/invocations",
    "path": "/models/churn/invocations",
    "httpMethod": "POST",
    "headers": {"Content-Type": "application/json"},
    "queryStringParameters": None,
    "pathParameters": {"model": "churn"},
    "requestContext": {"requestId": "0a6c2f6e-5f4f-4a43-9a53-8e3a2c9a0b11"},
    "isBase64Encoded": False,
}


class FolderSource:
    """Implements :class:`millrace.serving.model.ModelSource` on one version in a folder."""

    def __init__(self, folder: Path, routing: str = "") -> None:
        self._folder = folder
        self.routing = routing

    def read_alias(self, model: str, alias: str) -> AliasPointer:  # noqa: ARG002 - there is one model
        """Return the one version."""
        return AliasPointer(1, self.routing)

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the manifest's own hash."""
        import hashlib

        return hashlib.sha256(self.artifact(model, version, "manifest.json")).hexdigest()

    def artifact(self, model: str, version: int, name: str) -> bytes:  # noqa: ARG002 - as above
        """Read a file."""
        return (self._folder / name).read_bytes()

    def earlier_champions(self, model: str, version: int) -> Iterator[int]:  # noqa: ARG002 - as above
        """Yield nothing."""
        yield from ()

    def key_models(self, key_id: str) -> None:
        """Return None: no key has a scope."""


def make(folder: Path, *, captures: bool = True, routing: str = "") -> worker.Ask:
    """Return the handler as a function of a body; with a plan, every version is that of the folder."""
    import gc
    import time

    gc.set_threshold(100_000)  # as the handler does where it builds its own
    source = FolderSource(folder, routing)
    models, keys = ModelCache(source, 5.0, time.monotonic), KeyScopes(source.key_models, 30.0, time.monotonic)
    endpoint = Endpoint(models, keys, 10_000, make_prediction_id, captures=captures)
    app._endpoint = lambda: endpoint
    return lambda body: str(app.lambda_handler({**EVENT, "body": body}, None)["body"])


if __name__ == "__main__":
    os.environ["POWERTOOLS_TRACE_DISABLED"] = "true"
    worker.run(make)
