"""Whether an automatic cause may start a run: what the spec allows, how often, and how soon after another.

Uploads and people are always followed: data that was uploaded would otherwise stay outside, and a person has seen
what there is to see. Their runs count in the budget of the others.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from millrace.registry.entities import Cause, CauseKind, Run
from millrace.spec.retraining import RetrainingSpec

_ALWAYS: frozenset[CauseKind] = frozenset({"upload", "manual"})
#: What monitoring finds: it shows in every window until a run has answered it.
_FINDINGS: frozenset[CauseKind] = frozenset({"drift", "quality", "staleness", "latency"})
_DAY = timedelta(days=1)


def refuse(cause: Cause, spec: RetrainingSpec, runs: Sequence[Run], now: datetime) -> str | None:
    """Return why a cause may start nothing, in words; None when it may.

    Parameters
    ----------
    runs : sequence of Run
        The model's newest, the newest first: at least ``spec.runs_per_day``.
    """
    if cause.kind in _ALWAYS:
        return None
    if cause.kind not in spec.causes:
        return f"the spec's retraining.causes leave out {cause.kind}"
    cooldown = timedelta(hours=spec.cooldown_hours)
    if cause.kind in _FINDINGS and runs and now - runs[0].requested_at < cooldown:
        since, until = runs[0].requested_at, runs[0].requested_at + cooldown
        return (
            f"run {runs[0].run_id} was asked for at {since:%Y-%m-%d %H:%M} UTC, and retraining.cooldown_hours last "
            f"until {until:%Y-%m-%d %H:%M}"
        )
    recent = sum(now - run.requested_at < _DAY for run in runs)
    if recent >= spec.runs_per_day:
        return f"{recent} runs were asked for in the last 24 hours, and retraining.runs_per_day is {spec.runs_per_day}"
    return None


def answered_by_runs_since(cause: Cause, spec: RetrainingSpec, now: datetime) -> datetime | None:
    """Return since when an active run must have been asked for to answer the cause too; None when none does.

    Two findings of one window arrive at the same moment, each before the other's run can be seen: the claim, which
    is atomic, decides between them by this.
    """
    if cause.kind not in _FINDINGS or not spec.cooldown_hours:
        return None
    return now - timedelta(hours=spec.cooldown_hours)
