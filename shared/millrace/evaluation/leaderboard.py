"""The leaderboard: what became of every trial, and which one is best on the validation split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.contracts import TrialOutcome
from millrace.ports import Registry
from millrace.registry.entities import Run, Trial
from millrace.training.metric_catalogue import Metric

NO_OUTCOME = "the worker ended without recording a result"

MAX_REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """A trial and its rank; 1 is best, None is a trial that failed."""

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


def settle_trials(run: Run, outcomes: Sequence[TrialOutcome], registry: Registry) -> list[Trial]:
    """Return the run's trials, none of them open: what did not succeed has failed, with a reason.

    A worker that is killed cannot record its own end; its trial still says ``running``, and the state machine hands
    in the outcome it caught.
    """
    reasons = {outcome.trial_id: outcome.reason for outcome in outcomes if outcome.outcome == "failed"}
    settled: list[Trial] = []
    for trial in registry.list_trials(run.model, run.run_id):
        if trial.status not in ("succeeded", "failed"):
            reason = (reasons.get(trial.trial_id) or NO_OUTCOME)[:MAX_REASON_LENGTH]
            registry.update_trial(run.model, run.run_id, trial.trial_id, status="failed", reason=reason)
        settled.append(registry.get_trial(run.model, run.run_id, trial.trial_id))
    return settled


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
