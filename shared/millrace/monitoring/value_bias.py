"""Bias in production of a regression: groups whose values, or errors, are further apart than on the holdout.

Three gaps between groups, each the largest difference of two groups' means: of the predicted values, in deviations of
the target; of the errors (answer less outcome) and of their absolute values, in deviations of the holdout's errors.
Such differences are effect sizes (Cohen 1988, *Statistical Power Analysis for the Behavioral Sciences*, ch. 2: 0.2 is
small, 0.5 medium). The first needs no outcome.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from millrace.monitoring.bias import Shares, judge_gap
from millrace.monitoring.findings import Finding
from millrace.monitoring.performance import Estimate
from millrace.sketches.outcomes import ErrorSketch
from millrace.sketches.values import ValueSketch
from millrace.spec.monitoring import BiasWatch

Floats = npt.NDArray[np.float64]
_TWO = 2


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
