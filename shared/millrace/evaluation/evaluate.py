"""Evaluation of a run: rank its trials, measure the winner on the holdout, apply the gate and record the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.conformal import ConformalCalibration
from millrace.contracts import EvaluationRequest, EvaluationVerdict
from millrace.data.dataset_documents import PreparedManifest
from millrace.data.prepared import load_columns, load_split
from millrace.documents import dump
from millrace.entities import Run, Trial
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.evaluation.analysis import AnalyzedWinner, MeasuredWinner, Splits, analyze, profile_predictions
from millrace.evaluation.champion import Champion, compare_with_champion, load_best, load_champion, verify_sha256
from millrace.evaluation.circumstances import HOLDOUT_SUMMARY, find_holdout_use, find_reasons
from millrace.evaluation.gate import GateEvidence, decide
from millrace.evaluation.holdout import Measurement, baseline_predictions, count_non_finite, measure
from millrace.evaluation.leaderboard import compare_trials, rank_trials
from millrace.evaluation.slices import feature_columns
from millrace.evaluation_results import Analysis, BaselineResult, Evaluation, HoldoutResult
from millrace.histograms.outcomes import PredictionProfile
from millrace.layout import confidence_key, evaluation_key, prediction_profile_key, prepared_key, split_key, trial_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.fitting import HeldOutRows
from millrace.training.planning import ensure_no_fault, load_prepared_schema, read_manifest, reconcile_trials
from millrace.training.trial_record import HELD_OUT_NAME, ONNX_NAME, RECORD_NAME, TrialRecord

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
    """Decide about a run's winner, and write the evaluation document; ``clock`` returns monotonic seconds.

    Raises
    ------
    ArtifactIntegrityError
        When the winner's stored bytes are not those that its trial recorded.
    WorkerCrashedError
        When no trial succeeded and at least one worker died: a fault, after which the run's causes are tried again.
    InvalidInputError
        When the spec names a metric that the task does not have, or when no rows were held out.
    """
    run = registry.get_run(request.model, request.run_id)
    trials = reconcile_trials(run, request.trials, registry)
    ensure_no_fault(run, request.trials, trials)
    registry.update_run(run.model, run.run_id, **run.begin("evaluating", now))
    spec, schema = registry.get_spec(run.model), load_prepared_schema(run, data_store)
    metric = get_metric(schema.task, spec.primary_metric)
    leaderboard = rank_trials(trials, metric)
    evaluation = Evaluation(
        run_id=run.run_id,
        model=run.model,
        evaluated_at=now,
        task=schema.task,
        target=schema.target.name,
        classes=schema.class_names,
        decision="reject",
        seed=spec.seed,
        search=run.summary.get("search"),
        reasons=("every trial failed", *(f"{entry.trial_id}: {entry.reason}" for entry in leaderboard)),
        primary_metric=metric.name,
        greater_is_better=metric.greater_is_better,
        confidence=spec.gate.confidence,
        leaderboard=leaderboard,
        gate_spec=spec.gate.model_dump(),
    )
    if leaderboard and leaderboard[0].rank:
        trial = next(trial for trial in trials if trial.trial_id == leaderboard[0].trial_id)
        evaluator = _Evaluator(schema, metric, spec, registry, data_store, model_store, clock)
        evaluation, profile, calibration = evaluator.evaluate(evaluation, trial, trials)
        if profile:
            profile_key = prediction_profile_key(run.model, run.run_id)
            model_store.put(profile_key, profile.write(indent=False), "application/json")
        if calibration:
            body = dump(calibration.to_document())
            model_store.put(confidence_key(run.model, run.run_id), body, "application/json")
    model_store.put(evaluation_key(run.model, run.run_id), evaluation.write(), "application/json")
    registry.update_run(run.model, run.run_id, **_run_changes(run, evaluation, now))
    return EvaluationVerdict(
        decision=evaluation.decision, trial_id=evaluation.trial_id, reasons=list(evaluation.reasons)
    )


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """The evaluation of a winner by a model's spec."""

    schema: TableSchema
    metric: Metric
    spec: ModelSpec
    registry: Registry
    data_store: ObjectStore
    model_store: ObjectStore
    clock: Callable[[], float]

    def evaluate(
        self, evaluation: Evaluation, trial: Trial, trials: Sequence[Trial]
    ) -> tuple[Evaluation, PredictionProfile | None, ConformalCalibration | None]:
        """Measure the winner, the trivial baseline and the champion on the same holdout, and apply the gate.

        ``trials`` are those of the leaderboard. There is neither analysis, profile nor calibration of a model with a
        prediction that is not a number.
        """
        schema, metric, spec, confidence = self.schema, self.metric, self.spec, self.spec.gate.confidence
        champion = load_champion(trial.model, schema, registry=self.registry, model_store=self.model_store)
        splits = self._load_splits(trial)
        target, rows = splits.holdout.target, len(splits.holdout)
        onnx_bytes, record = self._load_model(trial)
        held_out = None
        if HELD_OUT_NAME in trial.artifacts:
            held_out = HeldOutRows.load(self._read_artifact(trial, HELD_OUT_NAME))
        model = OnnxModel.load(onnx_bytes, schema)
        predictions = model.run(splits.holdout.features)
        non_finite = count_non_finite(predictions)
        prepared = read_manifest(trial.model, trial.run_id, self.data_store)
        split = dict(prepared.split)
        run = self.registry.get_run(trial.model, trial.run_id)
        comparison = None
        if champion is not None:
            evaluation = self._compare_trials(evaluation, champion, trials, splits)
            comparison = compare_with_champion(
                champion,
                predictions,
                splits.holdout,
                metric=metric,
                spec=spec,
                split=split,
                data_store=self.data_store,
                best=load_best(trial.model, champion, schema, registry=self.registry, model_store=self.model_store),
            )
            reasons = find_reasons(run, champion, schema, prepared, spec=spec.gate, registry=self.registry)
            latest = self.registry.get_state(trial.model).latest_version
            comparison = msgspec.structs.replace(comparison, reasons=reasons, latest_version=latest)
        holdout_use = find_holdout_use(
            run,
            split.get("fingerprint"),
            splits.holdout.row_ids,
            moves=split.get("by") == "time",
            registry=self.registry,
            data_store=self.data_store,
        )
        measured, baseline = Measurement(), Measurement()
        gain, profile, analyzed = None, None, AnalyzedWinner(Analysis(), [], None)
        if not non_finite:
            models: dict[str, npt.NDArray[Any]] = {
                "model": predictions,
                "baseline": baseline_predictions(schema, splits.train.target, rows),
            }
            measured, baseline = measure(schema, target, models, spec.seed).values()
            gain = measured.gain_over(baseline, metric, confidence)
            analyzed = analyze(
                MeasuredWinner(
                    trial,
                    model,
                    schema,
                    metric,
                    spec,
                    splits,
                    predictions,
                    measured,
                    baseline,
                    self.clock,
                    record,
                    held_out,
                )
            )
            columns = splits.group_columns
            profile = profile_predictions(
                schema,
                predictions,
                target,
                train_target=splits.train.target,
                threshold=analyzed.analysis.threshold.value if analyzed.analysis.threshold else None,
                groups={name: columns[name] for name in spec.sensitive_groups if name in columns},
                columns=feature_columns(schema, splits.holdout.features),
                seed=spec.seed,
            )
        analysis = analyzed.analysis
        importance = analysis.importance
        evidence = GateEvidence(
            task=schema.task,
            primary_metric=metric,
            metrics=measured.metrics,
            baseline_gain=gain,
            champion=comparison,
            model_bytes=len(onnx_bytes),
            parity=record.parity,
            slices=analyzed.slices,
            latency={kind: latency.p95_milliseconds for kind, latency in (analysis.latency or {}).items()},
            non_finite_rows=non_finite,
            only_class=_only_class(schema, target),
            rows=rows,
            decisive=next((column.name for column in importance.columns), None) if importance else None,
            leaks=_leaks(prepared, schema),
            holdout_use=holdout_use,
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
            holdout=HoldoutResult(rows, measured.estimates(confidence, analyzed.others)),
            baseline=BaselineResult(dict(baseline.metrics)),
            champion=comparison,
            best_version=gate.best_version,
            holdout_use=holdout_use,
            gate=gate.checks,
            **msgspec.structs.asdict(analysis),
        )
        return evaluation, profile, analyzed.calibration

    def _compare_trials(
        self, evaluation: Evaluation, champion: Champion, trials: Sequence[Trial], splits: Splits
    ) -> Evaluation:
        by_id = {trial.trial_id: trial for trial in trials}
        leaderboard, comparison = compare_trials(
            evaluation.leaderboard,
            champion,
            lambda trial_id: self._read_artifact(by_id[trial_id], HELD_OUT_NAME),
            schema=self.schema,
            train=splits.train,
            validation=splits.validation,
            metric=self.metric,
            spec=self.spec,
            data_store=self.data_store,
        )
        return msgspec.structs.replace(evaluation, leaderboard=leaderboard, trials_comparison=comparison)

    def _load_splits(self, trial: Trial) -> Splits:
        train, validation, holdout = (
            load_split(self.data_store.get(split_key(trial.model, trial.run_id, name)))
            for name in ("train", "validation", "test")
        )
        if not len(holdout):
            raise InvalidInputError("the test split has no rows, so no model can be evaluated")
        try:
            columns = load_columns(self.data_store.get(prepared_key(trial.model, trial.run_id, HOLDOUT_COLUMNS)))
        except ArtifactNotFoundError:  # prepared by an older release
            columns = {}
        return Splits(train, validation, holdout, columns)

    def _load_model(self, trial: Trial) -> tuple[bytes, TrialRecord]:
        """Return the winner's ONNX file, verified, and its record."""
        record = self.model_store.get(trial_key(trial.model, trial.run_id, trial.trial_id, RECORD_NAME))
        return self._read_artifact(trial, ONNX_NAME), TrialRecord.read(record)

    def _read_artifact(self, trial: Trial, name: str) -> bytes:
        body = self.model_store.get(trial_key(trial.model, trial.run_id, trial.trial_id, name))
        verify_sha256(body, trial.artifacts.get(name, ""), f"trial {trial.trial_id}'s {name}")
        return body


def _leaks(prepared: PreparedManifest, schema: TableSchema) -> list[str]:
    """Return the findings on features that give the target away."""
    features = {column.name for column in schema.features}
    return [
        str(finding["message"])
        for finding in prepared.findings
        if finding["check"] == "leakage" and finding["column"] in features
    ]


def _only_class(schema: TableSchema, target: npt.NDArray[Any]) -> str | None:
    present = np.unique(target)
    return schema.class_names[int(present[0])] if schema.classes and len(present) == 1 else None


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
    if use := evaluation.holdout_use:
        summary[HOLDOUT_SUMMARY] = {"fingerprint": use.fingerprint, "decisions": use.decisions}
    end = {"status": "rejected", "stage": "finished", "finished_at": now} if evaluation.decision == "reject" else {}
    return {"summary": summary, "reasons": evaluation.reasons, **end}
