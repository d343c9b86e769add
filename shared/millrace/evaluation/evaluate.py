"""Evaluation of a run: rank its trials, measure the winner on the holdout, apply the gate and record the result."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.contracts import EvaluationRequest, EvaluationVerdict
from millrace.data.prepared import load_columns, load_split
from millrace.entities import Run, Trial
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.evaluation.analysis import MeasuredWinner, Splits, analyze, profile_predictions
from millrace.evaluation.champion import Champion, compare_with_champion, load_champion, verify_sha256
from millrace.evaluation.gate import GateEvidence, SliceEvidence, decide
from millrace.evaluation.holdout import Measurement, baseline_predictions, count_non_finite, measure
from millrace.evaluation.results import (
    Analysis,
    BaselineResult,
    Evaluation,
    HoldoutResult,
    LeaderboardEntry,
)
from millrace.histograms.outcomes import PredictionProfile
from millrace.layout import evaluation_key, prediction_profile_key, prepared_key, split_key, trial_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.planning import load_prepared_schema, rank_key, read_manifest, reconcile_trials
from millrace.training.trial_record import ONNX_NAME, RECORD_NAME, ParityReport, TrialRecord

HOLDOUT_COLUMNS = "holdout_columns.npz"


def evaluate_run(
    request: EvaluationRequest,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
    clock: Callable[[], float],
) -> EvaluationVerdict:
    """Decide about a run's winner, and write the evaluation document.

    Parameters
    ----------
    now : datetime
        For the record.
    clock : callable
        Seconds from any fixed point, monotonic; measures latency and bounds the analysis.

    Raises
    ------
    ArtifactIntegrityError
        When the winner's stored bytes are not those that its trial recorded.
    InvalidInputError
        When the spec names a metric that the task does not have, or when no rows were held out.
    """
    run = registry.get_run(request.model, request.run_id)
    registry.update_run(run.model, run.run_id, stage="evaluating")
    spec = registry.get_spec(run.model)
    schema = load_prepared_schema(run, data_store)
    metric = get_metric(schema.task, spec.primary_metric)
    trials = reconcile_trials(run, request.trials, registry)
    leaderboard = rank_trials(trials, metric)
    evaluation = _without_winner(run, leaderboard, now, schema=schema, metric=metric, spec=spec)
    if leaderboard and leaderboard[0].rank:
        evaluation, profile = evaluate_winner(
            evaluation,
            next(trial for trial in trials if trial.trial_id == leaderboard[0].trial_id),
            load_champion(run.model, schema, registry=registry, model_store=model_store),
            schema=schema,
            metric=metric,
            spec=spec,
            data_store=data_store,
            model_store=model_store,
            clock=clock,
        )
        if profile:
            profile_key = prediction_profile_key(run.model, run.run_id)
            model_store.put(profile_key, profile.write(indent=False), "application/json")
    model_store.put(evaluation_key(run.model, run.run_id), evaluation.write(), "application/json")
    registry.update_run(run.model, run.run_id, **_run_changes(run, evaluation, now))
    return EvaluationVerdict(
        decision=evaluation.decision, trial_id=evaluation.trial_id, reasons=list(evaluation.reasons)
    )


def rank_trials(trials: Sequence[Trial], metric: Metric) -> list[LeaderboardEntry]:
    """Rank trials by their validation metric, best first; of equals, the one planned first, which is the simpler.

    A trial that succeeded but whose metric is not defined ranks after those where it is.
    """

    def entry(trial: Trial, rank: int | None) -> LeaderboardEntry:
        return LeaderboardEntry(
            trial_id=trial.trial_id,
            candidate=trial.candidate,
            status=trial.status,
            metrics=trial.metrics,
            duration_seconds=trial.duration_seconds,
            reason=trial.reason,
            rank=rank,
        )

    succeeded = [trial for trial in trials if trial.status == "succeeded"]
    succeeded.sort(key=lambda trial: rank_key(trial.trial_id, trial.metrics, metric))
    ranked = [entry(trial, rank) for rank, trial in enumerate(succeeded, start=1)]
    return ranked + [entry(trial, None) for trial in trials if trial.status != "succeeded"]


def evaluate_winner(
    evaluation: Evaluation,
    trial: Trial,
    champion: Champion | None,
    *,
    schema: TableSchema,
    metric: Metric,
    spec: ModelSpec,
    data_store: ObjectStore,
    model_store: ObjectStore,
    clock: Callable[[], float],
) -> tuple[Evaluation, PredictionProfile | None]:
    """Measure the winner, the trivial baseline and the champion on the same holdout, and apply the gate.

    There is neither analysis nor profile of a model with a prediction that is not a number.

    Raises
    ------
    ArtifactIntegrityError
        When the winner's stored bytes are not those that its trial recorded.
    InvalidInputError
        When no rows were held out.
    """
    splits = _load_splits(trial, data_store)
    target, rows = splits.holdout.target, len(splits.holdout)
    onnx_bytes, parity = _load_model(trial, model_store)
    model = OnnxModel.load(onnx_bytes, schema)
    predictions = model.run(splits.holdout.features)
    non_finite = count_non_finite(predictions)
    split = _read_split(trial, data_store)
    comparison = None
    if champion:
        comparison = compare_with_champion(
            champion,
            predictions,
            splits.holdout,
            schema=schema,
            metric=metric,
            spec=spec,
            split=split,
            data_store=data_store,
        )
    measured, baseline = Measurement({}, {}), Measurement({}, {})
    gain, analysis, profile = None, Analysis(), None
    slices: list[SliceEvidence] = []
    if not non_finite:
        trivial = baseline_predictions(schema, splits.train.target, rows)
        measured, baseline = measure(schema, target, {"model": predictions, "baseline": trivial}, spec.seed).values()
        gain = measured.gain_over(baseline, metric, spec.gate.confidence)
        winner = MeasuredWinner(trial, model, schema, metric, spec, splits, predictions, measured, baseline, clock)
        analysis, slices = analyze(winner)
        columns = splits.group_columns
        profile = profile_predictions(
            schema,
            predictions,
            target,
            train_target=splits.train.target,
            threshold=analysis.threshold.value if analysis.threshold else None,
            groups={name: columns[name] for name in spec.sensitive_groups if name in columns},
        )
    evidence = GateEvidence(
        task=schema.task,
        primary_metric=metric,
        metrics=measured.metrics,
        baseline_gain=gain,
        champion=comparison,
        model_bytes=len(onnx_bytes),
        parity_passed=parity.passed,
        parity_difference=parity.max_probability_difference,
        slices=slices,
        latency={kind: latency.p95_milliseconds for kind, latency in (analysis.latency or {}).items()},
        non_finite_rows=non_finite,
        only_class=_only_class(schema, target),
    )
    gate = decide(evidence, spec.gate)
    evaluation = msgspec.structs.replace(
        evaluation,
        decision=gate.decision,
        trial_id=trial.trial_id,
        candidate=trial.candidate,
        parameters=dict(trial.parameters),
        reasons=gate.reasons,
        split={**split, "rows": splits.rows},
        model_bytes=len(onnx_bytes),
        holdout=HoldoutResult(rows, measured.estimates(spec.gate.confidence)),
        baseline=BaselineResult(dict(baseline.metrics)),
        champion=comparison,
        gate=gate.checks,
        **msgspec.structs.asdict(analysis),
    )
    return evaluation, profile


def _load_splits(trial: Trial, data_store: ObjectStore) -> Splits:
    train, validation, holdout = (
        load_split(data_store.get(split_key(trial.model, trial.run_id, name)))
        for name in ("train", "validation", "test")
    )
    if not len(holdout):
        raise InvalidInputError("the test split has no rows, so no model can be evaluated")
    try:
        group_columns = load_columns(data_store.get(prepared_key(trial.model, trial.run_id, HOLDOUT_COLUMNS)))
    except ArtifactNotFoundError:  # prepared by an older release
        group_columns = {}
    return Splits(train, validation, holdout, group_columns)


def _load_model(trial: Trial, model_store: ObjectStore) -> tuple[bytes, ParityReport]:
    """Return the winner's ONNX file, verified, and the parity report of its record."""
    body = model_store.get(trial_key(trial.model, trial.run_id, trial.trial_id, ONNX_NAME))
    verify_sha256(body, trial.artifacts.get(ONNX_NAME, ""), f"trial {trial.trial_id}'s {ONNX_NAME}")
    record = model_store.get(trial_key(trial.model, trial.run_id, trial.trial_id, RECORD_NAME))
    return body, TrialRecord.read(record).parity


def _read_split(trial: Trial, data_store: ObjectStore) -> dict[str, Any]:
    try:
        return dict(read_manifest(trial.model, trial.run_id, data_store).split)
    except ArtifactNotFoundError:
        return {}


def _only_class(schema: TableSchema, target: npt.NDArray[Any]) -> str | None:
    if schema.task == "regression":
        return None
    present = np.unique(target)
    return schema.classes[int(present[0])] if len(present) == 1 else None


def _without_winner(
    run: Run,
    leaderboard: Sequence[LeaderboardEntry],
    now: datetime,
    *,
    schema: TableSchema,
    metric: Metric,
    spec: ModelSpec,
) -> Evaluation:
    """Return the evaluation of a run whose trials all failed: it is rejected."""
    return Evaluation(
        run_id=run.run_id,
        model=run.model,
        evaluated_at=now,
        task=schema.task,
        target=schema.target.name,
        classes=schema.classes,
        decision="reject",
        seed=spec.seed,
        search=run.summary.get("search"),
        reasons=("every trial failed", *(f"{entry.trial_id}: {entry.reason}" for entry in leaderboard)),
        primary_metric=metric.name,
        greater_is_better=metric.greater_is_better,
        confidence=spec.gate.confidence,
        leaderboard=tuple(leaderboard),
        gate_spec=spec.gate.model_dump(),
    )


def _run_changes(run: Run, evaluation: Evaluation, now: datetime) -> dict[str, Any]:
    """Return the changes of the run's record; a rejected run ends here."""
    primary = evaluation.holdout.metrics.get(evaluation.primary_metric) if evaluation.holdout else None
    summary = {
        **run.summary,
        "decision": evaluation.decision,
        "winner": evaluation.candidate,
        "trial_id": evaluation.trial_id,
        "primary_metric": evaluation.primary_metric,
        "primary_value": primary.value if primary else None,
    }
    changes: dict[str, Any] = {"summary": summary, "reasons": evaluation.reasons}
    if evaluation.decision == "reject":
        changes |= {"status": "rejected", "stage": "finished", "finished_at": now}
    return changes
