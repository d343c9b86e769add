"""Support: whether training had rows like those of a window, from histograms and correlations alone.

Beyond it nobody knows a model's quality without ground truth. Three things show that a window is beyond: values that
training did not have, pairs of values that it did not combine, and means that no part of it of some size could have.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from millrace.histograms.bins import CategoryBins, Floats, NumberBins
from millrace.histograms.correlations import CorrelationSums, Score
from millrace.histograms.tables import ColumnHistogram, Reference, TableHistogram

#: Share of a window's rows that may be beyond training.
MAX_BEYOND = 0.05
#: Rows of training that a window has to resemble, and a pair of values has to have.
MIN_ALIKE, MIN_PAIRED = 30.0, 5.0
#: Added to the variance of each score, so that nearly dependent ones decide nothing.
_RIDGE = 0.01
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Support:
    """Distance of a window from training by feature, 0 to 1, and why it is beyond training; empty where it is not."""

    distances: Mapping[str, float]
    reason: str = ""

    @property
    def distance(self) -> float:
        """Distance of the feature that differs most."""
        return max(self.distances.values(), default=0.0)


def measure_support(reference: Reference, window: TableHistogram, ignored: Collection[str]) -> Support:
    """Compare a window with training; ``ignored`` features go on by themselves.

    A distance is the total variation of a feature, less what sampling alone is expected to give.
    """
    distances, beyond = dict[str, float](), list[tuple[float, str]]()
    if not window.rows:
        return Support(distances, "none of the rows has features")
    for name, bins in reference.bins.items():
        if name in ignored:
            continue
        before, now = reference.training.columns[name], window.columns[name]
        first, second = _shares(bins, before), _shares(bins, now)
        noise = np.sqrt(first * (1.0 - first) * (1.0 / window.rows + 1.0 / max(1, reference.training.rows)))
        # The mean of a normal variable's absolute value is sqrt(2 / pi) of its deviation.
        expected = np.sqrt(2.0 / np.pi) * noise.sum() / 2.0
        distances[name] = max(0.0, float(np.abs(second - first).sum() / 2.0 - expected))
        beyond += [(share / window.rows, what) for share, what in _values_beyond(name, bins, before, now)]
    beyond += _pairs_beyond(reference, window, ignored)
    share, what = max(beyond, default=(0.0, ""))
    if share > MAX_BEYOND:
        return Support(distances, f"{share:.0%} of the rows have {what}")
    alike = _rows_alike(reference, window, ignored)
    if alike < MIN_ALIKE:
        return Support(distances, f"at most {alike:,.0f} of training's rows are as these are on average")
    return Support(distances)


def _shares(bins: NumberBins | CategoryBins, column: ColumnHistogram) -> Floats:
    counts = bins.coarse(column.counts) if isinstance(bins, NumberBins) else column.counts.astype(np.float64)
    counts = np.append(counts, column.missing)
    return np.asarray(counts / max(1.0, counts.sum()))


def _values_beyond(
    name: str, bins: NumberBins | CategoryBins, before: ColumnHistogram, now: ColumnHistogram
) -> Iterator[tuple[int, str]]:
    if not before.missing:
        yield now.missing, f"no value of {name!r}, which training always had"
    if isinstance(bins, NumberBins):
        yield now.out_of_range, f"values of {name!r} beyond those of training"
    else:
        named = ", ".join(repr(category) for category in list(now.unseen)[:_NAMED])
        yield int(now.counts[bins.unseen]), f"values of {name!r} that training did not have, for example {named}"


def _pairs_beyond(
    reference: Reference, window: TableHistogram, ignored: Collection[str]
) -> Iterator[tuple[float, str]]:
    """Yield the share of rows of each pair of frequent values that training did not combine.

    Scores of categories have two values, so their sums are counts, and the sums of their products counts of pairs.
    """
    training, present = reference.training.correlations, window.correlations
    scores = reference.plan.scores
    used = [place for place, score in enumerate(scores) if score.category and score.column not in ignored]
    if not used or not training.rows or not present.rows:
        return
    before, now = (_paired_shares(sums, scores, used) for sums in (training, present))
    scarce = before * training.rows < MIN_PAIRED
    for first, second in np.argwhere(np.triu((now > MAX_BEYOND) & scarce, 1)):
        one, other = (scores[used[place % len(used)]] for place in (int(first), int(second)))
        if one.column == other.column:
            continue
        named = " and ".join(
            f"{'' if place < len(used) else 'no '}{score.name!r}"
            for place, score in ((int(first), one), (int(second), other))
        )
        yield float(now[first, second]), f"{named}, which training did not combine"


def _paired_shares(sums: CorrelationSums, scores: tuple[Score, ...], used: list[int]) -> Floats:
    """Return the share of rows of each pair of values, of each value and of its absence: shape (2 n, 2 n)."""
    tables = [scores[place].table for place in used]
    low = np.array([table.min() for table in tables])
    scale = np.array([table.max() for table in tables]) - low
    means, products = sums.sums[used] / sums.rows, _product_matrix(sums)[np.ix_(used, used)] / sums.rows
    present = (means - low) / scale
    both = (products - np.outer(low, means) - np.outer(means, low) + np.outer(low, low)) / np.outer(scale, scale)
    first = present[:, np.newaxis] - both
    neither = 1.0 - present[:, np.newaxis] - present + both
    return np.block([[both, first], [first.T, neither]])


def _product_matrix(sums: CorrelationSums) -> Floats:
    size = len(sums.sums)
    products = np.zeros((size, size))
    products[np.triu_indices(size)] = sums.products
    return np.asarray(products + np.triu(products, 1).T)


def _rows_alike(reference: Reference, window: TableHistogram, ignored: Collection[str]) -> float:
    """Return the most rows that a part of training may have whose means are the window's.

    The mean of a part with the share ``p`` is at a squared Mahalanobis distance of at most ``(1 - p) / p`` from that of
    the whole, since the indicator of the part is no better explained by the scores than by itself.
    """
    training, present = reference.training.correlations, window.correlations
    used = [place for place, score in enumerate(reference.plan.scores) if score.column not in ignored]
    if not used or not training.rows or not present.rows:
        return float(reference.training.rows)
    means = training.sums[used] / training.rows
    covariance = _product_matrix(training)[np.ix_(used, used)] / training.rows - np.outer(means, means)
    shift = present.sums[used] / present.rows - means
    square = float(shift @ np.linalg.solve(covariance + _RIDGE * np.eye(len(used)), shift))
    return reference.training.rows / (1.0 + max(0.0, square - len(used) / present.rows))
