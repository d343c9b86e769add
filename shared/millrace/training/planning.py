"""Planning: the trials of a run, and after each round of successive halving those that continue."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from millrace.contracts import (
    Lane,
    LoggedFile,
    LoggedModelCheck,
    PlanningRequest,
    TrainingPlan,
    TrialOutcome,
    TrialPointer,
)
from millrace.data.dataset_documents import PreparedManifest
from millrace.documents import to_plain
from millrace.entities import FINISHED_TRIAL_STATUSES, LoggedModel, Run, Trial
from millrace.errors import InvalidInputError, WorkerCrashedError
from millrace.layout import prepared_key, trial_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from millrace.training.search_plan import (
    DEFAULT_TRIALS,
    DEFAULT_TRIALS_IN_ROUNDS,
    SearchPlan,
    TrainingCapacity,
    draw_trials,
    encoded_width,
    folds_for,
    rounds_for,
    rows_of_round,
    survivors,
)
from millrace.training.search_space import BASELINE, SearchSpace, override_search_space, select_search_spaces
from millrace.training.trial_record import LOGGED, ONNX_NAME

NO_OUTCOME = "the worker ended without recording a result"
MAX_REASON_LENGTH = 500
#: The trial of a run that evaluates a model of a user; policies of the template name it.
LOGGED_TRIAL = f"01-{LOGGED}"
#: Files of a logged model that its check may read: their addresses have to fit a step's input.
MAX_LOGGED_FILES = 50


def load_prepared_schema(run: Run, data_store: ObjectStore) -> TableSchema:
    """Read the schema that the run's data was prepared under; raises ``ArtifactNotFoundError``."""
    return TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))


def read_manifest(model: str, run_id: str, data_store: ObjectStore) -> PreparedManifest:
    """Read the manifest of a run's prepared data; raises ``ArtifactNotFoundError``."""
    return PreparedManifest.read(data_store.get(prepared_key(model, run_id, "manifest.json")))


def plan_run(
    request: PlanningRequest,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    capacity: TrainingCapacity,
    now: datetime,
) -> TrainingPlan:
    """Record the trials of a run, or after a round those that continue, and return pointers; idempotent.

    Nothing is searched by a run that evaluates a model which a user logged.

    Raises
    ------
    InvalidInputError
        When the spec names a candidate, a parameter or a metric that the task does not have, or when there is more
        data than fits and the stack does not train on samples.
    WorkerCrashedError
        When no trial of the last round succeeded and at least one worker died.
    """
    run = registry.get_run(request.model, request.run_id)
    if run.logged_model:
        spec = registry.get_spec(run.model)
        return plan_logged_model(
            run, run.logged_model, spec, registry=registry, data_store=data_store, model_store=model_store, now=now
        )
    schema = load_prepared_schema(run, data_store)
    if request.finished_round:
        spec = registry.get_spec(run.model)
        trials = reconcile_trials(run, request.trials, registry, request.finished_round)
        metric, search = get_metric(schema.task, spec.primary_metric), SearchPlan.of(run)
        if search and request.finished_round >= len(search.rounds):
            ensure_no_fault(run, request.trials, trials)
            plan_refit(run, request.finished_round, metric, registry)
        else:
            begin_next_round(run, request.finished_round, metric, registry)
        return _pointers(run, registry, request.finished_round + 1)
    if SearchPlan.of(run) is None:
        registry.update_run(run.model, run.run_id, **run.begin("planning", now))
        record = registry.get_spec_record(run.model)
        prepared = read_manifest(run.model, run.run_id, data_store)
        search, trials = plan_search(
            run, schema, record.spec, prepared=prepared, capacity=capacity, now=now, spec_revision=record.revision
        )
        registry.put_trials(trials)
        summary = {**run.summary, "search": to_plain(search)}
        registry.update_run(run.model, run.run_id, stage="training", summary=summary)
    return _pointers(registry.get_run(run.model, run.run_id), registry, 1)


def plan_search(
    run: Run,
    schema: TableSchema,
    spec: ModelSpec,
    *,
    prepared: PreparedManifest,
    capacity: TrainingCapacity,
    now: datetime,
    spec_revision: int = 0,
) -> tuple[SearchPlan, list[Trial]]:
    """Return the plan of a search and its first round's trials, without side effects."""
    _check_metrics(schema, spec)
    wanted = spec.training
    rows, why_sampled = _training_rows(schema, spec, prepared, capacity)
    fitting, left_out = _fitting_spaces(select_search_spaces(schema.task, spec.candidates), spec, rows)
    spaces = override_search_space(fitting, wanted.parameters)
    why_not_refitted = _why_not_refitted(schema, spec, prepared, capacity, why_sampled)
    rounds = rounds_for(rows, wanted.rounds)
    both = prepared.rows["train"] + prepared.rows["validation"]
    folds, why_folds = folds_for(both, prepared.rarest_class_rows, spec.split.by, wanted.folds)
    if rounds > 1:
        folds, why_folds = 1, "there are several rounds, and enough rows to rank by"
    count = wanted.trials or (DEFAULT_TRIALS if rounds == 1 else DEFAULT_TRIALS_IN_ROUNDS)
    planned = draw_trials(spaces, count, seed=spec.seed, classes=len(schema.classes), rows=rows)
    round_rows = tuple(rows_of_round(rows, number, rounds) for number in range(1, rounds + 1))
    search = SearchPlan(
        seed=spec.seed,
        trials=len(planned),
        rows=rows,
        of_rows=prepared.rows["train"],
        why_sampled=why_sampled,
        rounds=round_rows,
        folds=folds,
        why_folds=why_folds,
        left_out=left_out,
        deadline=(now + timedelta(seconds=wanted.max_seconds)).isoformat() if wanted.max_seconds else None,
        max_seconds=wanted.max_seconds,
        max_cost_usd=wanted.max_cost_usd,
        lanes=capacity.lanes(wanted.max_concurrency, len(planned)),
        memory_mb=capacity.memory_mb,
        spec_revision=spec_revision,
        refit=not why_not_refitted,
        why_not_refitted=why_not_refitted,
    )
    trials = [
        Trial(
            model=run.model,
            run_id=run.run_id,
            trial_id=f"{number:02d}-{candidate}",
            candidate=candidate,
            parameters=parameters,
            seed=spec.seed,
            rows=round_rows[0] if round_rows[0] < search.of_rows else None,
            folds=folds,
            calibrate=wanted.calibrate == "auto" and schema.task != "regression",
        )
        for number, (candidate, parameters) in enumerate(planned, start=1)
    ]
    return search, trials


def _check_metrics(schema: TableSchema, spec: ModelSpec) -> None:
    """Check every metric that the spec names, before anything is fitted."""
    get_metric(schema.task, spec.primary_metric)
    floors = {"gate.floors": spec.gate.floors, "gate.slice_floors": spec.gate.slice_floors} | {
        f"evaluation.slices.{position}.floors": declared.floors
        for position, declared in enumerate(spec.evaluation.slices)
    }
    for field, names in floors.items():
        for name in names:
            get_metric(schema.task, name, field=f"{field}.{name}")


def _training_rows(
    schema: TableSchema, spec: ModelSpec, prepared: PreparedManifest, capacity: TrainingCapacity
) -> tuple[int, str]:
    """Return the number of training rows, never more than a function can hold, and why not all are used."""
    rows, most = prepared.rows["train"], spec.training.max_rows
    fitting = capacity.max_rows(prepared, _encoded_width(schema, rows))
    if rows > fitting and capacity.large_data == "refuse":
        raise InvalidInputError(
            f"{rows:,} training rows do not fit into functions of {capacity.memory_mb:,} MB, which hold"
            f" about {fitting:,}; deploy with a larger TrainingMemorySize, or with LargeData=sample"
        )
    if most is not None and most < min(rows, fitting):
        return most, f"the spec trains on at most {most:,} rows"
    if rows > fitting:
        return fitting, f"functions of {capacity.memory_mb:,} MB hold about {fitting:,} rows of this table"
    return rows, ""


def _encoded_width(schema: TableSchema, rows: int) -> int:
    return encoded_width(len(schema.number_names), len(schema.string_names), rows)


def _why_not_refitted(
    schema: TableSchema, spec: ModelSpec, prepared: PreparedManifest, capacity: TrainingCapacity, why_sampled: str
) -> str:
    """Return the reason why the winner is not fitted on training and validation rows; empty where it is."""
    if spec.training.refit == "never":
        return "the spec says so"
    if why_sampled:
        return f"it would have no more rows: {why_sampled}"
    both = prepared.rows["train"] + prepared.rows["validation"]
    fitting = capacity.max_rows(prepared, _encoded_width(schema, both))
    if both > fitting:
        return f"functions of {capacity.memory_mb:,} MB do not hold training and validation rows together"
    return ""


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


def plan_logged_model(
    run: Run,
    logged: LoggedModel,
    spec: ModelSpec,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
) -> TrainingPlan:
    """Record the one trial of a run that evaluates a model of a user; return its pointer with the check. Idempotent.

    The check runs in a function without rights (:mod:`millrace.proposals.check`): it reads and writes by addresses that
    are signed here, each good for one object and one hour.
    """
    known = {trial.trial_id for trial in registry.list_trials(run.model, run.run_id)}
    if LOGGED_TRIAL not in known:
        parameters = {
            "source": logged.source,
            "mlflow_run_id": logged.mlflow_run_id,
            "mlflow_model_id": logged.mlflow_model_id,
            "proposed_by": logged.proposed_by,
        }
        trial = Trial(
            run.model,
            run.run_id,
            LOGGED_TRIAL,
            LOGGED,
            {name: one for name, one in parameters.items() if one},
            spec.seed,
        )
        registry.put_trials([trial])
        registry.update_run(run.model, run.run_id, **run.begin("training", now))
    files = [
        LoggedFile(name=name, size=listed.size, url=model_store.sign_read(listed.key))
        for listed in model_store.list(logged.prefix)
        if "/" not in (name := listed.key.removeprefix(logged.prefix))
    ]
    check = LoggedModelCheck(
        files=files[:MAX_LOGGED_FILES],
        more_files=len(files[MAX_LOGGED_FILES:]),
        schema_url=data_store.sign_read(prepared_key(run.model, run.run_id, "schema.json")),
        target_url=model_store.sign_write(trial_key(run.model, run.run_id, LOGGED_TRIAL, ONNX_NAME)),
    )
    pointer = TrialPointer(model=run.model, run_id=run.run_id, trial_id=LOGGED_TRIAL, kind="logged", check=check)
    return TrainingPlan(round=1, last_round=True, lanes=[Lane(trials=[pointer])])


def _pointers(run: Run, registry: Registry, round_number: int) -> TrainingPlan:
    """Deal a round's trials to lanes, so that each has some of every candidate."""
    search = SearchPlan.of(run)
    assert search is not None  # noqa: S101  # planned above
    pointers = [
        TrialPointer(model=run.model, run_id=run.run_id, trial_id=trial.trial_id, round=round_number)
        for trial in registry.list_trials(run.model, run.run_id)
        if trial.round == round_number
    ]
    lanes = min(search.lanes, len(pointers))
    return TrainingPlan(
        round=round_number,
        last_round=round_number >= search.last_round,
        lanes=[Lane(trials=pointers[position::lanes]) for position in range(lanes)],
    )


def reconcile_trials(
    run: Run, outcomes: Sequence[TrialOutcome], registry: Registry, finished_round: int | None = None
) -> list[Trial]:
    """Return the run's trials, with those that did not finish recorded as failed."""
    reasons = {outcome.trial_id: outcome.reason for outcome in outcomes if outcome.outcome in ("failed", "crashed")}
    reconciled: list[Trial] = []
    for trial in registry.list_trials(run.model, run.run_id):
        is_over = finished_round is None or trial.round <= finished_round
        if is_over and trial.status not in FINISHED_TRIAL_STATUSES:
            reason = (reasons.get(trial.trial_id) or NO_OUTCOME)[:MAX_REASON_LENGTH]
            registry.update_trial(run.model, run.run_id, trial.trial_id, status="failed", reason=reason)
        reconciled.append(registry.get_trial(run.model, run.run_id, trial.trial_id))
    return reconciled


def begin_next_round(run: Run, finished_round: int, metric: Metric, registry: Registry) -> None:
    """Plan the best trials of a round with the next round's rows, and eliminate the others.

    Every round's result stays with its trial, so a repeated call after an interruption has the same result.
    """
    search = SearchPlan.of(run)
    assert search is not None  # noqa: S101  # a round has been planned
    rows = search.rounds[finished_round]
    results = {}
    for trial in registry.list_trials(run.model, run.run_id):
        result = _result_of(trial, finished_round)
        if result is not None:
            results[trial.trial_id] = (trial, result)
    ranked = sorted(results, key=lambda trial_id: rank_key(trial_id, results[trial_id][1]["metrics"], metric))
    chosen = ranked[: survivors(len(ranked))]
    # The baseline must be measured on the same rows as the models that are compared with it.
    chosen += [trial_id for trial_id in ranked if results[trial_id][0].candidate == BASELINE and trial_id not in chosen]
    for place, trial_id in enumerate(ranked, start=1):
        trial, result = results[trial_id]
        if trial_id in chosen:
            if trial.round == finished_round:
                registry.update_trial(
                    run.model,
                    run.run_id,
                    trial_id,
                    status="planned",
                    round=trial.round + 1,
                    rows=rows if rows < search.of_rows else None,
                    earlier_rounds=(*trial.earlier_rounds, result),
                    duration_seconds=None,
                    started_at=None,
                )
        elif trial.status != "eliminated":
            seen = search.rounds[finished_round - 1]
            reason = f"place {place} of {len(ranked)} after round {finished_round}, on {seen:,} rows"
            registry.update_trial(run.model, run.run_id, trial_id, status="eliminated", reason=reason)


def ensure_no_fault(run: Run, outcomes: Sequence[TrialOutcome], trials: Sequence[Trial]) -> None:
    """Raise ``WorkerCrashedError`` when no trial has a result and a worker died: a fault, not a rejection."""
    if any(outcome.outcome == "crashed" for outcome in outcomes) and all(
        trial.status != "succeeded" for trial in trials
    ):
        raise WorkerCrashedError(f"no trial of run {run.run_id} has a result: workers died or ran out of time")


def plan_refit(run: Run, finished_round: int, metric: Metric, registry: Registry) -> None:
    """Plan one trial that fits the winner's recipe on training and validation rows; none where no trial succeeded.

    The winner stays as it is: it is what the run has where the refit fails, or no budget is left for it.
    """
    trials = registry.list_trials(run.model, run.run_id)
    succeeded = [trial for trial in trials if trial.status == "succeeded" and not trial.refit_of]
    if not succeeded or any(trial.refit_of for trial in trials):
        return
    best = min(succeeded, key=lambda trial: rank_key(trial.trial_id, trial.metrics, metric))
    refit = Trial(
        model=run.model,
        run_id=run.run_id,
        trial_id=f"{len(trials) + 1:02d}-{best.candidate}-refitted",
        candidate=best.candidate,
        parameters=best.parameters,
        seed=best.seed,
        round=finished_round + 1,
        folds=best.folds,
        calibrate=best.calibrate,
        refit_of=(best.trial_id,),
    )
    registry.put_trials([refit])


def _result_of(trial: Trial, finished_round: int) -> Mapping[str, Any] | None:
    """Return a trial's result in a round; None when it has none."""
    for earlier in trial.earlier_rounds:
        if earlier["round"] == finished_round:
            return earlier
    if trial.round != finished_round or trial.status not in ("succeeded", "eliminated"):
        return None
    known = {name: getattr(trial, name) for name in ("round", "rows", "duration_seconds", "started_at")}
    return {**known, "metrics": dict(trial.metrics)}


def rank_key(trial_id: str, metrics: Mapping[str, float], metric: Metric) -> tuple[bool, float, str]:
    """Return the sort key of a trial, best first; one whose metric is not defined comes last."""
    value = metrics.get(metric.name)
    return (value is None, 0.0 if value is None else metric.gain(0.0, value), trial_id)
