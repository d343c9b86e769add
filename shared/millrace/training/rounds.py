"""Successive halving: which trials of a round go on to the next, with more rows."""

from collections.abc import Mapping
from typing import Any

from millrace.ports import Registry
from millrace.registry.entities import Run, Trial
from millrace.training.metric_catalogue import Metric
from millrace.training.search_plan import survivors
from millrace.training.search_space import BASELINE


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
