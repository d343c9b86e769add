"""Distances between two distributions over the same bins, with their p-values; tests of many hypotheses.

All take counts. ``p`` and ``q`` below are the shares of the first (reference) and the second (present) distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SERIES_TERMS = 500
_PRECISION = 1e-12
_TINY = 1e-300


def normal_tail(z: float) -> float:
    """Return the probability that a standard normal value is greater than ``z``."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square value is greater than ``statistic``.

    The regularised incomplete gamma function, by its series below ``a + 1`` and by Lentz's continued fraction above
    (Press et al., *Numerical Recipes*, 3rd ed., section 6.2).
    """
    if statistic <= 0.0 or degrees < 1:
        return 1.0
    a, x = degrees / 2.0, statistic / 2.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        return max(0.0, 1.0 - scale * _gamma_series(a, x))
    return scale * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for step in range(1, _SERIES_TERMS):
        term *= x / (a + step)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    fraction = d
    for step in range(1, _SERIES_TERMS):
        factor = -step * (step - a)
        b += 2.0
        d = 1.0 / _away_from_zero(factor * d + b)
        c = _away_from_zero(b + factor / c)
        fraction *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return fraction


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def kolmogorov_tail(distance: float, first_rows: float, second_rows: float) -> float:
    """Return the p-value of the Kolmogorov-Smirnov distance between two samples, by Kolmogorov's limit.

    With Stephens' correction for small samples (Stephens 1970, *J. R. Stat. Soc. B* 32: 115-122). On bins rather than
    raw values the distance can only be too small, so the p-value can only be too large.
    """
    if distance <= 0.0 or min(first_rows, second_rows) <= 0:
        return 1.0
    rows = math.sqrt(first_rows * second_rows / (first_rows + second_rows))
    reach = (rows + 0.12 + 0.11 / rows) * distance
    if reach < 0.2:  # noqa: PLR2004  # below, the alternating series has not converged, and the tail is 1 to 12 digits
        return 1.0
    total = 0.0
    for k in range(1, _SERIES_TERMS):
        term = math.exp(-2.0 * (k * reach) ** 2)
        total += term if k % 2 else -term
        if term < _PRECISION * _PRECISION:
            break
    return min(1.0, max(0.0, 2.0 * total))


Counts = npt.NDArray[np.float64]

#: Rows that an empty bin counts as, so that no logarithm is infinite.
PSEUDO_COUNT = 0.5


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance between two samples."""

    value: float  # By its usual definition
    excess: float  # Less the distance that sampling alone is expected to give; never below 0
    p_value: float  # Probability of so large a distance between samples of one distribution


def shares(counts: Counts) -> Counts:
    """Return counts as shares; all zero when nothing was counted."""
    total = counts.sum()
    return counts / total if total > 0 else np.zeros_like(counts)


def population_stability_index(reference: Counts, present: Counts, *, design_effect: float = 1.0) -> Distance:
    """Return the population stability index, sum of ``(p - q) ln(p / q)``.

    Siddiqi 2006, *Credit Risk Scorecards*, p. 136. Without any change it is distributed as ``(1/n + 1/m)`` times
    chi-square with one degree less than there are bins (Yurdakul 2018, *Statistical properties of the population
    stability index*, Western Michigan University), so its expectation is ``(k - 1)(1/n + 1/m)``: 0.05 for ten bins
    and 200 rows. With a design effect (Kish 1965, *Survey Sampling*) present rows count as so many times fewer.
    """
    used = (reference + present) > 0
    first, second = reference[used], present[used]
    n, m = float(first.sum()), float(second.sum())
    if n <= 0 or m <= 0 or len(first) <= 1:
        return Distance(0.0, 0.0, 1.0)
    p, q = shares(np.maximum(first, PSEUDO_COUNT)), shares(np.maximum(second, PSEUDO_COUNT))
    index = float(np.sum((p - q) * np.log(p / q)))
    noise, degrees = 1.0 / n + design_effect / m, len(first) - 1
    # Where a bin is nearly empty the limit above is too optimistic; Pearson's statistic is the sounder one there.
    p_value = max(chi_square_tail(index / noise, degrees), chi_square(reference, present).p_value)
    return Distance(index, max(0.0, index - degrees * noise), p_value)


def jensen_shannon_distance(reference: Counts, present: Counts) -> Distance:
    """Return the Jensen-Shannon distance with logarithms to base 2: from 0 to 1, and a metric.

    Endres and Schindelin 2003, *IEEE Transactions on Information Theory* 49: 1858-1860. ``8 ln 2`` times its square
    has PSI's distribution in the limit.
    """
    p, q = shares(reference), shares(present)
    n, m = float(reference.sum()), float(present.sum())
    if n <= 0 or m <= 0:
        return Distance(0.0, 0.0, 1.0)
    middle = (p + q) / 2.0
    divergence = max(0.0, (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2.0)
    degrees = int(np.count_nonzero(middle)) - 1
    noise = (1.0 / n + 1.0 / m) / (8.0 * math.log(2.0))
    excess = float(np.sqrt(max(0.0, divergence - degrees * noise)))
    return Distance(float(np.sqrt(divergence)), excess, chi_square_tail(divergence / noise, degrees))


def _relative_entropy(p: Counts, q: Counts) -> float:
    used = p > 0
    return float(np.sum(p[used] * np.log2(p[used] / q[used])))


def kolmogorov_smirnov(reference: Counts, present: Counts) -> Distance:
    """Return the greatest difference of two cumulative distributions over ordered bins.

    Kolmogorov 1933; Smirnov 1939. Bins hide differences inside a bin: the distance is at most one bin's share
    smaller than that of the raw values, and never larger. Its expectation without change is ``0.8687 / sqrt(nm / (n +
    m))`` (mean of Kolmogorov's distribution, ``sqrt(pi / 2) ln 2``).
    """
    n, m = float(reference.sum()), float(present.sum())
    if n <= 0 or m <= 0:
        return Distance(0.0, 0.0, 1.0)
    distance = float(np.abs(np.cumsum(shares(reference)) - np.cumsum(shares(present))).max())
    expected = float(np.sqrt(np.pi / 2) * np.log(2.0) / np.sqrt(n * m / (n + m)))
    return Distance(distance, max(0.0, distance - expected), kolmogorov_tail(distance, n, m))


def wasserstein(
    reference: Counts, present: Counts, reference_values: Counts, present_values: Counts, scale: float
) -> Distance:
    """Return the first Wasserstein distance over ordered bins, in units of ``scale``.

    The area between the two cumulative distributions (Vallender 1974, *Theory of Probability and Its Applications* 18:
    784-786), each bin's rows at their mean.

    Parameters
    ----------
    reference_values, present_values : array of shape (n_bins,)
        Mean value of the rows in each bin; not read where there are none.
    scale : float
        The reference's standard deviation, so that columns can be compared; 0 counts as 1.

    Notes
    -----
    Expected without change is the integral of ``sqrt(2 F (1 - F) / pi)`` times ``sqrt(1/n + 1/m)``, from the normal
    limit of the difference at every value. Its p-value is that of the Kolmogorov-Smirnov test: no limit is free of
    ``F`` here.
    """
    n, m = float(reference.sum()), float(present.sum())
    if n <= 0 or m <= 0:
        return Distance(0.0, 0.0, 1.0)
    held = [counts > 0 for counts in (reference, present)]
    values = np.concatenate([reference_values[held[0]], present_values[held[1]]])
    order = np.argsort(values, kind="stable")
    first = np.concatenate([shares(reference)[held[0]], np.zeros(int(held[1].sum()))])[order]
    second = np.concatenate([np.zeros(int(held[0].sum())), shares(present)[held[1]]])[order]
    below_first, below_second = np.cumsum(first)[:-1], np.cumsum(second)[:-1]
    widths = np.diff(values[order]) / (scale if scale > 0 else 1.0)
    distance = float(np.sum(np.abs(below_first - below_second) * widths))
    both = (n * below_first + m * below_second) / (n + m)
    spread = float(np.sum(np.sqrt(np.maximum(0.0, both * (1.0 - both)) * 2.0 / np.pi) * widths))
    expected = spread * float(np.sqrt(1.0 / n + 1.0 / m))
    return Distance(distance, max(0.0, distance - expected), kolmogorov_smirnov(reference, present).p_value)


def chi_square(reference: Counts, present: Counts) -> Distance:
    """Return Cramér's V of two distributions over the same bins, with the p-value of Pearson's chi-square test.

    Pearson 1900; Cramér 1946, *Mathematical Methods of Statistics*, p. 282; ``excess`` is corrected for bias after
    Bergsma 2013, *Journal of the Korean Statistical Society* 42: 323-328. Bins that are expected to hold fewer than
    five rows on a side are taken together (Cochran 1954, *Biometrics* 10: 417-451).
    """
    statistic, degrees, total = _pearson(reference, present)
    if degrees < 1:
        return Distance(0.0, 0.0, 1.0)
    excess = max(0.0, statistic / total - degrees / (total - 1.0)) if total > 1 else 0.0
    return Distance(float(np.sqrt(statistic / total)), float(np.sqrt(excess)), chi_square_tail(statistic, degrees))


def chi_square_by_degree(first: Counts, second: Counts) -> float:
    """Return Pearson's statistic of two samples over its degrees of freedom: about 1 for those of one distribution.

    For samples of clusters, its expectation is their mean design effect (Rao and Scott 1981, *Journal of the American
    Statistical Association* 76: 221-230).
    """
    statistic, degrees, _ = _pearson(first, second)
    return statistic / degrees if degrees else 1.0


def _pearson(first: Counts, second: Counts) -> tuple[float, int, float]:
    """Return Pearson's statistic, its degrees of freedom (0 where there is nothing to compare) and the rows."""
    table = _merge_sparse_bins(np.stack([first, second]).astype(np.float64))
    total, rows = float(table.sum()), table.sum(axis=1)
    if table.shape[1] <= 1 or rows.min() <= 0:
        return 0.0, 0, total
    expected = np.outer(rows, table.sum(axis=0)) / total
    return float(np.sum((table - expected) ** 2 / expected)), table.shape[1] - 1, total


def _merge_sparse_bins(table: Counts, least: float = 5.0) -> Counts:
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] <= 1:
        return table
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    sparse = expected.min(axis=0) < least
    if not sparse.any():
        return table
    together = table[:, sparse].sum(axis=1, keepdims=True)
    return np.concatenate([table[:, ~sparse], together], axis=1)


def benjamini_hochberg(p_values: Sequence[float], rate: float) -> list[bool]:
    """Return which of many tests are significant, with a false discovery rate below ``rate``.

    Benjamini and Hochberg 1995, *J. R. Stat. Soc. B* 57: 289-300. When nothing changed at all, ``rate`` is the
    probability of any discovery, however many tests there are.
    """
    if not len(p_values):
        return []
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    passed = values[order] <= rate * np.arange(1, len(values) + 1) / len(values)
    found = np.zeros(len(values), dtype=np.bool_)
    if passed.any():
        found[order[: int(np.flatnonzero(passed)[-1]) + 1]] = True
    return [bool(one) for one in found]
