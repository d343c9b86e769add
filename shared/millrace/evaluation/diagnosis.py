"""Over- and underfitting: the same model on rows it was fitted on, rows it was chosen on, and rows it never saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.training.metric_catalogue import Metric

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
