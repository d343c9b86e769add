"""Planning: which trials a run consists of, and after a round of them, which go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.contracts import Lane, PlanningRequest, TrainingPlan, TrialPointer
from millrace.errors import InvalidInputError
from millrace.layout import prepared_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import Run, Trial
from millrace.schema import TableSchema
from millrace.settings import PlanTrainingSettings
from millrace.spec import ModelSpec
from millrace.training.capacity import Capacity
from millrace.training.metric_catalogue import get_metric
from millrace.training.narrowing import narrow
from millrace.training.prepared_size import PreparedSize, read_prepared_size
from millrace.training.rounds import begin_next_round
from millrace.training.search_plan import (
    DEFAULT_TRIALS,
    DEFAULT_TRIALS_IN_ROUNDS,
    draw_trials,
    folds_for,
    rounds_for,
    rows_of_round,
)
from millrace.training.search_space import SearchSpace, select_search_spaces
from millrace.training.settling import settle_trials
from millrace.training.widths import encoded_width


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What a run tries, as its summary keeps it under ``search``.

    Parameters
    ----------
    seed : int
        Of the draw, and of every trial.
    rows, of_rows : int
        Training rows used, and those there are; fewer means a sample, and ``why_sampled`` says why.
    rounds : tuple of int
        Training rows of each round; the last is ``rows``.
    folds : int
        That rank the trials; 1 is the validation split alone.
    left_out : mapping of str to str
        Candidates that are not tried, with the reason.
    deadline : str or None
        No trial is started after this moment.
    max_cost_usd : float or None
        No trial is started when those before have cost as much.
    lanes : int
        Workers at once.
    memory_mb : int
        Of each.
    spec_revision : int
        Of the model's spec, which this was made from.
    """

    seed: int
    trials: int
    rows: int
    of_rows: int
    why_sampled: str
    rounds: tuple[int, ...]
    folds: int
    why_folds: str
    left_out: Mapping[str, str]
    deadline: str | None
    max_seconds: float | None
    max_cost_usd: float | None
    lanes: int
    memory_mb: int
    spec_revision: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {"rounds": list(self.rounds)}


def plan_run(
    request: PlanningRequest,
    *,
    registry: Registry,
    data_store: ObjectStore,
    settings: PlanTrainingSettings,
    now: datetime,
) -> TrainingPlan:
    """Record a run's trials, or after a round those that go on, and return pointers; again is the same as once.

    Raises
    ------
    InvalidInputError
        When the spec names a candidate, a parameter or a metric that the task does not have, or when there is more
        data than fits and the stack does not train on samples: said here, before anything is fitted.
    """
    run = registry.get_run(request.model, request.run_id)
    schema = load_schema(run, data_store)
    if request.finished_round:
        spec = registry.get_spec(run.model)
        settle_trials(run, request.trials, registry, request.finished_round)
        begin_next_round(run, request.finished_round, get_metric(schema.task, spec.primary_metric), registry)
        return _pointers(registry.get_run(run.model, run.run_id), registry, request.finished_round + 1)
    if "search" not in run.summary:
        registry.update_run(run.model, run.run_id, stage="planning")
        record = registry.get_spec_record(run.model)
        size = read_prepared_size(run, data_store)
        search, trials = plan_search(
            run, schema, record.spec, size=size, settings=settings, now=now, spec_revision=record.revision
        )
        registry.put_trials(trials)
        summary = {**run.summary, "search": search.to_dict()}
        registry.update_run(run.model, run.run_id, stage="training", summary=summary)
    return _pointers(registry.get_run(run.model, run.run_id), registry, 1)


def plan_search(
    run: Run,
    schema: TableSchema,
    spec: ModelSpec,
    *,
    size: PreparedSize,
    settings: PlanTrainingSettings,
    now: datetime,
    spec_revision: int = 0,
) -> tuple[SearchPlan, list[Trial]]:
    """Decide what is tried, on how many rows and how often, without touching anything."""
    get_metric(schema.task, spec.primary_metric)
    for name in spec.gate.floors:
        get_metric(schema.task, name, field=f"gate.floors.{name}")
    for name in spec.gate.slice_floors:
        get_metric(schema.task, name, field=f"gate.slice_floors.{name}")
    for position, declared in enumerate(spec.evaluation.slices):
        for name in declared.floors:
            get_metric(schema.task, name, field=f"evaluation.slices.{position}.floors.{name}")
    wanted = spec.training
    rows, why_sampled = _training_rows(schema, spec, size, settings)
    fitting, left_out = _fitting_spaces(select_search_spaces(schema.task, spec.candidates), spec, rows)
    spaces = narrow(fitting, wanted.parameters)
    rounds = rounds_for(rows, wanted.rounds)
    folds, why_folds = folds_for(
        size.train_rows + size.validation_rows, size.smallest_class, spec.split.by, wanted.folds
    )
    if rounds > 1:
        folds, why_folds = 1, "there are several rounds, and enough rows to choose by"
    count = wanted.trials or (DEFAULT_TRIALS if rounds == 1 else DEFAULT_TRIALS_IN_ROUNDS)
    planned = draw_trials(spaces, count, seed=spec.seed, schema=schema, rows=rows)
    round_rows = tuple(rows_of_round(rows, number, rounds) for number in range(1, rounds + 1))
    search = SearchPlan(
        seed=spec.seed,
        trials=len(planned),
        rows=rows,
        of_rows=size.train_rows,
        why_sampled=why_sampled,
        rounds=round_rows,
        folds=folds,
        why_folds=why_folds,
        left_out=left_out,
        deadline=(now + timedelta(seconds=wanted.max_seconds)).isoformat() if wanted.max_seconds else None,
        max_seconds=wanted.max_seconds,
        max_cost_usd=wanted.max_cost_usd,
        lanes=min(wanted.max_concurrency or settings.training_concurrency, len(planned)),
        memory_mb=settings.training_memory_mb,
        spec_revision=spec_revision,
    )
    trials = [
        Trial(
            model=run.model,
            run_id=run.run_id,
            trial_id=f"{number:02d}-{trial.candidate}",
            candidate=trial.candidate,
            parameters=trial.parameters,
            seed=spec.seed,
            rows=round_rows[0] if round_rows[0] < size.train_rows else None,
            folds=folds,
        )
        for number, trial in enumerate(planned, start=1)
    ]
    return search, trials


def _training_rows(
    schema: TableSchema, spec: ModelSpec, size: PreparedSize, settings: PlanTrainingSettings
) -> tuple[int, str]:
    """Return how many rows are trained on, and why not all; never more than a function can hold."""
    memory = settings.training_memory_mb
    fitting = Capacity(memory).max_rows(size, encoded_width(len(schema.number_names), len(schema.string_names)))
    if size.train_rows > fitting and settings.large_data == "refuse":
        raise InvalidInputError(
            f"{size.train_rows:,} training rows do not fit into functions of {memory:,} MB, which hold about"
            f" {fitting:,}; deploy with a larger TrainingMemorySize, or with LargeData=sample"
        )
    most = spec.training.max_rows
    if most is not None and most < min(size.train_rows, fitting):
        return most, f"the spec trains on at most {most:,} rows"
    if size.train_rows > fitting:
        return fitting, f"functions of {memory:,} MB hold about {fitting:,} rows of this table"
    return size.train_rows, ""


def _fitting_spaces(
    spaces: Sequence[SearchSpace], spec: ModelSpec, rows: int
) -> tuple[list[SearchSpace], dict[str, str]]:
    """Leave out candidates that have too many rows; one that the spec names is refused instead."""
    kept, left_out = [], {}
    for space in spaces:
        if space.max_rows is None or rows <= space.max_rows:
            kept.append(space)
            continue
        reason = f"{rows:,} training rows, and it takes at most {space.max_rows:,}: {space.why_max_rows}"
        if spec.candidates is not None:
            raise InvalidInputError(f"{space.candidate} cannot be trained: {reason}")
        left_out[space.candidate] = reason
    return kept, left_out


def _pointers(run: Run, registry: Registry, round_number: int) -> TrainingPlan:
    """Deal a round's trials to lanes, so that each has some of every kind."""
    search = run.summary["search"]
    trials = [trial for trial in registry.list_trials(run.model, run.run_id) if trial.round == round_number]
    pointers = [
        TrialPointer(model=run.model, run_id=run.run_id, trial_id=trial.trial_id, round=round_number)
        for trial in trials
    ]
    lanes = min(search["lanes"], len(pointers))
    return TrainingPlan(
        round=round_number,
        last_round=round_number >= len(search["rounds"]),
        lanes=[Lane(trials=pointers[position::lanes]) for position in range(lanes)],
    )


def load_schema(run: Run, data_store: ObjectStore) -> TableSchema:
    """Read the schema that the run's data was prepared under; raises ``ArtifactNotFoundError``."""
    return TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))
