"""A run whose data is prepared: the world in which planning, trials and evaluation are tested."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from millrace.contracts import (
    EvaluationRequest,
    EvaluationVerdict,
    PlanningRequest,
    TrainingPlan,
    TrialOutcome,
    TrialPointer,
)
from millrace.entities import Cause, LedgerEntry, Run
from millrace.evaluation.evaluate import evaluate_run
from millrace.spec import ModelSpec
from millrace.training.limits import TrialLimits
from millrace.training.planning import plan_run
from millrace.training.search_plan import TrainingCapacity
from millrace.training.trial import train_trial

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.prepared_data import Dataset, store_dataset

MODEL = "churn"
RUN_ID = "20260503T141500-0f3a9c2b7d1e"
NOW = datetime(2026, 5, 3, 14, 20, tzinfo=UTC)
CAPACITY = TrainingCapacity(memory_mb=3_008, concurrency=3, large_data="sample", account_executions=1_000)


class TickingClock:
    """Goes on by the same time, two seconds or ``step``, each time it is read."""

    def __init__(self, step: float = 2.0) -> None:
        self.seconds = 0.0
        self.step = step

    def __call__(self) -> float:
        self.seconds += self.step
        return self.seconds


@dataclass
class TrainingRun:
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    data_store: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore("data"))
    model_store: MemoryObjectStore = field(default_factory=lambda: MemoryObjectStore("models"))
    clock: TickingClock = field(default_factory=TickingClock)
    capacity: TrainingCapacity = CAPACITY

    @classmethod
    def prepared(cls, dataset: Dataset, cause: str = "upload", **spec: object) -> "TrainingRun":
        world = cls()
        # As many trials as there are candidates, without folds: tests of what comes after do not need a search.
        few = len(spec.get("candidates") or ("baseline", "a linear model", "boosting"))
        spec.setdefault("training", {"trials": few, "folds": 1, "refit": "never"})
        spec.setdefault("evaluation", {"learning_curve": False})  # refits take longer than everything else here
        run = Run(MODEL, RUN_ID, ("c1",), cause, NOW, status="running", dataset_ids=("d1",), summary={"rows": 400})
        world.registry.claim_cause(
            Cause("c1", MODEL, cause, NOW), run, LedgerEntry(MODEL, "c1", NOW, "test", "run_requested", "")
        )
        world.registry.put_spec(MODEL, ModelSpec.parse(spec))
        store_dataset(dataset, world.data_store, MODEL, RUN_ID)
        return world

    @property
    def run(self) -> Run:
        return self.registry.get_run(MODEL, RUN_ID)

    def plan(self, finished_round: int = 0, trials: Sequence[TrialOutcome] = ()) -> TrainingPlan:
        return plan_run(
            PlanningRequest(model=MODEL, run_id=RUN_ID, finished_round=finished_round, trials=list(trials)),
            registry=self.registry,
            data_store=self.data_store,
            model_store=self.model_store,
            capacity=self.capacity,
            now=NOW,
        )

    def train(
        self, pointer: TrialPointer, limits: TrialLimits | None = None, after: timedelta = timedelta()
    ) -> TrialOutcome:
        return train_trial(
            pointer,
            registry=self.registry,
            data_store=self.data_store,
            model_store=self.model_store,
            limits=limits or TrialLimits(),
            now=NOW + after,
            clock=self.clock,
        )

    def train_all(self) -> list[TrialOutcome]:
        """Train the first round."""
        return [self.train(pointer) for pointer in self.plan().trials]

    def search(self) -> list[TrialOutcome]:
        """Train every round, that of the refit included, and return the outcomes of the last."""
        plan = self.plan()
        outcomes = [self.train(pointer) for pointer in plan.trials]
        while not plan.last_round:
            plan = self.plan(plan.round, outcomes)
            outcomes = [self.train(pointer) for pointer in plan.trials]
        return outcomes

    def evaluate(self, trials: Sequence[TrialOutcome], clock: TickingClock | None = None) -> EvaluationVerdict:
        return evaluate_run(
            EvaluationRequest(model=MODEL, run_id=RUN_ID, trials=list(trials)),
            registry=self.registry,
            data_store=self.data_store,
            model_store=self.model_store,
            now=NOW,
            clock=TickingClock(step=0.001) if clock is None else clock,
        )
