"""Bias in production: groups that a classifier treats less alike than it did on the holdout.

Three gaps between groups, each the largest difference of two groups' shares (Hardt, Price and Srebro 2016, NeurIPS;
Barocas, Hardt and Narayanan, *Fairness and Machine Learning*, ch. 3): of the rows that get the second class
(selection), of those that are of it that get it (opportunity), of right answers (accuracy). The first needs no
outcome.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.histograms.outcomes import ErrorSketch, OutcomeSketch
from millrace.histograms.predictions import AnswerSketch, ValueSketch
from millrace.monitoring.findings import Finding, too_few
from millrace.monitoring.performance import Estimate, proportion
from millrace.spec.monitoring import BiasWatch
from millrace.stats.distances import normal_tail

_TWO = 2
Shares = Mapping[str, Estimate]


def find_bias(
    reference: tuple[AnswerSketch, OutcomeSketch] | None,
    answers: AnswerSketch | None,
    outcomes: OutcomeSketch | None,
    watch: BiasWatch,
    rate: float,
) -> list[Finding]:
    """Judge every gap of every column of groups that there is.

    Parameters
    ----------
    reference : tuple of AnswerSketch and OutcomeSketch, or None
        Of the holdout.
    answers, outcomes : sketches or None
        Of the window; None when it is not to be judged.
    """
    present = {**_gaps_of_answers(answers), **_gaps_of_outcomes(outcomes)}
    before = {**_gaps_of_answers(reference[0]), **_gaps_of_outcomes(reference[1])} if reference else {}
    return [
        judge_gap(name, shares, before.get(name), watch, rate / max(1, len(present)))
        for name, shares in present.items()
    ]


def _gaps_of_answers(answers: AnswerSketch | None) -> dict[str, Shares]:
    if answers is None or len(answers.decided) != _TWO:
        return {}
    return {
        f"{column}: selection": {group: proportion(int(counts[1]), int(counts.sum())) for group, counts in own.items()}
        for column, own in answers.groups.items()
    }


def _gaps_of_outcomes(outcomes: OutcomeSketch | None) -> dict[str, Shares]:
    gaps: dict[str, Shares] = {}
    for column, own in (outcomes.groups if outcomes else {}).items():
        gaps[f"{column}: accuracy"] = {
            group: proportion(int(np.trace(table)), int(table.sum())) for group, table in own.items()
        }
        if len(next(iter(own.values()))) == _TWO:
            gaps[f"{column}: opportunity"] = {
                group: proportion(int(table[1, 1]), int(table[1].sum()))
                for group, table in own.items()
                if table[1].sum()
            }
    return gaps


def judge_gap(
    name: str,
    shares: Shares,
    before: Shares | None,
    watch: BiasWatch,
    rate: float,
    *,
    written: Callable[[float], str] = "{:.0%}".format,
    unit: str = "",
) -> Finding:
    """Judge whether the largest difference of two groups has grown, given what was measured of each.

    Parameters
    ----------
    shares, before : mapping of str to Estimate
        By group, now and on the holdout; shares, or means in deviations.
    written : callable
        How one is written in the message.
    unit : str, default=""
        Of the gap, for the message.
    """
    large = {group: share for group, share in shares.items() if share.rows >= watch.min_rows}
    if len(large) < _TWO:
        rows = sorted((share.rows for share in shares.values()), reverse=True)[1:2]
        return too_few("bias", name, rows[0] if rows else 0, watch.min_rows, "rows of a second group")
    known = {group: share for group, share in (before or {}).items() if group in large}
    if len(known) < _TWO:
        return Finding("bias", name, "unknown", "the holdout has no such groups to compare with", rows=_rows(large))
    low, high, gap, error = _gap(large)
    _, _, gap_before, error_before = _gap(known)
    growth, deviation = gap - gap_before, math.hypot(error, error_before)
    p_value = normal_tail(growth / deviation) if deviation > 0 else 1.0
    # Of many groups, the extremes are far apart by chance alone.
    pairs = len(large) * (len(large) - 1) // 2
    breach = growth >= watch.threshold and p_value <= rate / pairs
    return Finding(
        verdict="bias",
        subject=name,
        status="breach" if breach else "ok",
        message=f"{name}: {low!r} {written(large[low].value)}, {high!r} {written(large[high].value)}; a gap of "
        f"{gap:.2f}{unit}, where it was {gap_before:.2f} on the holdout",
        measure="growth of the gap",
        value=growth,
        threshold=watch.threshold,
        rows=_rows(large),
        p_value=p_value,
        details={"before": gap_before, "now": gap, "groups": {group: _plain(share) for group, share in large.items()}},
    )


def _gap(shares: Shares) -> tuple[str, str, float, float]:
    low = min(shares, key=lambda group: shares[group].value)
    high = max(shares, key=lambda group: shares[group].value)
    return low, high, shares[high].value - shares[low].value, math.hypot(shares[low].error, shares[high].error)


def _rows(shares: Shares) -> int:
    return sum(share.rows for share in shares.values())


def _plain(share: Estimate) -> dict[str, Any]:
    return {"share": share.value, "rows": share.rows}


Floats = npt.NDArray[np.float64]


def find_value_bias(
    reference: tuple[ValueSketch, ErrorSketch],
    answers: ValueSketch | None,
    outcomes: ErrorSketch | None,
    watch: BiasWatch,
    rate: float,
) -> list[Finding]:
    """Judge every gap of every column of groups that there is.

    Parameters
    ----------
    reference : tuple of ValueSketch and ErrorSketch
        Of the holdout.
    answers, outcomes : sketches or None
        Of the window; None when it is not to be judged.
    """
    scale = error_deviation(reference[1])
    present = {**_gaps_of_values(answers), **_gaps_of_errors(outcomes, scale)}
    before = {**_gaps_of_values(reference[0]), **_gaps_of_errors(reference[1], scale)}
    return [
        judge_gap(
            name,
            means,
            before.get(name),
            watch.model_copy(update={"threshold": watch.threshold_in_deviations}),
            rate / max(1, len(present)),
            written=lambda mean: f"{mean:+.2f}",
            unit=" deviations",
        )
        for name, means in present.items()
    ]


def error_deviation(holdout: ErrorSketch) -> float:
    """Return the standard deviation of the errors on the holdout; 1 where they do not vary."""
    if not holdout.rows:
        return 1.0
    mean, square = holdout.sums[0] / holdout.rows, holdout.sums[2] / holdout.rows
    return math.sqrt(max(0.0, float(square - mean**2))) or 1.0


def _gaps_of_values(answers: ValueSketch | None) -> dict[str, Shares]:
    if answers is None:
        return {}
    return {
        f"{column}: prediction": {group: _mean(sums[0], sums[1], sums[2]) for group, sums in own.items()}
        for column, own in answers.groups.items()
    }


def _gaps_of_errors(outcomes: ErrorSketch | None, scale: float) -> dict[str, Shares]:
    gaps: dict[str, Shares] = {}
    groups: Mapping[str, Mapping[str, Floats]] = outcomes.groups if outcomes else {}
    for column, own in groups.items():
        for name, place in (("error", 1), ("absolute error", 2)):
            gaps[f"{column}: {name}"] = {
                group: _mean(sums[0], sums[place] / scale, sums[3] / scale**2) for group, sums in own.items()
            }
    return gaps


def _mean(rows: float, total: float, squares: float) -> Estimate:
    mean = float(total / rows)
    variance = max(0.0, float(squares / rows) - mean**2)
    return Estimate(mean, math.sqrt(variance / max(1.0, float(rows) - 1.0)), int(rows))
