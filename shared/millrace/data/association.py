"""Measure the association of a column with the target: one number between 0 and 1, by a statistic that suits both.

======================  =====================  ==========================  =======================
column                  binary target          multiclass target           regression target
======================  =====================  ==========================  =======================
number, date            area under the curve   correlation ratio           rank correlation
category, boolean       Cramér's V             Cramér's V                  correlation ratio
======================  =====================  ==========================  =======================

Each column is measured alone: interactions of columns are missed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.dataset_documents import Association
from millrace.data.typed_table import TypedTable, is_text
from millrace.features import missing_mask
from millrace.schema import Column, Task

#: Rows that associations are computed on; longer tables are sampled.
MAX_ASSOCIATION_ROWS = 100_000
#: With fewer rows any two columns seem associated.
MIN_ASSOCIATION_ROWS = 10
_SAMPLE_SEED = 20_260_101

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TargetValues:
    """Class indices or quantities of the target, -1 and NaN where it is missing; no classes for regression."""

    task: Task
    classes: int
    values: npt.NDArray[Any]

    @classmethod
    def of(cls, table: TypedTable) -> "TargetValues":
        """Return a table's target."""
        return cls(table.schema.task, len(table.schema.classes), table.target())

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows that have one."""
        return np.asarray(~np.isnan(self.values) if self.task == "regression" else self.values >= 0)

    @property
    def averaged(self) -> npt.NDArray[np.float64] | None:
        """Values to average over groups: the quantity, or 1 for a binary target's second class and 0 otherwise."""
        if self.task == "multiclass":
            return None
        if self.task == "regression":
            return self.values.astype(np.float64)
        return np.where(self.values < 0, np.nan, self.values == 1)

    def take(self, rows: npt.NDArray[Any]) -> "TargetValues":
        """Return the target of some rows."""
        return TargetValues(self.task, self.classes, self.values[rows])


def association_rows(n_rows: int) -> Int64Array:
    """Return the rows to measure: all of them, or the same sample each time, in order."""
    if n_rows <= MAX_ASSOCIATION_ROWS:
        return np.arange(n_rows)
    generator = np.random.default_rng(_SAMPLE_SEED)
    return np.sort(generator.choice(n_rows, MAX_ASSOCIATION_ROWS, replace=False, shuffle=False))


def associate(column: Column, values: npt.NDArray[Any], target: TargetValues) -> Association | None:
    """Measure a column's association with the target; None when there are too few rows or values.

    Rows with a missing number are left out; a missing string is a category.
    """
    categorical = is_text(column) or column.type == "boolean"
    kept = target.known if categorical else target.known & ~missing_mask(values)
    values, target = values[kept], target.take(kept)
    if len(values) < MIN_ASSOCIATION_ROWS:
        return None
    if categorical:
        groups = pd.factorize(values, use_na_sentinel=False)[0]
        if target.task == "regression":
            return _of_strength("correlation_ratio", correlation_ratio(groups, target.values.astype(np.float64)))
        return _of_strength("cramers_v", cramers_v(groups, target.values))
    numbers = values.astype("datetime64[us]").astype(np.int64) / 1e6 if values.dtype.kind == "M" else values
    if target.task == "regression":
        rho = spearman(numbers, target.values)
        return None if rho is None else Association(measure="spearman", value=rho, strength=abs(rho))
    if target.task == "binary":
        area = mann_whitney_area(numbers, target.values == 1)
        return None if area is None else Association(measure="auc", value=area, strength=abs(2 * area - 1))
    return _of_strength("correlation_ratio", correlation_ratio(target.values, numbers))


def _of_strength(measure: str, value: float | None) -> Association | None:
    return None if value is None else Association(measure=measure, value=value, strength=value)


def mann_whitney_area(numbers: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """Return the probability that a positive row has the larger number, ties counting half.

    The Mann-Whitney U statistic over the number of pairs (Hanley and McNeil, "The meaning and use of the area under
    a receiver operating characteristic curve", Radiology 143, 1982). None when all rows are of one class.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    ranks = pd.Series(numbers).rank().to_numpy()
    u = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return u / (n_positive * n_negative)


def spearman(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    """Return the correlation of two columns' ranks (Spearman, "The proof and measurement of association", 1904).

    None when one of them is constant.
    """
    first, second = (ranks - ranks.mean() for ranks in (pd.Series(part).rank().to_numpy() for part in (one, other)))
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    return float(np.clip(np.dot(first, second) / scale, -1.0, 1.0)) if scale else None


def cramers_v(groups: Int64Array, classes: Int64Array) -> float | None:
    """Return Cramér's V of two columns of codes from 0 with the correction for its bias.

    Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", Journal of the Korean Statistical Society 42, 2013.
    None when one of the two has a single value, or a value for each row.
    """
    groups, classes = (np.unique(codes, return_inverse=True)[1] for codes in (groups, classes))
    rows, columns = int(groups.max()) + 1, int(classes.max()) + 1
    if rows == 1 or columns == 1:
        return None
    total = len(groups)
    observed = np.bincount(groups * columns + classes, minlength=rows * columns).reshape(rows, columns)
    margins = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    phi_squared = float((observed.astype(np.float64) ** 2 / margins).sum()) - 1.0
    corrected = max(0.0, phi_squared - (rows - 1) * (columns - 1) / (total - 1))
    fewest = min(n - (n - 1) ** 2 / (total - 1) for n in (rows, columns)) - 1.0
    return min(1.0, float(np.sqrt(corrected / fewest))) if fewest > 0 else None


def correlation_ratio(groups: Int64Array, numbers: npt.NDArray[np.float64]) -> float | None:
    """Return the share of a quantity's variance that its groups explain, as a correlation.

    The root of epsilon squared: the squared correlation ratio less what groups explain by chance (Kelley, "An unbiased
    correlation ratio measure", Proceedings of the National Academy of Sciences 21, 1935). None when there is one group,
    one group for each row, or no variance.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(codes)
    total = len(codes)
    centred = numbers - numbers.mean()
    scatter = float(np.dot(centred, centred))
    if len(counts) == 1 or len(counts) >= total or scatter <= 0.0:
        return None
    between = float((np.bincount(codes, weights=centred) ** 2 / counts).sum())
    unexplained = max(0.0, 1.0 - between / scatter)
    return float(np.sqrt(max(0.0, 1.0 - unexplained * (total - 1) / (total - len(counts)))))
