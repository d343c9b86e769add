"""Evaluating a run: rank its trials, measure the winner on the holdout, and let the gate decide."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from millrace.contracts import EvaluationRequest, EvaluationVerdict
from millrace.evaluation.assessment import Assessment, assess
from millrace.evaluation.champion import load_champion
from millrace.evaluation.leaderboard import Standing, rank_trials
from millrace.evaluation.report import build_document
from millrace.layout import evaluation_key, prediction_profile_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import Run
from millrace.registry.presentation import to_json
from millrace.training.metric_catalogue import get_metric
from millrace.training.planning import load_schema
from millrace.training.settling import settle_trials


def evaluate_run(
    request: EvaluationRequest,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
    clock: Callable[[], float],
) -> EvaluationVerdict:
    """Decide what becomes of a run, and write the evaluation document that says why.

    Parameters
    ----------
    now : datetime
        For the record.
    clock : callable
        Seconds from any fixed point, monotonic; measures latency and bounds what may take long.

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
        assessment = assess(
            winner, champion, schema, metric, spec, data_store=data_store, model_store=model_store, clock=clock
        )
    verdict = _verdict(standings, assessment)
    document = build_document(
        run,
        verdict,
        schema=schema,
        metric=metric,
        standings=standings,
        assessment=assessment,
        spec=spec,
        evaluated_at=now,
    )
    body = json.dumps(to_json(document), indent=2, allow_nan=False).encode()
    if assessment and assessment.profile:
        profile = json.dumps(assessment.profile.to_dict(), allow_nan=False).encode()
        model_store.put(prediction_profile_key(run.model, run.run_id), profile, "application/json")
    model_store.put(evaluation_key(run.model, run.run_id), body, "application/json")
    registry.update_run(run.model, run.run_id, **_run_changes(run, verdict, document, now))
    return verdict


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
