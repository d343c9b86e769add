"""The context of a replay: its stores, and all that its rows are scored and compared with."""

from dataclasses import dataclass
from datetime import datetime

from millrace.monitoring.context import MonitoredVersion, load_context
from millrace.ports import ObjectStore, RegistryStore
from millrace.registry.store import Registry
from millrace.replay.replay_documents import ReplayRequest
from millrace.replay.replayed_versions import ReplayedVersions
from millrace.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class ReplayStores:
    """The stores that a replay reads; it writes to that of data alone."""

    registry: Registry
    item_store: RegistryStore
    data: ObjectStore
    models: ObjectStore


@dataclass(frozen=True, slots=True)
class ReplayContext:
    """A replay with everything that its rows are scored and compared with."""

    request: ReplayRequest
    spec: ModelSpec
    versions: ReplayedVersions
    baseline: MonitoredVersion | None
    candidate: MonitoredVersion | None
    stores: ReplayStores
    now: datetime


def make_context(
    request: ReplayRequest, versions: ReplayedVersions, stores: ReplayStores, now: datetime, token: str
) -> ReplayContext:
    """Read the spec, and what each version's training and holdout were like."""
    spec = stores.registry.get_spec(request.model)
    monitored = [
        load_context(
            request.model, version, spec, data_store=stores.data, model_store=stores.models, now=now, token=token
        ).monitored
        for version in (request.baseline, request.candidate)
    ]
    return ReplayContext(request, spec, versions, monitored[0], monitored[1], stores, now)
