"""Evaluating a run: rank its trials, measure the winner on the holdout, and let the gate decide."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.contracts import EvaluationRequest, EvaluationVerdict
from millrace.documents import to_plain
from millrace.entities import Run, Trial
from millrace.evaluation.assessment import Assessment, assess
from millrace.evaluation.champion import load_champion
from millrace.layout import evaluation_key, prediction_profile_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from millrace.training.planning import load_schema, settle_trials


@dataclass(frozen=True, slots=True)
class Standing:
    """A trial and its rank; 1 is best, None is one that failed, or did not come to the end."""

    trial: Trial
    rank: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        trial = self.trial
        return {
            "trial_id": trial.trial_id,
            "candidate": trial.candidate,
            "status": trial.status,
            "metrics": dict(trial.metrics),
            "duration_seconds": trial.duration_seconds,
            "reason": trial.reason,
            "rank": self.rank,
        }


def rank_trials(trials: Sequence[Trial], metric: Metric) -> list[Standing]:
    """Rank trials by their validation metric, best first; of equals, the one planned first, which is the simpler.

    A trial that succeeded but whose metric is not defined comes after those where it is.
    """

    def order(trial: Trial) -> tuple[bool, float, str]:
        value = trial.metrics.get(metric.name)
        return (value is None, 0.0 if value is None else metric.gain(0.0, value), trial.trial_id)

    succeeded = sorted((trial for trial in trials if trial.status == "succeeded"), key=order)
    failed = [Standing(trial, None) for trial in trials if trial.status != "succeeded"]
    return [Standing(trial, rank) for rank, trial in enumerate(succeeded, start=1)] + failed


#: Raised when a field of the document changes its meaning.
EVALUATION_VERSION = 2

#: What the examination says, null without one.
_EXAMINED = (
    "threshold",
    "confusion",
    "curves",
    "residuals",
    "slices",
    "fairness",
    "importance",
    "latency",
    "fit",
    "learning_curve",
)


def build_document(
    run: Run,
    verdict: EvaluationVerdict,
    *,
    schema: TableSchema,
    metric: Metric,
    standings: Sequence[Standing],
    assessment: Assessment | None,
    spec: ModelSpec,
    evaluated_at: datetime,
) -> dict[str, Any]:
    """Return ``evaluation.json``; without an assessment (every trial failed) the measured parts are null.

    Intervals are percentile bootstrap intervals at ``confidence``; ``low`` and ``high`` are null where the holdout is
    too small for one.
    """
    confidence = spec.gate.confidence
    document: dict[str, Any] = {
        "evaluation_version": EVALUATION_VERSION,
        "run_id": run.run_id,
        "model": run.model,
        "evaluated_at": evaluated_at,
        "task": schema.task,
        "target": schema.target.name,
        "classes": list(schema.classes),
        "decision": verdict.decision,
        "trial_id": verdict.trial_id,
        "candidate": assessment.winner.candidate if assessment else None,
        "parameters": dict(assessment.winner.parameters) if assessment else None,
        "seed": spec.seed,
        "search": run.summary.get("search"),
        "reasons": list(verdict.reasons),
        "primary_metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "confidence": confidence,
        "leaderboard": [standing.to_dict() for standing in standings],
        "split": None,
        "model_bytes": None,
        "holdout": None,
        "baseline": None,
        "champion": None,
        "gate": [],
        "gate_spec": spec.gate.model_dump(),
        **dict.fromkeys(_EXAMINED),
    }
    if assessment is None:
        return document
    splits = assessment.splits
    rows = {"train": len(splits.train), "validation": len(splits.validation), "holdout": len(splits.holdout)}
    return document | {
        "split": {**assessment.split, "rows": rows},
        "model_bytes": assessment.model_bytes,
        "holdout": {"rows": len(splits.holdout), "metrics": assessment.measured.to_dict(confidence)},
        "baseline": {"metrics": dict(assessment.baseline.metrics)},
        "champion": _champion(assessment),
        "gate": [check.to_dict() for check in assessment.gate.checks],
        **(assessment.examination.document if assessment.examination else {}),
    }


def _champion(assessment: Assessment) -> dict[str, Any] | None:
    """Return what the challenger was compared with; registration promotes only over that very version."""
    result = assessment.champion
    if result is None:
        return None
    return {
        "version": result.champion.version,
        "metrics": dict(result.measured.metrics) if result.measured else None,
        "not_compared": result.obstacle or None,
        "rows": result.rows,
        "gain": {"low": result.gain.low, "high": result.gain.high} if result.gain else None,
        "note": result.overlap.note or None,
        "may_have_seen_rows": result.overlap.biased,
    }


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
    body = json.dumps(to_plain(document), indent=2, allow_nan=False).encode()
    if assessment and assessment.profile:
        profile = assessment.profile.write(indent=False)
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
