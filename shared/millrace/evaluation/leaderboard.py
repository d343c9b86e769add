"""The leaderboard of a run: its trials by rank, each compared with the champion.

Ranks come from validation rows. So does the comparison, on those of them that the champion was not trained on: on the
holdout the best of many trials would look better than it is, and the next run would meet rows that had chosen. The gate
decides by the winner alone, on the holdout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.evaluation.champion import MIN_UNSEEN_ROWS, Champion, is_too_certain, load_trained_ids, predict_rows
from millrace.evaluation.holdout import count_non_finite
from millrace.evaluation_results import LeaderboardEntry, TrialsComparison
from millrace.metrics.bootstrap import bootstrap, gain_interval, resamples_for
from millrace.metrics.catalogue import Metric, compute_metrics
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from millrace.training.fitting import HeldOutRows, join_splits
from millrace.training.planning import rank_key

#: Rows that a comparison uses; more are drawn from, since they narrow intervals that only inform.
MAX_COMPARED_ROWS = 20_000
#: Trials that are compared, the best first.
MAX_COMPARED_TRIALS = 20


def rank_trials(trials: Sequence[Trial], metric: Metric) -> tuple[LeaderboardEntry, ...]:
    """Rank trials by their validation metric, best first; of equals, the one planned first, which is the simpler."""
    succeeded = [trial for trial in trials if trial.status == "succeeded"]
    # The refit of the best has its metrics, and comes before it.
    succeeded.sort(key=lambda trial: (not trial.refit_of, rank_key(trial.trial_id, trial.metrics, metric)))
    others = [trial for trial in trials if trial.status != "succeeded"]
    return tuple(
        LeaderboardEntry(
            trial_id=trial.trial_id,
            candidate=trial.candidate,
            status=trial.status,
            metrics=trial.metrics,
            duration_seconds=trial.duration_seconds,
            reason=trial.reason,
            rank=place if place <= len(succeeded) else None,
            parameters=dict(trial.parameters),
        )
        for place, trial in enumerate([*succeeded, *others], start=1)
    )


def compare_trials(
    leaderboard: tuple[LeaderboardEntry, ...],
    champion: Champion,
    read_held_out: Callable[[str], bytes],
    *,
    schema: TableSchema,
    train: PreparedSplit,
    validation: PreparedSplit,
    metric: Metric,
    spec: ModelSpec,
    data_store: ObjectStore,
) -> tuple[tuple[LeaderboardEntry, ...], TrialsComparison]:
    """Return the leaderboard with each trial's gain over the champion, and which rows it was measured on.

    ``read_held_out`` returns a trial's predictions of rows that it was not fitted on, by its id. Where folds ranked the
    trials those are training and validation rows. Gains share their rows and draws; each interval is for itself.
    """
    rows, predictions = _align(_read_all(leaderboard, read_held_out), train, validation)
    found = _find_rows(champion, rows, predictions, seed=spec.seed, data_store=data_store)
    if isinstance(found, str):
        return leaderboard, TrialsComparison(champion.version, not_compared=found)
    gains = _measure_gains(found, schema=schema, metric=metric, spec=spec)
    if isinstance(gains, str):
        return leaderboard, TrialsComparison(champion.version, not_compared=gains)
    entries = tuple(msgspec.structs.replace(entry, **gains.get(entry.trial_id, {})) for entry in leaderboard)
    return entries, TrialsComparison(champion.version, rows=len(found.target))


@dataclass(frozen=True, slots=True)
class _NewRows:
    """Rows that the champion was not trained on, with its predictions, and those of the trials by their ids."""

    target: npt.NDArray[Any]
    champion: npt.NDArray[np.float64]
    trials: Mapping[str, npt.NDArray[np.float64]]


def _find_rows(
    champion: Champion,
    rows: PreparedSplit,
    predictions: Mapping[str, npt.NDArray[np.float64]],
    *,
    seed: int,
    data_store: ObjectStore,
) -> _NewRows | str:
    """Return those of the trials' rows that a comparison uses, or the reason for none."""
    if champion.model is None or champion.manifest is None:
        return champion.obstacle
    if not predictions:
        return "no trial kept its predictions of these rows"
    trained_ids = load_trained_ids(champion.manifest, data_store)
    if trained_ids is None:
        return "its training rows are no longer stored, and these rows may be among them"
    unseen = np.flatnonzero(~np.isin(rows.row_ids, trained_ids))
    if len(unseen) < MIN_UNSEEN_ROWS:
        few = f"all but {len(unseen):,}" if len(unseen) else "all"
        return f"it was trained on {few} of the {len(rows):,} rows that ranked the trials"
    if len(unseen) > MAX_COMPARED_ROWS:
        unseen = np.sort(np.random.default_rng(seed).choice(unseen, MAX_COMPARED_ROWS, replace=False))
    rows = rows.take(unseen)
    predicted = predict_rows(champion, champion.model, rows)
    if count_non_finite(predicted):
        return "one of its predictions is not a number"
    return _NewRows(rows.target, predicted, {name: of_trial[unseen] for name, of_trial in predictions.items()})


def _read_all(leaderboard: Sequence[LeaderboardEntry], read: Callable[[str], bytes]) -> dict[str, HeldOutRows]:
    """Return the held-out rows of the best trials; one whose file is missing or damaged is not compared."""
    held_out = {}
    for entry in [entry for entry in leaderboard if entry.rank][:MAX_COMPARED_TRIALS]:
        try:
            held_out[entry.trial_id] = HeldOutRows.load(read(entry.trial_id))
        except (ArtifactIntegrityError, ArtifactNotFoundError):
            continue
    return held_out


def _align(
    held_out: Mapping[str, HeldOutRows], train: PreparedSplit, validation: PreparedSplit
) -> tuple[PreparedSplit, dict[str, npt.NDArray[np.float64]]]:
    """Return the rows that all trials predicted, and the predictions: of both splits, or of the validation rows alone.

    The validation rows come last. Trials of another sample of the rows are left out.
    """
    # Large splits have no folds, and are not copied.
    if held_out and all(len(one.target) == len(train) + len(validation) for one in held_out.values()):
        both = join_splits(train, validation)
        if all(np.array_equal(one.target, both.target) for one in held_out.values()):
            return both, {name: one.predictions for name, one in held_out.items()}
    last = slice(-len(validation), None)
    return validation, {
        name: one.predictions[last]
        for name, one in held_out.items()
        if np.array_equal(one.target[last], validation.target)
    }


def _measure_gains(
    rows: _NewRows, *, schema: TableSchema, metric: Metric, spec: ModelSpec
) -> dict[str, dict[str, object]] | str:
    """Return the measured gain of each trial, and its interval where there is one; or why there is none at all."""
    target, champion = rows.target, rows.champion
    finite = {name: one for name, one in rows.trials.items() if not count_non_finite(one)}
    measured = {name: compute_metrics(schema.task, target, one) for name, one in finite.items()}
    compared = [name for name, metrics in measured.items() if metric.name in metrics]
    of_champion = compute_metrics(schema.task, target, champion).get(metric.name)
    if of_champion is None or not compared:
        return f"{metric.name} is not defined on the {len(target):,} rows that are new to it"
    statistics = {name: metric.statistic(target, rows.trials[name]) for name in compared}
    statistics[CHAMPION] = metric.statistic(target, champion)
    samples = bootstrap(statistics, len(target), seed=spec.seed, resamples=resamples_for(len(target)))
    gains: dict[str, dict[str, object]] = {}
    for name in compared:
        interval = gain_interval(
            samples[name],
            samples[CHAMPION],
            greater_is_better=metric.greater_is_better,
            confidence=spec.gate.confidence,
        )
        if interval is not None and is_too_certain(interval, metric, rows.trials[name], champion):
            interval = None
        gain = metric.gain(measured[name][metric.name], of_champion)
        gains[name] = {"measured_gain": gain, "gain": interval}
    return gains
