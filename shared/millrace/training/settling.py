"""Settling trials: a worker that is killed cannot record its own end, so the state machine's word is taken."""

from collections.abc import Sequence

from millrace.contracts import TrialOutcome
from millrace.ports import Registry
from millrace.registry.entities import FINISHED_TRIAL_STATUSES, Run, Trial

NO_OUTCOME = "the worker ended without recording a result"

MAX_REASON_LENGTH = 500


def settle_trials(
    run: Run, outcomes: Sequence[TrialOutcome], registry: Registry, finished_round: int | None = None
) -> list[Trial]:
    """Return the run's trials, none of them open: what did not end by itself has failed, with a reason.

    Parameters
    ----------
    outcomes : sequence of TrialOutcome
        Of the round that has just ended.
    finished_round : int or None, default=None
        That round; trials that are planned for a later one already stay so. None is the last.
    """
    reasons = {outcome.trial_id: outcome.reason for outcome in outcomes if outcome.outcome == "failed"}
    settled: list[Trial] = []
    for trial in registry.list_trials(run.model, run.run_id):
        is_over = finished_round is None or trial.round <= finished_round
        if is_over and trial.status not in FINISHED_TRIAL_STATUSES:
            reason = (reasons.get(trial.trial_id) or NO_OUTCOME)[:MAX_REASON_LENGTH]
            registry.update_trial(run.model, run.run_id, trial.trial_id, status="failed", reason=reason)
        settled.append(registry.get_trial(run.model, run.run_id, trial.trial_id))
    return settled
