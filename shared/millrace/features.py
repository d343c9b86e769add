"""Typed columns to the two matrices that every model takes: one float32, one of strings.

Training and serving both end here, so a row becomes the same numbers on either way. What belongs to a model
(imputation, encoding, scaling) is not done here but inside the model's own pipeline.

============  ======================  ==========================================================
column type   array given             in the matrices
============  ======================  ==========================================================
integer       float64, NaN missing    ``numbers``: float32
number        float64, NaN missing    ``numbers``: float32
boolean       float64, NaN missing    ``numbers``: 0, 1 or NaN
datetime      datetime64[us], NaT     ``numbers``: :data:`millrace.schema.DATE_PARTS`, NaN missing
category      str, ``''`` missing     ``strings``
============  ======================  ==========================================================
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.schema import DATE_PARTS, TableSchema

#: Days are counted from here, so that float32 keeps them exact to a few minutes for two centuries.
EPOCH = np.datetime64("2000-01-01T00:00:00", "us")

MISSING_STRING = ""

_MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """The two inputs of a model.

    Parameters
    ----------
    numbers : float32 array of shape (n_rows, n_numbers)
        Missing values are NaN.
    strings : str array of shape (n_rows, n_strings)
        Missing values are the empty string.
    """

    numbers: npt.NDArray[np.float32]
    strings: npt.NDArray[Any]

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, rows: npt.NDArray[Any]) -> "FeatureMatrix":
        """Return the rows at these positions (or where this mask is true)."""
        return FeatureMatrix(self.numbers[rows], self.strings[rows])


def missing_cells(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which typed values are missing: NaN, NaT or the empty string."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), dtype=np.bool_)
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values), dtype=np.bool_)
    return np.asarray(values == MISSING_STRING, dtype=np.bool_)


def date_parts(moments: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float32]:
    """Turn moments into numbers.

    Parameters
    ----------
    moments : datetime64[us] array of shape (n_rows,)
        UTC; missing values are NaT.

    Returns
    -------
    float32 array of shape (n_rows, 4)
        Days since 2000-01-01 (with the fraction of the day), month 1-12, weekday 0 (Monday) - 6, hour 0-23.
    """
    moments = moments.astype("datetime64[us]")
    missing = np.isnat(moments)
    known = np.where(missing, EPOCH, moments)
    since_epoch = (known - EPOCH).astype(np.int64)
    days = np.floor_divide(since_epoch, _MICROSECONDS_A_DAY)
    months = known.astype("datetime64[M]").astype(np.int64) % 12 + 1
    parts = np.empty((len(moments), len(DATE_PARTS)), dtype=np.float32)
    parts[:, 0] = since_epoch / _MICROSECONDS_A_DAY
    parts[:, 1] = months
    parts[:, 2] = (days + 5) % 7  # 2000-01-01 was a Saturday
    parts[:, 3] = (since_epoch - days * _MICROSECONDS_A_DAY) // 3_600_000_000
    parts[missing] = np.nan
    return parts


def build_features(schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], n_rows: int) -> FeatureMatrix:
    """Put typed columns into the two matrices, in the schema's order.

    Parameters
    ----------
    schema : TableSchema
        Says which columns are features, and of what type.
    columns : mapping of str to array of shape (n_rows,)
        Typed as the table in the module's docstring says.
    n_rows : int
        So that a table without features still has rows.

    Raises
    ------
    KeyError
        When a feature is not among ``columns``.
    """
    numbers = np.empty((n_rows, len(schema.number_names)), dtype=np.float32)
    string_columns: list[npt.NDArray[Any]] = []
    position = 0
    for column in schema.features:
        values = columns[column.name]
        if column.type == "category":
            string_columns.append(values.astype(np.str_))
        elif column.type == "datetime":
            numbers[:, position : position + len(DATE_PARTS)] = date_parts(values)
            position += len(DATE_PARTS)
        else:
            # Beyond float32's range a number is infinite on purpose: the checks refuse it before it gets here.
            with np.errstate(over="ignore"):
                numbers[:, position] = values
            position += 1
    strings = np.stack(string_columns, axis=1) if string_columns else np.empty((n_rows, 0), dtype=np.str_)
    return FeatureMatrix(numbers, strings)
