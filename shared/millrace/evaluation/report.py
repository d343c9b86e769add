"""The evaluation document: what was measured in a run, and why the gate decided as it did."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from millrace.contracts import EvaluationVerdict
from millrace.evaluation.assessment import Assessment
from millrace.evaluation.leaderboard import Standing
from millrace.registry.entities import Run
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from millrace.training.metric_catalogue import Metric

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
