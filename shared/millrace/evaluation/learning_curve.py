"""The learning curve: the winner's recipe fitted on shares of the rows, to tell whether more rows would help."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.errors import MillraceError
from millrace.metrics.catalogue import Metric
from millrace.metrics.scores import compute_metrics
from millrace.schema import TableSchema
from millrace.training.candidates import get_candidate
from millrace.training.export import predict_estimator
from millrace.training.fitting import MAX_THREADS
from millrace.training.preprocessing import FeatureTable

#: Share of the gain over the baseline that may get lost between training and holdout before it is called overfitting.
OVERFIT_SHARE = 0.25
#: Share of what a perfect model would gain that must be gained on the training split, else it is called underfitting.
UNDERFIT_SHARE = 0.1
#: What a perfect model reaches.
PERFECT = {
    "roc_auc": 1.0,
    "roc_auc_ovr": 1.0,
    "pr_auc": 1.0,
    "accuracy": 1.0,
    "f1": 1.0,
    "macro_f1": 1.0,
    "r2": 1.0,
}


@dataclass(frozen=True, slots=True)
class Fit:
    """How much of the gain over the trivial baseline survives.

    Parameters
    ----------
    verdict : {'sound', 'overfit', 'underfit', 'unknown'}
        In a word.
    lost_share : float or None
        Of the training split's gain over the baseline, what is gone on the holdout.
    explanation : str
        In a sentence.
    """

    verdict: str
    lost_share: float | None
    explanation: str


def diagnose(metric: Metric, by_split: Mapping[str, Mapping[str, float]], baseline: Mapping[str, float]) -> Fit:
    """Compare a metric on the training, validation and holdout rows, measured from the trivial baseline's.

    Parameters
    ----------
    by_split : mapping of str to (mapping of str to float)
        Metrics on ``train``, ``validation`` and ``holdout``.
    baseline : mapping of str to float
        The baseline's metrics on the holdout.
    """
    values = [by_split.get(name, {}).get(metric.name) for name in ("train", "validation", "holdout")]
    trivial = baseline.get(metric.name)
    if trivial is None or any(value is None for value in values):
        return Fit("unknown", None, f"{metric.name} is not defined on every split, so nothing is concluded.")
    train, validation, holdout = (float(value) for value in values if value is not None)
    gained, kept = metric.gain(train, trivial), metric.gain(holdout, trivial)
    possible = metric.gain(PERFECT.get(metric.name, 0.0), trivial)
    told = f"{metric.name} is {train:.4g} in training, {validation:.4g} in validation and {holdout:.4g} on the holdout"
    if gained <= 0 or (possible > 0 and gained < UNDERFIT_SHARE * possible):
        return Fit(
            "underfit",
            None,
            f"{told}: even on its own training rows the model gains little over the trivial baseline ({trivial:.4g}). "
            "The features say little about the target, or the candidates are too simple.",
        )
    lost = 1 - kept / gained
    if lost > OVERFIT_SHARE:
        return Fit(
            "overfit",
            lost,
            f"{told}: {lost:.0%} of what it gains over the trivial baseline in training is gone on new rows. "
            "More rows, fewer features or simpler candidates would help.",
        )
    return Fit("sound", lost, f"{told}: what it learnt holds on new rows.")


def fit_document(fit: Fit, by_split: Mapping[str, Mapping[str, float]], rows: Mapping[str, int]) -> dict[str, Any]:
    """Return plain JSON."""
    return {
        "verdict": fit.verdict,
        "lost_share": fit.lost_share,
        "explanation": fit.explanation,
        "splits": {name: {"rows": rows[name], "metrics": dict(metrics)} for name, metrics in by_split.items()},
    }


def refit(
    trial: Trial, schema: TableSchema, train: PreparedSplit, splits: list[PreparedSplit]
) -> list[Mapping[str, float]]:
    """Fit a trial's recipe on ``train`` and measure it on each of ``splits``.

    The estimator itself is measured, without export: parity was proved for the trial.
    """
    pipeline = get_candidate(trial.candidate, schema.task).build(
        schema.task, train.features, trial.parameters, trial.seed
    )
    with threadpool_limits(MAX_THREADS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trial's record has the warnings of fitting
        pipeline.fit(FeatureTable(train.features), train.target)
        return [
            compute_metrics(schema.task, split.target, predict_estimator(pipeline, split.features, schema.task))
            for split in splits
        ]


#: Shares of the training rows, the smallest first; the whole is the winner itself.
SHARES = (0.1, 0.25, 0.5)
MIN_ROWS = 50
#: Rows of the training split on which a fit is measured, too.
MAX_TRAIN_ROWS = 5_000

#: From a trial, a schema, training rows and a list of splits to the model's metrics on each.
Refit = Callable[[Trial, TableSchema, PreparedSplit, list[PreparedSplit]], list[Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The primary metric against the number of training rows.

    Parameters
    ----------
    points : tuple of (rows, train value, validation value)
        The smallest first.
    note : str
        Why there are no points, or fewer than there could be.
    """

    metric: str
    points: tuple[tuple[int, float, float], ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "metric": self.metric,
            "points": [{"rows": rows, "train": train, "validation": value} for rows, train, value in self.points],
            "note": self.note,
        }


def learning_curve(
    trial: Trial,
    schema: TableSchema,
    train: PreparedSplit,
    validation: PreparedSplit,
    *,
    metric: Metric,
    whole: tuple[float | None, float | None],
    refit: Refit,
    seconds: float,
    clock: Callable[[], float],
) -> LearningCurve:
    """Fit the winner's recipe on shares of the training rows, while the time allows it.

    Parameters
    ----------
    whole : tuple of float or None
        The winner's metric on its training rows and on the validation split.
    refit : callable
        Fits and measures.
    seconds : float
        What all refits may take; one is not begun when it would, going by the winner's own time, not end in time.
    clock : callable
        Seconds from any fixed point, monotonic.
    """
    order = np.random.default_rng(trial.seed).permutation(len(train))
    points: list[tuple[int, float, float]] = []
    note = ""
    begun = clock()
    for share in SHARES:
        rows = int(share * len(train))
        if rows < MIN_ROWS:
            note = f"Shares of fewer than {MIN_ROWS} rows are left out."
            continue
        if clock() - begun + share * (trial.duration_seconds or 0.0) > seconds:
            note = "Further refits would have taken longer than evaluation.learning_curve_seconds."
            break
        part = train.take(np.sort(order[:rows]))
        try:
            metrics = refit(trial, schema, part, [part.take(np.arange(min(rows, MAX_TRAIN_ROWS))), validation])
        except (MillraceError, ValueError, ArithmeticError):
            note = "Some shares of the rows could not be learnt from, for instance because a class is missing."
            continue
        values = [measured.get(metric.name) for measured in metrics]
        if values[0] is not None and values[1] is not None:
            points.append((rows, values[0], values[1]))
    if points and whole[0] is not None and whole[1] is not None:
        points.append((len(train), whole[0], whole[1]))
    return LearningCurve(metric.name, tuple(points), note)
