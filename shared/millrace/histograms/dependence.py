"""How features go together: correlations of scores, which see what no column shows by itself.

A number's score is its rank among the training data's cells, so that one far-off value decides nothing (Spearman 1904,
*American Journal of Psychology* 15: 72-101, on cells); a word's is whether the row has one of the commonest. A missing
value scores the mean, because missing values are watched elsewhere. Sums and cross products of scores add up like all
sketches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
#: Scores that are compared, pair by pair; the pairs grow with the square.
MAX_SCORES = 40
#: Values of one word column that have a score.
MAX_WORD_SCORES = 3
#: A word rarer than this, or commoner than one less it, correlates with nothing that a window could show.
LEAST_SHARE = 0.05
#: Rows below which a correlation is noise.
LEAST_ROWS = 10
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True)
class Score:
    """One score: of a column, and for words of one value.

    Parameters
    ----------
    column : str
        Its name.
    table : float64 array of shape (n_cells,)
        The score of a row in each cell, with mean 0 and deviation 1 in training.
    word : str, default=""
        Which value, for words.
    """

    column: str
    table: Floats
    word: str = ""

    @property
    def name(self) -> str:
        """As messages write it."""
        return f"{self.column} = {self.word}" if self.word else self.column


def number_score(column: str, counts: npt.NDArray[Any]) -> Score | None:
    """Return the rank score of a number by its training counts; None when it has one value only."""
    total = float(counts.sum())
    if total <= 0 or np.count_nonzero(counts) <= 1:
        return None
    shares = counts / total
    ranks = np.cumsum(shares) - shares / 2.0 - 0.5
    deviation = float(np.sqrt(np.sum(shares * ranks**2)))
    return Score(column, ranks / deviation)


def word_scores(column: str, words: Sequence[str], counts: npt.NDArray[Any], rows: int) -> list[Score]:
    """Return the scores of a word column's commonest values by its training counts."""
    scores: list[Score] = []
    for index, word in enumerate(words):
        share = float(counts[index]) / rows if rows else 0.0
        if not LEAST_SHARE <= share <= 1.0 - LEAST_SHARE or len(scores) == MAX_WORD_SCORES:
            continue
        table = np.zeros(len(counts))
        table[index] = 1.0
        scores.append(Score(column, (table - share) / np.sqrt(share * (1.0 - share)), word))
    # Of two values, the second says what the first does.
    return scores[:1] if len(words) == 2 else scores  # noqa: PLR2004  # as the comment says


class ScorePlan:
    """Which scores are compared.

    Parameters
    ----------
    scores : sequence of Score
        At most :data:`MAX_SCORES` are kept.
    """

    def __init__(self, scores: Sequence[Score]) -> None:
        self.scores = tuple(scores[:MAX_SCORES])
        self._by_column: dict[str, list[int]] = {}
        for index, score in enumerate(self.scores):
            self._by_column.setdefault(score.column, []).append(index)

    def __len__(self) -> int:
        return len(self.scores)

    def uses(self, column: str) -> bool:
        """Tell whether any score is of this column."""
        return column in self._by_column

    def positions(self, column: str) -> Sequence[int]:
        """Return the positions of a column's scores."""
        return self._by_column.get(column, ())

    def start(self, rows: int) -> "Scoring":
        """Begin to score rows."""
        return Scoring(self, rows)


class Scoring:
    """The scores of some rows, filled column by column."""

    def __init__(self, plan: ScorePlan, rows: int) -> None:
        self._plan = plan
        self._rows = rows
        # float32 halves the memory; products are taken of a block of rows at a time, and added up in float64.
        self._matrix = np.zeros((len(plan), rows), dtype=np.float32)
        self._sums = np.zeros(len(plan))

    def add(
        self,
        column: str,
        located: npt.NDArray[np.int64],
        known: npt.NDArray[np.bool_],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Score a column by the cells of its known values, and how many of them are in each cell."""
        for position in self._plan.positions(column):
            table = self._plan.scores[position].table
            self._sums[position] = table @ counts
            if len(located) == self._rows:
                # Every cell is in the table; to clip spares a check of each, and a copy.
                np.take(table.astype(np.float32), located, out=self._matrix[position], mode="clip")
            else:
                self._matrix[position, known] = table.astype(np.float32)[located]

    def finish(self) -> "DependenceSketch":
        """Return the sums of the scores and of their products."""
        products = (self._matrix @ self._matrix.T).astype(np.float64)
        return DependenceSketch(self._rows, self._sums, products)


@dataclass(slots=True)
class DependenceSketch:
    """Sums and cross products of scores.

    Parameters
    ----------
    rows : int
        How many rows they are of.
    sums : float64 array of shape (n_scores,)
        Of each score.
    products : float64 array of shape (n_scores, n_scores)
        Of each pair.
    """

    rows: int
    sums: Floats
    products: Floats

    @classmethod
    def empty(cls, size: int) -> Self:
        """Return the sketch of no rows."""
        return cls(0, np.zeros(size), np.zeros((size, size)))

    def add(self, other: "DependenceSketch") -> None:
        """Add another sketch of the same plan."""
        self.rows += other.rows
        self.sums = self.sums + other.sums
        self.products = self.products + other.products

    def correlations(self) -> Floats:
        """Return the correlation of each pair; NaN where a score does not vary."""
        if self.rows < LEAST_ROWS:
            return np.full(self.products.shape, np.nan)
        means = self.sums / self.rows
        covariance = self.products / self.rows - np.outer(means, means)
        deviations = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            correlations = covariance / np.outer(deviations, deviations)
        constant = deviations < _LEAST_DEVIATION
        correlations[constant, :] = correlations[:, constant] = np.nan
        return np.asarray(np.clip(correlations, -1.0, 1.0))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON; the products of each pair once."""
        upper = self.products[np.triu_indices(len(self.sums))]
        return {"rows": self.rows, "sums": self.sums.tolist(), "products": upper.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        size = len(document["sums"])
        products = np.zeros((size, size))
        products[np.triu_indices(size)] = document["products"]
        products = products + np.triu(products, 1).T
        return cls(document["rows"], np.asarray(document["sums"], dtype=np.float64), products)
