"""The evaluation document: what was measured in a run, and why the gate decided as it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.contracts import EvaluationVerdict
from millrace.evaluation.champion import Champion
from millrace.evaluation.gate import GateResult
from millrace.evaluation.holdout import Measurement
from millrace.evaluation.leaderboard import Standing
from millrace.registry.entities import Run, Trial
from millrace.training.metric_catalogue import Metric


@dataclass(frozen=True, slots=True)
class Assessment:
    """The winner on the holdout, next to what it is compared with.

    Parameters
    ----------
    measured, baseline : Measurement
        Of the winner and of the trivial baseline.
    champion_measured : Measurement or None
        None when there is no champion, or when it cannot answer the holdout's rows.
    confusion : dict or None
        Counts by true and predicted class; None for regression.
    """

    winner: Trial
    gate: GateResult
    holdout_rows: int
    measured: Measurement
    baseline: Measurement
    champion: Champion | None
    champion_measured: Measurement | None
    confusion: dict[str, Any] | None


def build_document(
    run: Run,
    verdict: EvaluationVerdict,
    *,
    metric: Metric,
    standings: Sequence[Standing],
    assessment: Assessment | None,
    confidence: float,
) -> dict[str, Any]:
    """Return ``evaluation.json`` as plain JSON; without an assessment (every trial failed) the measured parts are null.

    Intervals are percentile bootstrap intervals at ``confidence``; ``low`` and ``high`` are null where the holdout is
    too small for one.
    """
    document: dict[str, Any] = {
        "run_id": run.run_id,
        "model": run.model,
        "decision": verdict.decision,
        "trial_id": verdict.trial_id,
        "candidate": assessment.winner.candidate if assessment else None,
        "reasons": list(verdict.reasons),
        "primary_metric": metric.name,
        "greater_is_better": metric.greater_is_better,
        "confidence": confidence,
        "leaderboard": [standing.to_dict() for standing in standings],
        "holdout": None,
        "baseline": None,
        "champion": None,
        "gate": [],
        "confusion": None,
    }
    if assessment is None:
        return document
    return document | {
        "holdout": {"rows": assessment.holdout_rows, "metrics": assessment.measured.to_dict(confidence)},
        "baseline": {"metrics": dict(assessment.baseline.metrics)},
        "champion": _champion(assessment),
        "gate": [check.to_dict() for check in assessment.gate.checks],
        "confusion": assessment.confusion,
    }


def _champion(assessment: Assessment) -> dict[str, Any] | None:
    champion, measured = assessment.champion, assessment.champion_measured
    if champion is None:
        return None
    return {
        "version": champion.version,
        "metrics": dict(measured.metrics) if measured else None,
        "not_compared": champion.obstacle or None,
    }
