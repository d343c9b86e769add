"""How closely a column goes with the target: one number between 0 and 1 per column, by a measure that suits both.

======================  =====================  ==========================  =======================
column                  binary target          multiclass target           regression target
======================  =====================  ==========================  =======================
number, date            area under the curve   correlation ratio           rank correlation
category, boolean       Cramér's V             Cramér's V                  correlation ratio
======================  =====================  ==========================  =======================

A measure sees one column at a time: what only shows together with another column, it misses.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from millrace.data.findings import Finding, warning
from millrace.data.typed_table import TypedTable, is_text, missing_mask, stored_parts
from millrace.data.values import parse_numbers
from millrace.schema import Column, Task

Measure = Literal["auc", "cramers_v", "correlation_ratio", "spearman"]

#: Rows that associations are computed on; of longer tables a sample is taken.
MAX_ROWS = 100_000
#: A table of so few rows associates with anything.
MIN_ROWS = 10
_SAMPLE_SEED = 20_260_101


@dataclass(frozen=True, slots=True)
class Association:
    """How closely a column goes with the target.

    Parameters
    ----------
    measure : Measure
        What was computed.
    value : float
        Its value; an area under the curve below 0.5 and a negative rank correlation mean "the more, the less".
    strength : float
        Between 0 and 1, to rank columns by.
    """

    measure: Measure
    value: float
    strength: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"measure": self.measure, "value": self.value, "strength": self.strength}


@dataclass(frozen=True, slots=True)
class TargetValues:
    """The target as associations need it, -1 and NaN where it is missing.

    Parameters
    ----------
    task : Task
        Of the model.
    classes : int
        How many there are; 0 for regression.
    values : array of shape (n_rows,)
        Class indices, or quantities.
    """

    task: Task
    classes: int
    values: npt.NDArray[Any]

    @classmethod
    def of(cls, table: TypedTable) -> "TargetValues":
        """Return a table's target."""
        return cls(table.schema.task, len(table.schema.classes), table.target())

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which rows have one."""
        return np.asarray(~np.isnan(self.values) if self.task == "regression" else self.values >= 0)

    @property
    def averaged(self) -> npt.NDArray[np.float64] | None:
        """What a group's average is taken of: the quantity, or 1 for a binary target's second class and 0 else."""
        if self.task == "multiclass":
            return None
        if self.task == "regression":
            return self.values.astype(np.float64)
        return np.where(self.values < 0, np.nan, self.values == 1)

    def take(self, rows: npt.NDArray[Any]) -> "TargetValues":
        """Return the target of some rows."""
        return TargetValues(self.task, self.classes, self.values[rows])


def sample_rows(n_rows: int) -> npt.NDArray[np.int64]:
    """Return the rows that stand for a table: all of them, or the same sample each time, in order."""
    if n_rows <= MAX_ROWS:
        return np.arange(n_rows)
    chosen = np.random.default_rng(_SAMPLE_SEED).choice(n_rows, MAX_ROWS, replace=False, shuffle=False)
    return np.sort(chosen)


def associate(column: Column, values: npt.NDArray[Any], target: TargetValues) -> Association | None:
    """Measure how closely a column goes with the target; None when there is too little to tell.

    Parameters
    ----------
    column : Column
        What the values are.
    values : array of shape (n_rows,)
        As in a :class:`TypedTable`. A missing number is left out; a missing word is a category of its own.
    target : TargetValues
        Of the same rows.
    """
    as_words = is_text(column) or column.type == "boolean"
    kept = target.known if as_words else target.known & ~missing_mask(values)
    values, target = values[kept], target.take(kept)
    if len(values) < MIN_ROWS:
        return None
    if as_words:
        groups = pd.factorize(values, use_na_sentinel=False)[0]
        if target.task == "regression":
            return _of_ratio(correlation_ratio(groups, target.values.astype(np.float64)))
        return _of_v(cramers_v(groups, target.values))
    numbers = values.astype("datetime64[us]").astype(np.int64) / 1e6 if values.dtype.kind == "M" else values
    if target.task == "regression":
        rho = spearman(numbers, target.values)
        return None if rho is None else Association("spearman", rho, abs(rho))
    if target.task == "binary":
        area = area_under_curve(numbers, target.values == 1)
        return None if area is None else Association("auc", area, abs(2 * area - 1))
    return _of_ratio(correlation_ratio(target.values, numbers))


def _of_ratio(value: float | None) -> Association | None:
    return None if value is None else Association("correlation_ratio", value, value)


def _of_v(value: float | None) -> Association | None:
    return None if value is None else Association("cramers_v", value, value)


def area_under_curve(numbers: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float | None:
    """Return the chance that a positive row has the larger number, ties counting half.

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


def cramers_v(groups: npt.NDArray[np.int64], classes: npt.NDArray[np.int64]) -> float | None:
    """Return Cramér's V with the correction for its bias.

    Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", Journal of the Korean Statistical Society 42, 2013.
    None when one of the two has a single value, or a value a row.

    Parameters
    ----------
    groups, classes : int64 array of shape (n_rows,)
        Codes from 0; codes that do not occur do not count.
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


def correlation_ratio(groups: npt.NDArray[np.int64], numbers: npt.NDArray[np.float64]) -> float | None:
    """Return how much of a quantity's variance its groups explain, as a correlation.

    The root of epsilon squared: the squared correlation ratio less what groups explain by chance (Kelley, "An unbiased
    correlation ratio measure", Proceedings of the National Academy of Sciences 21, 1935). None when there is one group,
    one group a row, or nothing to explain.
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


#: With fewer rows a column may predict perfectly by chance.
MIN_ROWS_FOR_LEAKAGE = 50


def find_leakage(table: TypedTable, profile: Mapping[str, Any], threshold: float) -> Iterator[Finding]:
    """Yield the columns that give the target away.

    Parameters
    ----------
    table : TypedTable
        The accepted rows.
    profile : mapping
        Theirs; it has each feature's association with the target.
    threshold : float
        From here on an association is one: the area under the curve (or one minus it) for numbers and a binary
        target, else the association's strength.
    """
    if len(table) < MIN_ROWS_FOR_LEAKAGE:
        return
    for described in profile["columns"]:
        measured = described["association"]
        if measured and _power(measured) >= threshold:
            yield _leak(described["name"], measured, "a feature")
    identifier = table.schema.identifier
    if identifier is not None:
        measured = _of_identifier(table, identifier)
        if measured and _power(measured) >= threshold:
            yield _leak(identifier.name, measured, "the identifier")


def _power(measured: Mapping[str, Any]) -> float:
    value = float(measured["value"])
    return max(value, 1.0 - value) if measured["measure"] == "auc" else float(measured["strength"])


def _leak(name: str, measured: Mapping[str, Any], what: str) -> Finding:
    message = (
        f"{what}, {name!r}, predicts the target nearly perfectly alone ({measured['measure']} "
        f"{measured['value']:.4f}): if it is made from the target, or known only afterwards, say in the spec that "
        f"its role is ignored"
    )
    if what == "the identifier":
        message = (
            f"{what}, {name!r}, gives the target away ({measured['measure']} {measured['value']:.4f}): the rows were "
            "numbered class by class, or their order follows the target"
        )
    return warning("leakage", message, name)


def _of_identifier(table: TypedTable, column: Column) -> dict[str, Any] | None:
    """Measure an identifier that is a number as one; one of words differs in every row and would fit anything."""
    rows = sample_rows(len(table))
    parsed = parse_numbers(_sampled(table, column, rows))
    if parsed.bad_count or bool(np.isnan(parsed.values).all()):
        return None
    as_number = Column(column.name, "number")
    measured = associate(as_number, parsed.values, TargetValues.of(table).take(rows))
    return measured.to_dict() if measured else None


def _sampled(table: TypedTable, column: Column, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return some rows of a column, without holding the others."""
    taken, first = [], 0
    for part in stored_parts(table, column):
        start, end = np.searchsorted(rows, (first, first + len(part)))
        taken.append(part.take(pa.array(rows[start:end] - first)))
        first += len(part)
    return pa.concat_arrays(taken)
