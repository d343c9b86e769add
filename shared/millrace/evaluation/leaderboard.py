"""The leaderboard: what became of every trial, and which one is best on the validation split."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from millrace.registry.entities import Trial
from millrace.training.metric_catalogue import Metric


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
