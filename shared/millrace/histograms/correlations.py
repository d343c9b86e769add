"""Correlations of features: they show changes of a relation that no single column shows.

Columns become scores. The score of a number is its rank among the training data's bins, so that one outlier decides
nothing (Spearman 1904, *American Journal of Psychology* 15: 72-101, on bins); the score of a category is an indicator
of one of the most frequent values. A missing value scores the mean, because data quality covers missing values.
Sums and cross products of scores add up over hours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import Histogram

Floats = npt.NDArray[np.float64]
#: Limit of scores; the number of pairs grows with the square.
MAX_SCORES = 40
_MAX_CATEGORY_SCORES = 3
#: A category rarer than this, or more frequent than one less it, has no correlation that a window could show.
_MIN_SHARE = 0.05
#: Below this number of rows a correlation is noise.
_MIN_ROWS = 10
#: Scores that deviate less are constant: float32 products leave noise of 1e-3.
_MIN_DEVIATION = 0.01


@dataclass(frozen=True, slots=True)
class Score:
    """Score of each bin of a column, with mean 0 and deviation 1 in training; ``category`` is empty for numbers."""

    column: str
    table: Floats
    category: str = ""

    @property
    def name(self) -> str:
        """Name in messages."""
        return f"{self.column} = {self.category}" if self.category else self.column


def number_score(column: str, counts: npt.NDArray[Any]) -> Score | None:
    """Return the rank score of a number by its training counts; None for a constant."""
    total = float(counts.sum())
    if total <= 0 or np.count_nonzero(counts) <= 1:
        return None
    shares = counts / total
    ranks = np.cumsum(shares) - shares / 2.0 - 0.5
    deviation = float(np.sqrt(np.sum(shares * ranks**2)))
    return Score(column, ranks / deviation)


def category_scores(column: str, categories: Sequence[str], counts: npt.NDArray[Any], rows: int) -> list[Score]:
    """Return the indicator scores of a column's most frequent categories by its training counts."""
    scores: list[Score] = []
    for index, category in enumerate(categories):
        share = float(counts[index]) / rows if rows else 0.0
        if not _MIN_SHARE <= share <= 1.0 - _MIN_SHARE or len(scores) == _MAX_CATEGORY_SCORES:
            continue
        table = np.zeros(len(counts))
        table[index] = 1.0
        scores.append(Score(column, (table - share) / np.sqrt(share * (1.0 - share)), category))
    # Of two values, the second says what the first does.
    return scores[:1] if len(categories) == 2 else scores  # noqa: PLR2004  # as the comment says


class ScorePlan:
    """The scores whose correlations are compared, at most :data:`MAX_SCORES`."""

    def __init__(self, scores: Sequence[Score]) -> None:
        self.scores = tuple(scores[:MAX_SCORES])
        self._by_column: dict[str, list[int]] = {}
        for index, score in enumerate(self.scores):
            self._by_column.setdefault(score.column, []).append(index)

    def __len__(self) -> int:
        return len(self.scores)

    def positions(self, column: str) -> Sequence[int]:
        """Return the positions of a column's scores."""
        return self._by_column.get(column, ())


class ScoreMatrix:
    """Scores of some rows, filled column by column."""

    def __init__(self, plan: ScorePlan, rows: int) -> None:
        self._plan = plan
        self._rows = rows
        # float32 halves the memory; products are taken of a block of rows at a time, and added up in float64.
        self._matrix = np.zeros((len(plan), rows), dtype=np.float32)
        self._sums = np.zeros(len(plan))

    def fill(
        self, column: str, located: npt.NDArray[np.int64], known: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]
    ) -> None:
        """Score a column by the bins of its known values, the mask of these, and their counts by bin."""
        for position in self._plan.positions(column):
            table = self._plan.scores[position].table
            self._sums[position] = table @ counts
            if len(located) == self._rows:
                # Every bin is in the table; to clip spares a check of each, and a copy.
                np.take(table.astype(np.float32), located, out=self._matrix[position], mode="clip")
            else:
                self._matrix[position, known] = table.astype(np.float32)[located]

    def correlation_sums(self) -> "CorrelationSums":
        """Return the sums of the scores and of their products."""
        products = (self._matrix @ self._matrix.T).astype(np.float64)
        return CorrelationSums(rows=self._rows, sums=self._sums, products=products[np.triu_indices(len(self._sums))])


class CorrelationSums(Histogram, frozen=True, kw_only=True):
    """Sums of scores, and of the products of each pair: the upper triangle, row by row."""

    rows: int
    sums: Floats
    products: Floats

    @classmethod
    def empty(cls, size: int) -> "CorrelationSums":
        """Return the sums of no rows."""
        return cls(rows=0, sums=np.zeros(size), products=np.zeros(size * (size + 1) // 2))

    def correlations(self) -> Floats:
        """Return the correlation of each pair, of shape (n_scores, n_scores); NaN where a score is constant."""
        size = len(self.sums)
        if self.rows < _MIN_ROWS:
            return np.full((size, size), np.nan)
        products = np.zeros((size, size))
        products[np.triu_indices(size)] = self.products
        products += np.triu(products, 1).T
        means = self.sums / self.rows
        covariance = products / self.rows - np.outer(means, means)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = covariance / np.outer(deviations, deviations)
        constant = deviations < _MIN_DEVIATION
        correlations[constant, :] = correlations[:, constant] = np.nan
        return np.asarray(np.clip(correlations, -1.0, 1.0))
