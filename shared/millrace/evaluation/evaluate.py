"""Evaluating a run: rank its trials, measure the winner on the holdout, and let the gate decide."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from millrace.contracts import EvaluationRequest, EvaluationVerdict
from millrace.data.prepared import load_split
from millrace.errors import InvalidInputError
from millrace.evaluation.champion import Champion, load_champion, verify_sha256
from millrace.evaluation.gate import ChampionComparison, GateEvidence, decide
from millrace.evaluation.holdout import Measurement, baseline_predictions, confusion, measure
from millrace.evaluation.leaderboard import Standing, rank_trials
from millrace.evaluation.report import Assessment, build_document
from millrace.layout import evaluation_key, split_key, trial_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import Run, Trial
from millrace.schema import TableSchema
from millrace.serving.onnx_model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.metric_catalogue import Metric, get_metric
from millrace.training.planning import load_schema
from millrace.training.record import ONNX_NAME, RECORD_NAME
from millrace.training.settling import settle_trials


def evaluate_run(
    request: EvaluationRequest,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
) -> EvaluationVerdict:
    """Decide what becomes of a run, and write the evaluation document that says why.

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
    schema = load_schema(run, data_store)
    metric = get_metric(schema.task, spec.primary_metric)
    standings = rank_trials(settle_trials(run, request.trials, registry), metric)
    assessment = None
    if standings and standings[0].rank:
        champion = load_champion(run.model, schema, registry=registry, model_store=model_store)
        winner = standings[0].trial
        assessment = assess(winner, champion, schema, metric, spec, data_store=data_store, model_store=model_store)
    verdict = _verdict(standings, assessment)
    document = build_document(
        run,
        verdict,
        metric=metric,
        standings=standings,
        assessment=assessment,
        confidence=spec.gate.confidence,
    )
    body = json.dumps(document, indent=2, allow_nan=False).encode()
    model_store.put(evaluation_key(run.model, run.run_id), body, "application/json")
    registry.update_run(run.model, run.run_id, **_run_changes(run, verdict, document, now))
    return verdict


def assess(
    winner: Trial,
    champion: Champion | None,
    schema: TableSchema,
    metric: Metric,
    spec: ModelSpec,
    *,
    data_store: ObjectStore,
    model_store: ObjectStore,
) -> Assessment:
    """Measure the winner, the trivial baseline and the champion on the same holdout, and ask the gate."""
    train = load_split(data_store.get(split_key(winner.model, winner.run_id, "train")))
    holdout = load_split(data_store.get(split_key(winner.model, winner.run_id, "test")))
    if not len(holdout):
        raise InvalidInputError("the test split has no rows, so nothing can be said about a model")
    onnx_bytes, parity = _load_winner(winner, model_store)
    predictions = OnnxModel.load(onnx_bytes, schema).run(holdout.features)
    measured = measure(schema, holdout, predictions, spec.seed)
    baseline = measure(schema, holdout, baseline_predictions(schema, train.target, len(holdout)), spec.seed)
    champion_measured = None
    if champion and champion.model:
        champion_measured = measure(schema, holdout, champion.model.run(holdout.features), spec.seed)
    evidence = GateEvidence(
        task=schema.task,
        primary_metric=metric,
        metrics=measured.metrics,
        baseline_gain=measured.gain_over(baseline, metric, spec.gate.confidence),
        champion=_compare(measured, champion, champion_measured, metric, spec.gate.confidence),
        model_bytes=len(onnx_bytes),
        parity_passed=parity["passed"],
        parity_difference=parity["max_probability_difference"],
    )
    return Assessment(
        winner=winner,
        gate=decide(evidence, spec.gate),
        holdout_rows=len(holdout),
        measured=measured,
        baseline=baseline,
        champion=champion,
        champion_measured=champion_measured,
        confusion=confusion(schema, holdout.target, predictions),
    )


def _load_winner(winner: Trial, model_store: ObjectStore) -> tuple[bytes, Mapping[str, Any]]:
    """Return the winner's ONNX file, verified, and the parity its record states."""
    body = model_store.get(trial_key(winner.model, winner.run_id, winner.trial_id, ONNX_NAME))
    verify_sha256(body, winner.artifacts.get(ONNX_NAME, ""), f"trial {winner.trial_id}'s {ONNX_NAME}")
    record = json.loads(model_store.get(trial_key(winner.model, winner.run_id, winner.trial_id, RECORD_NAME)))
    parity: Mapping[str, Any] = record["parity"]
    return body, parity


def _compare(
    measured: Measurement,
    champion: Champion | None,
    champion_measured: Measurement | None,
    metric: Metric,
    confidence: float,
) -> ChampionComparison | None:
    if champion is None:
        return None
    if champion_measured is None:
        return ChampionComparison(champion.version, None, champion.obstacle, champion.schema_changed)
    gain = measured.gain_over(champion_measured, metric, confidence)
    obstacle = "" if gain else f"{metric.name} is not defined on it"
    return ChampionComparison(champion.version, gain, obstacle)


def _verdict(standings: Sequence[Standing], assessment: Assessment | None) -> EvaluationVerdict:
    if assessment is None:
        reasons = [f"{standing.trial.trial_id}: {standing.trial.reason}" for standing in standings]
        return EvaluationVerdict(decision="reject", reasons=["every trial failed", *reasons])
    gate = assessment.gate
    return EvaluationVerdict(decision=gate.decision, trial_id=assessment.winner.trial_id, reasons=list(gate.reasons))


def _run_changes(run: Run, verdict: EvaluationVerdict, document: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return what to record on the run; a rejected one ends here."""
    holdout = document["holdout"]
    primary = holdout["metrics"].get(document["primary_metric"]) if holdout else None
    summary = {
        **run.summary,
        "decision": verdict.decision,
        "winner": document["candidate"],
        "trial_id": verdict.trial_id,
        "primary_metric": document["primary_metric"],
        "primary_value": primary["value"] if primary else None,
    }
    changes: dict[str, Any] = {"summary": summary, "reasons": tuple(verdict.reasons)}
    if verdict.decision == "reject":
        changes |= {"status": "rejected", "stage": "finished", "finished_at": now}
    return changes
