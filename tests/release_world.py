"""A model with versions, a release, its traffic by arm and a clock; over any registry."""

from datetime import datetime, timedelta
from typing import Any

from millrace.captures.traffic import TrafficCounts, TrafficHour, arm_key, record_traffic
from millrace.entities import Release
from millrace.registry.items import ModelKeys
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import AssignedOutcome, GateDecision, assign_alias
from millrace.registry.release_changes import find_active_release, get_release
from millrace.registry.store import Registry
from millrace.releases.control import change_active_release, start_release
from millrace.releases.driver import Tick, evaluate_release
from millrace.routing import RoutingPlan

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_schedules import MemorySchedules
from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, NOW

CANARY = {"strategy": "canary", "steps": [10, 50], "bake": "1h", "min_requests": 100}
BEGIN = NOW + timedelta(hours=1)


class ReleaseWorld(RegisteredVersions):
    """Versions 1, the champion, 2 and 3, with traffic by arm."""

    def __init__(self, registry: Registry | None = None, signature: bytes | None = None) -> None:
        super().__init__(3, registry, signature=signature)
        self.point("champion", 1)
        self.schedules = MemorySchedules()
        self.data = MemoryObjectStore("data")
        self.now = BEGIN
        self.arms: dict[datetime, dict[str, TrafficCounts]] = {}

    def audit(self, reason: str = "because") -> AuditContext:
        return AuditContext("ann", reason, self.now)

    def start(self, version: int = 2, **overrides: Any) -> Release:
        stores = {"registry": self.registry, "model_store": self.models}
        started = start_release(MODEL, version, CANARY | overrides, self.audit(), **stores)
        return get_release(MODEL, started.release["release_id"], self.registry)

    @property
    def release(self) -> Release | None:
        return find_active_release(self.registry.get_state(MODEL), self.registry)

    @property
    def routing(self) -> RoutingPlan | None:
        text = self.registry.store.get(ModelKeys(MODEL).state).get("routing")
        return RoutingPlan.read(text) if text else None

    def serve(
        self, requests: int, minutes: int = 61, stage: int | None = None, champion: Any = None, **candidate: Any
    ) -> None:
        """Let requests come in the hour that begins now, the candidate's share of them its own."""
        release = self.release
        assert release is not None
        number = round(requests * release.weight)
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        arms = self.arms.setdefault(hour, {})
        for arm, count, more in (("champion", requests - number, champion or {}), ("candidate", number, candidate)):
            key = arm_key(release.release_id, release.stage if stage is None else stage, arm)
            counts = TrafficCounts(**({"requests": count, "statuses": {"2xx": count}, "latencies": {4: count}} | more))
            arms[key] = arms[key] + counts if key in arms else counts
        total = TrafficCounts(requests=sum(each.requests for each in arms.values()))
        record_traffic(self.registry.store, TrafficHour(model=MODEL, hour=hour, versions={1: total}, arms=arms))
        self.now += timedelta(minutes=minutes)

    def serve_before(self, requests: int, hours: int = 2, **counts: Any) -> None:
        """Record requests that the champion had before."""
        hour = self.now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours)
        total = TrafficCounts(requests=requests, latencies={4: requests}, **counts)
        record_traffic(self.registry.store, TrafficHour(model=MODEL, hour=hour, versions={1: total}))

    def passes(self, number: int) -> AssignedOutcome:
        """Let a pending version pass the gate against version 1."""
        decision = GateDecision(True, 1, "better", self.first_run_id)
        return assign_alias(decision, self.registry.get_version(MODEL, number), self.registry, self.now)

    def tick(self) -> Tick:
        stores = {"registry": self.registry, "model_store": self.models, "item_store": self.registry.store}
        return evaluate_release(MODEL, data_store=self.data, schedules=self.schedules, now=self.now, **stores)

    def change(self, action: Any, release_id: str = "active") -> str:
        stores = {"registry": self.registry, "model_store": self.models}
        return change_active_release(MODEL, release_id, action, self.audit(), **stores).outcome

    @property
    def has_schedule(self) -> bool:
        return self.schedules.get(MODEL, "release") is not None
