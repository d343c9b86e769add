"""MLflow's API over stores in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from millrace.registry.store import Registry
from millrace.tracking.tracking_api import TrackingRequest, respond_to
from millrace.tracking.tracking_calls import Mirror, NoMirror, TrackingCall

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistryStore

BEGIN = datetime(2026, 5, 3, 12, tzinfo=UTC)


class Server:
    """Responds to requests of MLflow's API; each request is a second after the one before."""

    def __init__(self) -> None:
        self.store = MemoryRegistryStore()
        self.objects = MemoryObjectStore()
        self.registry = Registry(self.store)
        self.mirror: Mirror = NoMirror()
        self.pipeline = MemoryPipeline()
        self.requests = 0

    def make_pipeline(self) -> MemoryPipeline:
        return self.pipeline

    def ask(self, method: str, path: str, query: dict[str, Any], body: dict[str, Any]) -> Any:
        self.requests += 1
        number = self.requests
        call = TrackingCall(
            store=self.store,
            objects=self.objects,
            artifact_root="s3://models/mlflow/experiments",
            actor="arn:aws:iam::123456789012:user/ann",
            now=BEGIN + timedelta(seconds=number),
            make_id=lambda: f"{number:032x}",
            registry=lambda: self.registry,
            mirror=self.mirror,
            pipeline=self.make_pipeline,
        )
        lists = {
            name: [str(one) for one in (value if isinstance(value, list) else [value])] for name, value in query.items()
        }
        full = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        response = respond_to(TrackingRequest(method, full, lists, body), call)
        return response if isinstance(response, str) else orjson.loads(orjson.dumps(response))

    def get(self, path: str, /, **query: Any) -> Any:
        return self.ask("GET", path, query, {})

    def post(self, path: str, /, **body: Any) -> Any:
        return self.ask("POST", path, {}, body)

    def patch(self, path: str, /, **body: Any) -> Any:
        return self.ask("PATCH", path, {}, body)

    def delete(self, path: str, /, **body: Any) -> Any:
        return self.ask("DELETE", path, {}, body)


@pytest.fixture
def server() -> Server:
    return Server()
