"""Rows on which a user's graph and its wrapper are compared: the input example, and rows that the schema allows.

The rows that are made have the ranges and categories of training, with missing and unseen values among them, so that
columns in another order, or a value that is read otherwise, show where an example of a few rows would not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import InvalidInputError
from millrace.features import MISSING_STRING, FeatureMatrix, build_features
from millrace.proposals.wrapping import GraphInput
from millrace.schema import Column, TableSchema
from millrace.serving.request import RecordsTable
from millrace.serving.rows import RowReader

MAX_EXAMPLE_BYTES = 5_000_000
MAX_EXAMPLE_ROWS = 1_000
MADE_ROWS = 200
UNSEEN_STRING = "\N{REPLACEMENT CHARACTER} never seen in training"


@dataclass(frozen=True)
class ProbeRows:
    """Rows as typed columns; ``example_rows`` of them, the first, are those of the input example."""

    schema: TableSchema
    columns: Mapping[str, npt.NDArray[Any]]
    n_rows: int
    example_rows: int

    def features(self) -> FeatureMatrix:
        """Return the two matrices of a model of Millrace."""
        return build_features(self.schema, self.columns, self.n_rows, texts=object)

    def feed(self, taken: Sequence[GraphInput], rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
        """Return what a user's graph takes: the columns themselves, not by way of the matrices."""
        feeds = {}
        for one in taken:
            columns = [self.columns[name][rows] for name in one.columns]
            matrix = np.stack(columns, axis=1).astype(one.dtype)
            feeds[one.name] = matrix[:, 0] if one.rank == 1 else matrix
        return feeds

    def complete_rows(self, taken: Sequence[GraphInput]) -> npt.NDArray[np.int64]:
        """Return the rows that lack no whole number: the others have no form in the graph's inputs."""
        complete = np.ones(self.n_rows, dtype=np.bool_)
        for one in taken:
            for name in one.columns if one.is_whole else ():
                complete &= ~np.isnan(self.columns[name])
        return np.flatnonzero(complete)


def read_example(body: bytes, schema: TableSchema) -> ProbeRows:
    """Read an input example, as a request would be read, and add the rows that are made.

    Raises ``InvalidInputError`` when it is no table, or has a value that a request could not have.
    """
    if len(body) > MAX_EXAMPLE_BYTES:
        raise InvalidInputError(f"the input example has {len(body):,} bytes; at most {MAX_EXAMPLE_BYTES:,} are read")
    try:
        document = json.loads(body)
        names, rows = document["columns"], document["data"][:MAX_EXAMPLE_ROWS]
        records = [dict(zip(names, row, strict=True)) for row in rows]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInputError("the input example is no data frame") from error
    if not records:
        raise InvalidInputError("the input example has no rows")
    features = [column.name for column in schema.features]
    # A feature that the graph does not take may be missing; a NaN is written as such.
    table = RecordsTable([{name: _plain(record.get(name)) for name in features} for record in records])
    try:
        example = RowReader(schema).read(table).columns
    except InvalidInputError as error:
        raise InvalidInputError(f"the input example cannot be a request: {error.message}") from error
    generator = np.random.default_rng(0)
    made = {column.name: _make(column, generator) for column in schema.features}
    columns = {name: np.concatenate([example[name], made[name].astype(example[name].dtype)]) for name in features}
    return ProbeRows(schema, columns, len(records) + MADE_ROWS, len(records))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _make(column: Column, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Return values of a column that the schema allows; a tenth of a column with missing values is missing."""
    is_missing = generator.random(MADE_ROWS) < (0.1 if column.nullable else 0.0)
    if column.type == "datetime":
        return np.full(MADE_ROWS, np.datetime64("NaT"), dtype="datetime64[us]")
    if column.type == "text":
        return np.full(MADE_ROWS, MISSING_STRING, dtype=object)
    if column.type == "category":
        known = np.array([*column.categories, UNSEEN_STRING], dtype=object)
        return np.where(is_missing, MISSING_STRING, generator.choice(known, MADE_ROWS))
    if column.type == "boolean":
        numbers = generator.integers(0, 2, MADE_ROWS).astype(np.float64)
    else:
        low, high = column.minimum, column.maximum
        low, high = (-1.0, 1.0) if low is None or high is None else (low, high)
        numbers = low + (high - low) * generator.random(MADE_ROWS)
        numbers = np.round(numbers) if column.type == "integer" else numbers
        # As far as a model's float32 can tell them apart, which the example's own values have to bear.
        centre = column.centre or 0.0
        numbers = (numbers - centre).astype(np.float32).astype(np.float64) + centre
    return np.where(is_missing, np.nan, numbers)
