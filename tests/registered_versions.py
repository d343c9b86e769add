"""A registry and a bucket in which versions are registered whole, without the training that leads there."""

import hashlib
from dataclasses import replace
from typing import Any

from millrace.layout import version_key
from millrace.manifest import Manifest
from millrace.registry.ledger import AuditContext

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, later, make_cause, make_entry, make_run, make_version, point_alias

ARTIFACTS = {"model.onnx": b"onnx", "signature.json": b"{}", "estimator.skops": b"skops", "card.md": b"# card"}


class RegisteredVersions:
    """Versions 1 to ``count``, all of them fit to serve, each of a run of its own that has ended."""

    def __init__(
        self, count: int = 0, registry: Any = None, models: Any = None, signature: bytes | None = None
    ) -> None:
        self.registry = registry or MemoryRegistry()
        self.models = models or MemoryObjectStore("models")
        cause = make_cause("first.csv")
        self.registry.claim_cause(cause, make_run(cause), make_entry(cause.cause_id))
        self.first_run_id = make_run(cause).run_id
        for number in range(1, count + 1):
            self.register(number, signature)

    def register(self, number: int, signature: bytes | None = None, **changes: Any) -> None:
        artifacts = {name: body + str(number).encode() for name, body in ARTIFACTS.items()}
        artifacts |= {"signature.json": signature} if signature else {}
        for name, body in artifacts.items():
            self.models.put(version_key(MODEL, number, name), body)
        manifest = Manifest.of(make_version(number), artifacts, None).write()
        self.models.put(version_key(MODEL, number, "manifest.json"), manifest)
        version = replace(make_version(number), manifest_sha256=hashlib.sha256(manifest).hexdigest(), **changes)
        self.registry.put_version(version, make_entry(f"version-{number}-registered"))

    def point(self, alias: str, version: int, minutes: float = 0) -> None:
        point_alias(self.registry, alias, version, at=later(minutes))

    def damage(self, number: int, name: str = "model.onnx") -> None:
        self.models.put(version_key(MODEL, number, name), b"something else")

    @property
    def aliases(self) -> dict[str, int]:
        return dict(self.registry.get_state(MODEL).aliases)

    @property
    def actions(self) -> list[str]:
        """What the ledger says was done, newest first."""
        return [entry.action for entry in self.registry.list_ledger(MODEL)]


def acting(minutes: float = 60, reason: str = "because", actor: str = "ann") -> AuditContext:
    return AuditContext(actor, reason, later(minutes))
