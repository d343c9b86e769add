"""The holdout's outcomes by their dates: errors of the same time of the year, and how far days differ.

Rows of a day share its weather, or its news, so that they are not independent: a day of any number of rows is one draw
of days. A holdout of many dates shows both, where traffic of a few weeks shows neither.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.histograms.outcomes import MEAN_ERROR, AnyOutcomes
from millrace.histograms.tables import PARTS_OF_YEAR, find_parts_of_year
from millrace.metrics import catalogue
from millrace.schema import TableSchema

Array = npt.NDArray[Any]
#: Least number of days with two rows or more that show how far days differ.
_FEWEST_DAYS = 28


@dataclass(frozen=True, slots=True)
class HoldoutDates:
    """Each row's part of the year and day, by the latest date that covers a year."""

    parts: Array
    days: Array

    @classmethod
    def find(cls, schema: TableSchema, columns: Mapping[str, Array]) -> "HoldoutDates | None":
        """Return the dates of rows; None where no date of theirs that may be read covers a year."""
        names = [column.name for column in schema.features if column.type == "datetime" and not column.sensitive]
        dated = find_parts_of_year({name: columns[name] for name in names if name in columns})
        if dated is None:
            return None
        name, parts = dated
        return cls(parts, columns[name].astype("datetime64[D]").astype(np.int64))

    def count(self, count_rows: Callable[[Array], AnyOutcomes | None]) -> list[AnyOutcomes] | None:
        """Count outcomes by half month; None where they are not kept of so many classes."""
        counted = [count_rows(np.flatnonzero(self.parts == part)) for part in range(PARTS_OF_YEAR)]
        known = [one for one in counted if one is not None]
        return known if len(known) == PARTS_OF_YEAR else None

    def deviations(self, losses: Mapping[str, Array]) -> dict[str, float]:
        """Return how far each metric's true values of days differ, as a standard deviation in its own unit.

        Losses are the rows' by metric. The variance between days is that of a one-way analysis of variance with random
        effects (Searle, Casella and McCulloch 1992, *Variance Components*, chapter 3).
        """
        known = self.parts < PARTS_OF_YEAR
        _, groups, sizes = np.unique(self.days[known], return_inverse=True, return_counts=True)
        rows, days = len(groups), len(sizes)
        if np.count_nonzero(sizes > 1) < _FEWEST_DAYS:
            return {}
        found = {}
        for name, every in losses.items():
            values = every[known].astype(np.float64)
            mean, means = float(values.mean()), np.bincount(groups, values) / sizes
            between = float(sizes @ (means - mean) ** 2) / (days - 1)
            within = float(((values - means[groups]) ** 2).sum()) / max(1, rows - days)
            variance = max(0.0, between - within) / ((rows - float((sizes**2).sum()) / rows) / (days - 1))
            unit = 2.0 * math.sqrt(mean) if name == catalogue.RMSE.name else 1.0
            found[name] = math.sqrt(variance) / unit if unit else 0.0
        return found


def losses_of_values(values: Array, truth: Array) -> dict[str, Array]:
    """Return the rows' losses of a regression by metric: squares for a root of squares."""
    errors = values - truth
    return {catalogue.RMSE.name: errors**2, catalogue.MAE.name: np.abs(errors), MEAN_ERROR: errors}


def losses_of_classes(probabilities: Array, decided: Array, truth: Array) -> dict[str, Array]:
    """Return the rows' losses of a classifier by metric."""
    return {
        catalogue.LOG_LOSS.name: catalogue.LOG_LOSS.row_loss(truth, probabilities),
        catalogue.BRIER.name: catalogue.BRIER.row_loss(truth, probabilities),
        catalogue.ACCURACY.name: np.asarray(decided != truth, dtype=np.float64),
    }
