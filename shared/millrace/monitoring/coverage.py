"""Coverage of a version's intervals or prediction sets: the share of outcomes that they held, against their level.

Intervals are not captured: they follow from the captured prediction and the version's calibration. If rows are as those
of the calibration, the number of covered outcomes has a beta-binomial distribution: the coverage that ``n`` calibration
rows give is itself random, with a beta distribution (Vovk, "Conditional validity of inductive conformal predictors",
ACML 2012). So few calibration rows and few outcomes both count as reasons for a difference.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from millrace.conformal import ConformalCalibration
from millrace.histograms.predictions import ClassPredictions
from millrace.monitoring.measured_windows import MeasuredWindow, RecentOutcomes
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.spec.monitoring import CoverageRule

#: Level of the intervals that are watched.
LEVEL = 0.9
_SUBJECT = "intervals"
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_MANY_ROWS = 100_000


def count_covered_classes(
    calibration: ConformalCalibration | None, predictions: ClassPredictions, outcomes: npt.NDArray[np.int64]
) -> int | None:
    """Count the outcomes in the sets of their predictions as served, which hold the decision too; None without sets."""
    if calibration is None or calibration.greatest_level < LEVEL:
        return None
    held = calibration.covered(predictions.probabilities, outcomes, LEVEL) | (predictions.decided == outcomes)
    return int(np.count_nonzero(held))


def count_covered_values(
    calibration: ConformalCalibration | None, values: npt.NDArray[np.float64], outcomes: npt.NDArray[np.float64]
) -> int | None:
    """Count the outcomes in the intervals of their predictions; None without intervals."""
    if calibration is None or calibration.greatest_level < LEVEL:
        return None
    return int(np.count_nonzero(calibration.covered(values, outcomes, LEVEL)))


@dataclass(frozen=True, slots=True)
class HeldOutcomes:
    """Outcomes of a period, and those of them that their intervals held; None where the intervals are not known."""

    rows: int
    covered: int | None
    period: str = ""  # As in "500 outcomes of the last day"


def sum_day(recent: RecentOutcomes) -> HeldOutcomes | None:
    """Sum the outcomes of the day that ends with a window; None while less than a day is known.

    Errors differ by the hour, as those of rentals at rush hours do, and intervals hold their level over all hours
    together. So a window that is shorter than a day has no verdict of its own.
    """
    if not recent.covers_day:
        return None
    held = _sum(recent.last(_DAY), " in the last day" if recent.is_short else "")
    return held if held.rows else HeldOutcomes(recent.window.outcomes, None)


def _sum(windows: Iterable[MeasuredWindow], period: str = "") -> HeldOutcomes:
    known = [one for one in windows if one.covered is not None]
    return HeldOutcomes(sum(one.outcomes for one in known), sum(one.covered or 0 for one in known), period)


def evaluate_coverage(
    recent: RecentOutcomes, calibration: ConformalCalibration | None, rule: CoverageRule, rate: float
) -> WindowFinding:
    """Evaluate the coverage of the day that ends with a window.

    A low one is suppressed if the same day of the week before had it and the week is in order: errors differ by the
    weekday as they do by the hour.
    """
    found = find_low_coverage(sum_day(recent), calibration, rule, rate)
    if found.status != "breach" or not recent.is_short or not recent.covers(_WEEK + _DAY):
        return found
    week = find_low_coverage(_sum(recent.last(_WEEK)), calibration, rule, rate)
    before = find_low_coverage(_sum(recent.last(_DAY, before=_WEEK)), calibration, rule, rate)
    is_like_before = before.value is not None and (found.value or 0.0) - before.value < rule.threshold
    if week.status != "ok" or not is_like_before:
        return found
    reason = "as on that day of the week before, while the week is in order"
    details = {**found.details, "season": reason}
    return replace(found, status="ok", message=f"{found.message}; {reason}", details=details)


def find_low_coverage(
    held: HeldOutcomes | None, calibration: ConformalCalibration | None, rule: CoverageRule, rate: float
) -> WindowFinding:
    """Evaluate the coverage of intervals; a high one is no breach."""
    if calibration is None:
        message = "the version was registered without calibration rows, so it has no intervals; train a new version"
        return WindowFinding("coverage", _SUBJECT, "unknown", message)
    if held is None:
        message = "the coverage is evaluated on whole days, and these outcomes are not a day yet"
        return WindowFinding("coverage", _SUBJECT, "unknown", message)
    if held.covered is None:
        message = f"{calibration.rows:,} calibration rows are too few for intervals of {LEVEL}"
        return WindowFinding("coverage", _SUBJECT, "unknown", message, rows=held.rows)
    if held.rows < rule.min_rows:
        return too_few("coverage", _SUBJECT, held.rows, rule.min_rows, "outcomes")
    share, error = held.covered / held.rows, coverage_deviation(held.rows, calibration.rows)
    p_value = coverage_tail(held.covered, held.rows, calibration.rows)
    lost = LEVEL - share - error
    what = "intervals" if calibration.method == "absolute_residual" else "prediction sets"
    return WindowFinding(
        verdict="coverage",
        subject=_SUBJECT,
        status=breach_or_ok(lost >= rule.threshold and p_value <= rate),
        message=f"{what} of {LEVEL} held {share:.1%} of {held.rows:,} outcomes{held.period}; of rows like the "
        f"{calibration.rows:,} of the calibration they hold {LEVEL:.0%}, give or take {error:.1%}",
        measure=f"coverage lost, of {LEVEL}",
        value=lost,
        threshold=rule.threshold,
        rows=held.rows,
        p_value=p_value,
        details={"before": LEVEL, "now": share, "deviation": error},
    )


def _shape(calibration_rows: int) -> tuple[int, int]:
    """Return the parameters of the beta distribution of the coverage: the quantile's rank, and the ranks above it."""
    rank = math.ceil((calibration_rows + 1) * LEVEL - 1e-9 * calibration_rows)
    return rank, calibration_rows + 1 - rank


def coverage_deviation(rows: int, calibration_rows: int) -> float:
    """Return the standard deviation of the coverage of some outcomes, from their number and that of the calibration."""
    first, second = _shape(calibration_rows)
    total = first + second
    share = first / total
    return math.sqrt(share * (1.0 - share) / rows * (1.0 + (rows - 1) / (total + 1)))


def coverage_tail(covered: int, rows: int, calibration_rows: int) -> float:
    """Return the probability of at most so many covered outcomes, by the beta-binomial distribution.

    More outcomes count as a hundred thousand of the same coverage: by then chance is that of the calibration.
    """
    if rows > _MANY_ROWS:
        covered, rows = round(covered * _MANY_ROWS / rows), _MANY_ROWS
    first, second = _shape(calibration_rows)
    of_none = (
        math.lgamma(rows + second)
        + math.lgamma(first + second)
        - math.lgamma(second)
        - math.lgamma(rows + first + second)
    )
    count = np.arange(covered, dtype=np.float64)
    steps = np.log((rows - count) * (count + first) / ((count + 1.0) * (rows - count - 1.0 + second)))
    logarithms = of_none + np.concatenate([[0.0], np.cumsum(steps)])
    return min(1.0, float(np.exp(logarithms).sum()))
