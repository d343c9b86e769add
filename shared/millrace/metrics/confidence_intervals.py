"""Confidence intervals of metrics, by a formula for each kind, from targets and predictions alone.

A percentile bootstrap of 60 to 1,000 rows covers less than it says where few rows decide: few positives, or a few large
errors. Every interval here accounts for that, or is a :class:`TooFewRows`. ``benchmarks/intervals/coverage.py``
measures how often they hold the true value on real tables; ``docs/benchmarks.md`` has the table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.bootstrap import ConfidenceInterval, FloatArray, wilson
from millrace.metrics.functions import share_below, squared_errors

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class TooFewRows:
    """The reason for which rows do not support an interval."""

    reason: str


Interval = ConfidenceInterval | TooFewRows
#: From targets, float64 predictions and a confidence level to an interval.
IntervalOf = Callable[..., Interval]
#: Targets and predictions of rows beside those measured that the model was not fitted on either.
OtherRows = tuple[Array, Array]

#: Below, no interval of a loss or an error has been measured to cover.
MIN_ROWS = 20
#: Wrong predictions below which the cost of a mistake is not known.
MIN_WRONG = 2
#: Rows of a class, or rows that an F1 counts, below which the metric of that class is not known.
MIN_CLASS_ROWS = 5
MIN_F1_ROWS = 3
#: Positives below which a precision-recall curve has too few points.
MIN_RECALLED = 10
#: Size of a loss or an error that the rows have not shown yet, relative to the largest that they have.
UNSEEN_LOSS = 0.75
UNSEEN_ERROR = 1.2
UNSEEN_SQUARE = 1.8
UNSEEN_RATIO = 2.0
#: Rows below which no interval of R² covers: one error in a hundred may decide it, and most of them have none.
MIN_RATIO_ROWS = 100
#: The same, relative to what other rows let one expect of the largest, and in addition where one sample of as many rows
#: shows it; of few rows it is larger, as if they were so many.
EXPECTED_SQUARE = 0.5
ONE_SAMPLE = 0.4
FEW_ROWS = 120
MOST_EXPECTED_SQUARE = 1.5
#: Of few rows beside several samples of as many, it goes by the tail of all their squares, from nothing to the whole:
#: by its exponent, from where they have a variance to where they have no mean, or by the largest hundredth's share.
TAIL_EXPONENTS = (0.5, 1.0)
TAIL_SHARES = (0.15, 0.3)
#: The same of a ratio, relative to the largest of all rows.
EXPECTED_RATIO = 3.0
#: Samples that show how the estimate varies; the same ones each time, so that the same rows have the same interval.
_SAMPLES = 400
_SAMPLES_SEED = 0
#: With more rows the limit holds, and samples would take long.
_MOST_SAMPLED_ROWS = 2_000
#: Rows that an assumed variance counts as beside the observed one: of a handful of rows the latter is often too small.
_ASSUMED_ROWS = 2.0

#: True calibration errors that are tried, up to so many times the estimate.
_ASSUMED_ERRORS = 241
_MOST_TIMES = 4.0

_MAX_EXPONENT = 50.0
_TINY = 1e-9


def normal_quantile(confidence: float) -> float:
    """Return the standard errors to either side of a central interval."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def student_quantile(confidence: float, degrees: int) -> float:
    """Return the same for Student's distribution (Fisher and Cornish, 1960, *Technometrics* 2: 209-225)."""
    z, n = normal_quantile(confidence), max(1, degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def share_interval(hits: float, rows: float, confidence: float) -> ConfidenceInterval:
    """Return Wilson's interval of a share."""
    return ConfidenceInterval(*wilson(hits / rows, int(rows), normal_quantile(confidence)))


def accuracy_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return Wilson's interval of the share of right rows."""
    return share_interval(float(np.sum(probabilities.argmax(axis=1) == target)), len(target), confidence)


def f1_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return the interval of the second class's F1.

    Of the rows that have the class or are predicted to have it, a share q is both, and F1 is ``2q / (1 + q)``; given
    their number, the hits are binomial. So the ends are those of Wilson's interval of q.
    """
    actual, predicted = target == 1, probabilities.argmax(axis=1) == 1
    rows = int(np.sum(actual | predicted))
    if rows < MIN_F1_ROWS:
        return TooFewRows(f"{rows} rows have the second class or are predicted to; an interval needs {MIN_F1_ROWS}")
    part = share_interval(float(np.sum(actual & predicted)), rows, confidence)
    return ConfidenceInterval(2 * part.low / (1 + part.low), 2 * part.high / (1 + part.high))


def _studentised(values: FloatArray, quantile: float) -> float:
    """Return an end of the interval of a positive mean: that towards which ``quantile`` points.

    Studentised on the logarithmic scale, with Hall's monotone cubic correction for skewness (Hall, 1992, *J. R. Stat.
    Soc. B* 54: 221-228). On this scale the studentised mean has bias ``(c - k) / 2`` and third cumulant ``3c - 2k``,
    both over the root of n, with c the coefficient of variation and k the skewness of the values.
    """
    root, mean = math.sqrt(len(values)), float(values.mean())
    centred = values - mean
    variance = float((centred**2).mean())
    if variance <= 0.0:
        return mean
    skewness = float((centred**3).mean()) / variance**1.5
    variation = math.sqrt(variance * len(values) / (len(values) - 1)) / mean
    bias, cumulant = (variation - skewness) / 2, 3 * variation - 2 * skewness
    slope = -cumulant / 6
    wanted = -quantile + (bias + slope) / root
    if abs(slope) > _TINY:
        wanted = float(np.cbrt(1 + 3 * slope / root * wanted) - 1) * root / slope
    return mean * math.exp(min(-variation / root * wanted, _MAX_EXPONENT))


def mean_interval(values: FloatArray, unseen: float, confidence: float) -> Interval:
    """Return the interval of the mean of values of at least zero.

    The upper end counts one more row, ``unseen`` times the largest: what a sample has not shown is its tail (as the
    added point of the adjusted empirical likelihood: Chen, Variyath and Abraham, 2008, *J. Comput. Graph. Stat.* 17:
    426-443).
    """
    return _mean_interval(values, confidence, unseen * float(values.max(initial=0.0)))


def squares_interval_beside(squares: FloatArray, elsewhere: FloatArray, confidence: float) -> Interval:
    """Return the interval of the mean of squared errors, which other rows have as well.

    They show how large the largest of so many squares is, the more surely the more such samples they make. The upper
    end counts one more row as large as a multiple of it, or as the largest that there is. The multiples are measured:
    ``docs/benchmarks.md``, and decisions 0117 and 0124.
    """
    rows = max(1, len(squares))
    samples = max(1, len(elsewhere) // rows)
    if rows < FEW_ROWS and samples > 1:
        factor = FEW_ROWS / rows * _weigh_tail(np.concatenate([squares, elsewhere]))
    else:
        factor = max(EXPECTED_SQUARE + ONE_SAMPLE / samples, min(MOST_EXPECTED_SQUARE, FEW_ROWS / rows))
    expected = float(np.sort(elsewhere)[-samples:].mean())
    return _mean_interval(squares, confidence, max(float(squares.max(initial=0.0)), factor * expected))


def _weigh_tail(values: FloatArray) -> float:
    """Return how heavy the tail of values of at least zero is, from 0 to 1.

    By the mean logarithm of the largest tenth over the next one (Hill 1975, *Annals of Statistics* 3: 1163-1174), which
    shows a heavy tail though the largest values are missing, or by the share of the largest hundredth, which shows rare
    ones beside a light tail.
    """
    ordered = np.sort(values)[::-1]
    tenth, hundredth = max(1, len(ordered) // 10), max(1, len(ordered) // 100)
    if ordered[tenth] <= 0.0:
        return 1.0
    exponent = float(np.log(ordered[:tenth] / ordered[tenth]).mean())
    share = float(ordered[:hundredth].sum() / ordered.sum())
    return max(float(np.interp(exponent, TAIL_EXPONENTS, (0, 1))), float(np.interp(share, TAIL_SHARES, (0, 1))))


def _mean_interval(values: FloatArray, confidence: float, largest: float) -> Interval:
    if len(values) < MIN_ROWS:
        return TooFewRows(f"{len(values)} rows; an interval needs {MIN_ROWS}")
    if values.max() <= 0.0 or values.max() == values.min():
        return TooFewRows("every row has the same loss")
    quantile = student_quantile(confidence, len(values) - 1)
    low = _studentised(values, -quantile) if values.mean() > 0.0 else 0.0
    return ConfidenceInterval(low, _studentised(np.append(values, largest), quantile))


def mean_loss_interval(row_loss: Callable[[Array, FloatArray], FloatArray]) -> IntervalOf:
    """Return the interval of a classifier's mean loss; the rows that are wrong decide it."""

    def interval_of(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
        wrong = int(np.sum(probabilities.argmax(axis=1) != target))
        if wrong < MIN_WRONG:
            return TooFewRows(f"{wrong} rows are predicted wrong; an interval needs {MIN_WRONG}")
        return mean_interval(row_loss(target, probabilities), UNSEEN_LOSS, confidence)

    return interval_of


def mean_error_interval(row_loss: Callable[[Array, FloatArray], FloatArray]) -> IntervalOf:
    """Return the interval of a regression's mean error."""
    return lambda target, values, confidence: mean_interval(row_loss(target, values), UNSEEN_ERROR, confidence)


def rmse_interval(target: Array, values: FloatArray, confidence: float, others: OtherRows | None = None) -> Interval:
    """Return the roots of the interval of the mean squared error.

    Where the rarest errors decide it, most small samples have none of them; other rows may have.
    """
    errors = squared_errors(target, values)
    if others is None or not len(others[0]):
        squares = mean_interval(errors, UNSEEN_SQUARE, confidence)
    else:
        squares = squares_interval_beside(errors, squared_errors(*others), confidence)
    if isinstance(squares, TooFewRows):
        return squares
    return ConfidenceInterval(math.sqrt(squares.low), math.sqrt(squares.high))


def r2_interval(target: Array, values: FloatArray, confidence: float, others: OtherRows | None = None) -> Interval:
    """Return one less the interval of mean squared error over variance, a ratio that is linearised row by row.

    With other rows that the model was not fitted on, samples of all of them show how far the ratio of so many rows is
    from the whole's. Without them, and of many rows, it is that of a mean.
    """
    rows, variance = len(target), float(target.var())
    if rows < MIN_RATIO_ROWS:
        return TooFewRows(f"{rows} rows; an interval needs {MIN_RATIO_ROWS}")
    if variance <= 0.0:
        return TooFewRows("the targets do not vary")
    errors = squared_errors(target, values)
    if others is not None and len(others[0]) and rows <= _MOST_SAMPLED_ROWS:
        unexplained = _ratio_interval_beside(target, errors, (others[0], squared_errors(*others)), confidence)
    else:
        ratio = float(errors.mean()) / variance
        linearised = ratio + (errors - ratio * (target - target.mean()) ** 2) / variance
        unexplained = mean_interval(linearised, UNSEEN_RATIO, confidence)
    if isinstance(unexplained, TooFewRows):
        return unexplained
    return ConfidenceInterval(1 - unexplained.high, 1 - unexplained.low)


def _ratio_interval_beside(
    target: Array, errors: FloatArray, others: tuple[Array, FloatArray], confidence: float
) -> Interval:
    """Return the interval of mean squared error over variance: a bootstrap-t on the log scale from all known rows.

    Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, chapter 12. For the upper end these rows have one
    more, whose error is :data:`EXPECTED_RATIO` times the largest: what they have not shown is their tail.
    """
    if errors.max() <= 0.0:
        return TooFewRows("every row has the same loss")
    truth, squares = np.concatenate([target, others[0]]).astype(np.float64), np.concatenate([errors, others[1]])
    # Of a scale of one, so that fourth powers lose no precision.
    scale = float(truth.std())
    truth, squares = (truth - truth.mean()) / scale, squares / scale**2
    largest, rows, known = int(np.argmax(squares)), len(target), len(truth)
    (ratio,), (deviation,) = _ratios(np.ones((1, rows)), truth[:rows], squares[:rows])
    seen, beyond = _count_samples(rows, known)
    with_unseen = np.append(truth, truth[largest]), np.append(squares, EXPECTED_RATIO * squares[largest])
    ends = []
    for counts, every, level in (
        (seen, (truth, squares), (1 + confidence) / 2),
        (beyond, with_unseen, (1 - confidence) / 2),
    ):
        ratios, deviations = _ratios(counts, *every)
        (whole,), _ = _ratios(np.ones((1, len(every[0]))), *every)
        varies = (ratios > 0.0) & (deviations > 0.0)
        step = float(np.quantile(np.log(ratios[varies] / whole) / deviations[varies], level))
        ends.append(float(ratio * math.exp(min(-step * deviation, _MAX_EXPONENT))))
    return ConfidenceInterval(*ends)


@lru_cache(maxsize=1)
def _count_samples(rows: int, known: int) -> tuple[FloatArray, FloatArray]:
    """Return how often samples of so many rows have each of the known ones, and of these and one more."""
    generator = np.random.default_rng(_SAMPLES_SEED)
    seen = generator.integers(0, known, (_SAMPLES, rows))
    beyond = np.where(generator.random(seen.shape) < 1.0 / (known + 1), known, seen)
    first = np.arange(_SAMPLES)[:, np.newaxis]
    counted = (
        np.bincount((first * size + drawn).ravel(), minlength=_SAMPLES * size).reshape(_SAMPLES, size)
        for size, drawn in ((known, seen), (known + 1, beyond))
    )
    one, other = (counts.astype(np.float64) for counts in counted)
    return one, other


def _ratios(counts: FloatArray, truth: FloatArray, squares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ratio of each sample, a row of counts, and the standard error of its logarithm.

    Each row's influence is its square less the ratio times its squared distance from the mean; their variance follows
    from the means of products.
    """
    powers = [truth, truth**2, truth**3, truth**4]
    products = [squares, squares**2, squares * truth, squares * truth**2]
    rows = float(counts[0].sum())
    first, second, third, fourth, error, error_square, crossed, crossed_square = (
        counts @ np.stack([*powers, *products], axis=1) / rows
    ).T
    variances = np.maximum(second - first**2, _TINY)
    ratios = error / variances
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    together = crossed_square - 2 * first * crossed + first**2 * error
    spread = (
        error_square - error**2 - 2 * ratios * (together - error * variances) + ratios**2 * (central - variances**2)
    )
    deviations = np.sqrt(np.maximum(spread, 0.0) / max(1.0, rows - 1.0)) / variances
    return ratios, np.divide(deviations, ratios, out=np.zeros_like(ratios), where=ratios > 0.0)


def error_quantile_interval(share: float) -> IntervalOf:
    """Return the interval of a quantile of absolute errors between order statistics, by binomial ranks.

    Interpolated between neighbouring ranks (Nyblom, 1992, *Statistics and Probability Letters* 14: 129-131). None where
    even the largest error may lie below the quantile.
    """

    def interval_of(target: Array, values: FloatArray, confidence: float) -> Interval:
        ordered = np.sort(np.abs(values - target))
        below = _binomial_cumulative(len(ordered), share)
        low, high = (_rank(below, level) for level in ((1 - confidence) / 2, (1 + confidence) / 2))
        if low is None or high is None:
            return TooFewRows(f"{len(ordered)} rows do not bound their {100 * share:g}th percentile")
        positions = np.arange(len(ordered))
        first, last = (float(np.interp(rank, positions, ordered)) for rank in (low, high))
        return ConfidenceInterval(first, last) if first < last else TooFewRows("their errors are equal")

    return interval_of


def _binomial_cumulative(rows: int, share: float) -> FloatArray:
    """Return the chance of at most k of ``rows`` below a quantile, for k from 0."""
    k = np.arange(rows)
    steps = np.log((rows - k) / (k + 1.0)) + math.log(share / (1 - share))
    logs = np.concatenate([[0.0], np.cumsum(steps)]) + rows * math.log1p(-share)
    return np.asarray(np.minimum(np.cumsum(np.exp(logs)), 1.0))


def _rank(below: FloatArray, level: float) -> float | None:
    """Return the rank, from 0, whose order statistic exceeds the quantile with this probability; None beyond the rows.

    The order statistic of rank r exceeds the quantile when at most r rows lie below it.
    """
    if level < below[0] or level > below[-2]:
        return None
    return float(np.interp(level, below[:-1], np.arange(len(below) - 1)))


def _logit_interval(value: float, variance: float, quantile: float) -> ConfidenceInterval:
    """Return the interval of a score from 0 to 1 that is normal on the logit scale."""
    middle, reach = math.log(value / (1 - value)), quantile * math.sqrt(variance) / (value * (1 - value))
    return ConfidenceInterval(*(1 / (1 + math.exp(-end)) for end in (middle - reach, middle + reach)))


@dataclass(frozen=True, slots=True)
class _Area:
    """The area under a ROC curve, with each row's influence on it and its variance."""

    value: float
    influence: FloatArray
    observed: float
    variance: float


def _area(positive: Array, scores: FloatArray) -> _Area:
    """Return the area of scores by the placement values of DeLong, DeLong and Clarke-Pearson (1988, *Biometrics* 44).

    Of a handful of rows their variance is often far too small, so that of Hanley and McNeil (1982, *Radiology* 143:
    29-36) counts as a few rows beside it. The larger of both is too wide with many rows.
    """
    above, below = (
        share_below(scores[positive], scores[~positive]),
        1 - share_below(scores[~positive], scores[positive]),
    )
    value = float(above.mean())
    influence = np.zeros(len(scores))
    assumed = value / (2 - value) - value**2, 2 * value**2 / (1 + value) - value**2
    observed = variance = 0.0
    for members, placements, prior in ((positive, above, assumed[0]), (~positive, below, assumed[1])):
        rows = len(placements)
        influence[members] = (placements - value) / rows
        squares = float(((placements - value) ** 2).sum())
        observed += squares / rows**2
        variance += (squares + _ASSUMED_ROWS * prior) / (rows - 1 + _ASSUMED_ROWS) / rows
    return _Area(value, influence, observed, variance)


def roc_auc_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return the interval of the area under the ROC curve, normal on the logit scale."""
    positive = target == 1
    fewest = int(min(positive.sum(), (~positive).sum()))
    if fewest < MIN_CLASS_ROWS:
        return TooFewRows(f"{fewest} rows of one class; an interval needs {MIN_CLASS_ROWS}")
    area = _area(positive, probabilities[:, 1])
    if area.value in (0.0, 1.0):
        return TooFewRows("the classes are separated without an exception")
    return _logit_interval(area.value, area.variance, student_quantile(confidence, fewest - 1))


def roc_auc_ovr_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return the interval of the mean area of one class versus the rest, from the summed influence of each row."""
    proper = probabilities / probabilities.sum(axis=1, keepdims=True)
    classes = proper.shape[1]
    fewest = int(np.bincount(target, minlength=classes).min())
    if fewest < MIN_CLASS_ROWS:
        return TooFewRows(f"{fewest} rows of one class; an interval needs {MIN_CLASS_ROWS} of each")
    areas = [_area(target == label, proper[:, label]) for label in range(classes)]
    value = float(np.mean([area.value for area in areas]))
    observed = sum(area.observed for area in areas)
    if value in (0.0, 1.0) or observed <= _TINY**2:
        return TooFewRows("the classes are separated without an exception")
    together = float((np.mean([area.influence for area in areas], axis=0) ** 2).sum())
    variance = together * sum(area.variance for area in areas) / observed
    return _logit_interval(value, variance, student_quantile(confidence, fewest))


def pr_auc_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return the interval of the average precision, normal on the logit scale.

    Its variance is that of the rows' influence, with the binomial one of Boyd, Eng and Page (2013, *ECML PKDD*:
    451-466) as a few rows beside it.
    """
    scores, positive = probabilities[:, 1], target == 1
    recalled = int(positive.sum())
    if recalled < MIN_RECALLED:
        return TooFewRows(f"{recalled} positives; an interval needs {MIN_RECALLED}")
    order = np.argsort(-scores, kind="stable")
    ordered, found = scores[order], positive[order].astype(np.float64)
    distinct = np.r_[True, ordered[1:] != ordered[:-1]]
    starts, group = np.flatnonzero(distinct), np.cumsum(distinct) - 1
    positives = np.add.reduceat(found, starts)
    retrieved = np.cumsum(np.add.reduceat(np.ones(len(found)), starts))
    precision = np.cumsum(positives) / retrieved
    value = float((precision * positives).sum() / recalled)
    if not 0.0 < value < 1.0:
        return TooFewRows("the classes are separated without an exception")
    gained = np.cumsum((positives / retrieved)[::-1])[::-1]
    diluted = np.cumsum((positives * precision / retrieved)[::-1])[::-1]
    influence = (found * (precision[group] - value + gained[group]) - diluted[group]) / recalled
    binomial = value * (1 - value) / recalled
    variance = (recalled * float((influence**2).sum()) + _ASSUMED_ROWS * binomial) / (recalled + _ASSUMED_ROWS)
    return _logit_interval(value, variance, student_quantile(confidence, recalled + 1))


def macro_f1_interval(target: Array, probabilities: FloatArray, confidence: float) -> Interval:
    """Return the interval of the mean F1 of all classes, from the influence of each row, on the logit scale."""
    classes, predicted = probabilities.shape[1], probabilities.argmax(axis=1)
    counts = np.bincount(target, minlength=classes)
    fewest = int(counts.min())
    if fewest < MIN_CLASS_ROWS:
        return TooFewRows(f"{fewest} rows of one class; an interval needs {MIN_CLASS_ROWS} of each")
    hits = predicted == target
    members = counts + np.bincount(predicted, minlength=classes)
    scores = 2 * np.bincount(target[hits], minlength=classes) / members
    value = float(scores.mean())
    if value in (0.0, 1.0):
        return TooFewRows("every row is right" if value else "no row is right")
    influence = 2 * hits / members[target] - scores[target] / members[target] - scores[predicted] / members[predicted]
    squares = influence**2 / classes**2
    return _logit_interval(value, float(squares.sum()), student_quantile(confidence, _degrees(squares, target)))


def _degrees(squares: FloatArray, target: Array) -> int:
    """Return the degrees of freedom of a variance that is a sum over classes (Satterthwaite, 1946)."""
    parts, rows = np.bincount(target, squares), np.bincount(target)
    return int(parts.sum() ** 2 / (parts**2 / np.maximum(rows - 1, 1)).sum())


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Bins of a calibration curve, arrays of shape (n_bins,).

    ``predicted`` and ``observed`` are mean probability and frequency, ``spread`` the variance of the probabilities
    within a bin, ``errors`` the standard error of predicted less observed (above zero), and ``counts`` the rows.
    """

    predicted: FloatArray
    observed: FloatArray
    spread: FloatArray
    errors: FloatArray
    counts: FloatArray


def calibration_error_interval(bins: CalibrationBins, wrong: int, confidence: float) -> Interval:
    """Return the interval of the expected calibration error, the mean of absolute differences over bins.

    Noise in a bin only adds to it, so the estimate is too large. The true differences are taken as a multiple of the
    observed ones, less their noise; the multiples under which the estimate is not unusual make the interval. An
    absolute normal value has the folded normal distribution (Leone, Nelson and Nottingham, 1961, *Technometrics* 3).
    A bin's noise is at least that of the frequency which a multiple assumes, as in Wilson's interval: where few rows
    are wrong, they are too few by chance in as many samples as they are too many. The share of the rows whose
    difference is large varies from sample to sample too. Without ``wrong`` rows the cost of a mistake is not known.
    """
    rows = int(bins.counts.sum())
    if rows < MIN_ROWS:
        return TooFewRows(f"{rows} rows; an interval needs {MIN_ROWS}")
    if wrong < MIN_WRONG:
        return TooFewRows(f"{wrong} rows are predicted wrong; an interval needs {MIN_WRONG}")
    differences, shares = bins.predicted - bins.observed, bins.counts / rows
    estimate = float(shares @ np.abs(differences))
    pattern = np.sqrt(np.maximum(differences**2 - bins.errors**2, 0.0) + bins.errors**2 / 4)
    pattern /= float(shares @ pattern)
    assumed = np.linspace(0.0, _MOST_TIMES * max(estimate, float(shares @ bins.errors)), _ASSUMED_ERRORS)
    true = assumed[:, np.newaxis] * pattern
    frequency = np.clip(bins.predicted - np.copysign(true, differences), 0.0, 1.0)
    errors = np.sqrt(np.maximum((frequency * (1 - frequency) - bins.spread) / bins.counts, bins.errors**2))
    folded = true / errors
    centre = np.vectorize(math.erf, otypes=[np.float64])(folded / math.sqrt(2))
    means = errors * math.sqrt(2 / math.pi) * np.exp(-(folded**2) / 2) + true * centre
    within = np.maximum(true**2 + errors**2 - means**2, 0.0) @ shares**2
    between = (true - assumed[:, np.newaxis]) ** 2 @ shares / rows
    accepted = np.abs(estimate - means @ shares) <= normal_quantile(confidence) * np.sqrt(within + between)
    found = assumed[accepted] if accepted.any() else np.array([0.0])
    return ConfidenceInterval(float(found.min()), float(found.max()))
