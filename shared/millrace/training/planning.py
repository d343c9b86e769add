"""Planning: which trials a run consists of, and after a round of them, which go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.contracts import Lane, PlanningRequest, TrainingPlan, TrialOutcome, TrialPointer
from millrace.entities import FINISHED_TRIAL_STATUSES, Run, Trial
from millrace.errors import InvalidInputError
from millrace.layout import prepared_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema
from millrace.settings import PlanTrainingSettings
from millrace.spec import ModelSpec
from millrace.training.search_plan import (
    DEFAULT_TRIALS,
    DEFAULT_TRIALS_IN_ROUNDS,
    Capacity,
    PreparedSize,
    draw_trials,
    encoded_width,
    folds_for,
    read_prepared_size,
    rounds_for,
    rows_of_round,
    survivors,
)
from millrace.training.search_space import BASELINE, SearchSpace, narrow, select_search_spaces

NO_OUTCOME = "the worker ended without recording a result"

MAX_REASON_LENGTH = 500


def settle_trials(
    run: Run, outcomes: Sequence[TrialOutcome], registry: Registry, finished_round: int | None = None
) -> list[Trial]:
    """Return the run's trials, none of them open: what did not end by itself has failed, with a reason.

    Parameters
    ----------
    outcomes : sequence of TrialOutcome
        Of the round that has just ended.
    finished_round : int or None, default=None
        That round; trials that are planned for a later one already stay so. None is the last.
    """
    reasons = {outcome.trial_id: outcome.reason for outcome in outcomes if outcome.outcome == "failed"}
    settled: list[Trial] = []
    for trial in registry.list_trials(run.model, run.run_id):
        is_over = finished_round is None or trial.round <= finished_round
        if is_over and trial.status not in FINISHED_TRIAL_STATUSES:
            reason = (reasons.get(trial.trial_id) or NO_OUTCOME)[:MAX_REASON_LENGTH]
            registry.update_trial(run.model, run.run_id, trial.trial_id, status="failed", reason=reason)
        settled.append(registry.get_trial(run.model, run.run_id, trial.trial_id))
    return settled


def begin_next_round(run: Run, finished_round: int, metric: Metric, registry: Registry) -> None:
    """Plan the best trials of a round anew with the next round's rows, and eliminate the others.

    Every round's result stays with its trial, so that calling this again, after it was interrupted, ends alike.
    """
    search = run.summary["search"]
    rows = search["rounds"][finished_round]
    results = {}
    for trial in registry.list_trials(run.model, run.run_id):
        result = _result_of(trial, finished_round)
        if result is not None:
            results[trial.trial_id] = (trial, result)
    ranked = sorted(results, key=lambda trial_id: _order(trial_id, results[trial_id][1], metric))
    chosen = ranked[: survivors(len(ranked))]
    # What a model is compared with must be seen on the same rows.
    chosen += [trial_id for trial_id in ranked if results[trial_id][0].candidate == BASELINE and trial_id not in chosen]
    for place, trial_id in enumerate(ranked, start=1):
        trial, result = results[trial_id]
        if trial_id in chosen:
            _promote(trial, result, rows if rows < search["of_rows"] else None, registry)
        elif trial.status != "eliminated":
            seen = search["rounds"][finished_round - 1]
            reason = f"place {place} of {len(ranked)} after round {finished_round}, on {seen:,} rows"
            registry.update_trial(run.model, run.run_id, trial_id, status="eliminated", reason=reason)


def _result_of(trial: Trial, finished_round: int) -> Mapping[str, Any] | None:
    """Return what a trial gave in a round; None when it gave nothing."""
    for earlier in trial.earlier_rounds:
        if earlier["round"] == finished_round:
            return earlier
    if trial.round != finished_round or trial.status not in ("succeeded", "eliminated"):
        return None
    return {
        "round": trial.round,
        "rows": trial.rows,
        "metrics": dict(trial.metrics),
        "duration_seconds": trial.duration_seconds,
    }


def _order(trial_id: str, result: Mapping[str, Any], metric: Metric) -> tuple[bool, float, str]:
    value = result["metrics"].get(metric.name)
    return (value is None, 0.0 if value is None else metric.gain(0.0, value), trial_id)


def _promote(trial: Trial, result: Mapping[str, Any], rows: int | None, registry: Registry) -> None:
    if trial.round > result["round"]:
        return
    registry.update_trial(
        trial.model,
        trial.run_id,
        trial.trial_id,
        status="planned",
        round=trial.round + 1,
        rows=rows,
        earlier_rounds=(*trial.earlier_rounds, result),
        duration_seconds=None,
    )


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
