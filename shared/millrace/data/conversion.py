"""Cells to typed columns, batch by batch, as a schema says."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.cells import (
    ISO_FORMAT,
    Parsed,
    parse_booleans,
    parse_datetimes,
    parse_numbers,
    parse_strings,
    usable_bounds,
)
from millrace.data.number_style import PLAIN, NumberStyle
from millrace.data.raw import RowBatch, normalise, one_array
from millrace.data.storage import MOMENT, WORDS, is_text, storage_type
from millrace.schema import Column


@dataclass(frozen=True, slots=True)
class Converted:
    """One column of a batch.

    Parameters
    ----------
    stored : pyarrow.Array
        Its values; missing and unparsable ones are null.
    bad : bool array of shape (n_rows,) or None
        Cells that are there but do not parse; None where all do.
    bounds : pyarrow.StructScalar or None, default=None
        The least and the greatest value, where they are known already.
    """

    stored: pa.Array
    bad: npt.NDArray[np.bool_] | None = None
    bounds: pa.StructScalar | None = None


def read_types(columns: Iterable[Column]) -> dict[str, pa.DataType]:
    """Return the type that each column is best read as; booleans and dates have few different words."""
    types = {column.name: storage_type(column) for column in columns}
    return {name: WORDS if kind in (pa.bool_(), MOMENT) else kind for name, kind in types.items()}


def parse_column(column: Column, cells: pa.Array, numbers: NumberStyle = PLAIN) -> Parsed:
    """Type one column's cells as its schema says."""
    if is_text(column):
        return parse_strings(cells)
    if column.type == "boolean":
        return parse_booleans(cells, column.true_values, column.false_values)
    if column.type == "datetime":
        return parse_datetimes(cells, tuple(dict.fromkeys((*column.formats, ISO_FORMAT))))
    return parse_numbers(numbers.rewrite(cells))


def convert(column: Column, batch: RowBatch) -> Converted:
    """Type one column of a batch; a column that the batch has not is missing throughout."""
    kind = storage_type(column)
    typed = batch.typed.get(column.name)
    if typed is not None and pa.types.is_floating(kind):
        numbers = one_array(typed)
        bounds = usable_bounds(numbers)
        if bounds is not None:
            return Converted(numbers, None, bounds)
    elif typed is not None and typed.type == kind == MOMENT:
        return Converted(one_array(typed))
    elif typed is not None and pa.types.is_string(kind):
        return Converted(one_array(normalise(typed, batch.missing)))
    elif typed is not None:
        return _convert_words(column, one_array(typed.unify_dictionaries()), batch.missing)
    if column.name not in batch.names:
        return Converted(pa.nulls(len(batch), kind))
    cells = batch.column(column.name)
    return _convert_cells(column, cells, batch.numbers) if kind != WORDS else Converted(cells.dictionary_encode())


def _convert_words(column: Column, encoded: pa.DictionaryArray, missing: pa.Array | None) -> Converted:
    """Type the different words once each."""
    words = one_array(normalise(pa.chunked_array([encoded.dictionary]), missing))
    if storage_type(column) == WORDS:
        if words.equals(encoded.dictionary):
            return Converted(encoded)
        return Converted(words.take(encoded.indices).dictionary_encode())
    converted = _convert_cells(column, words)
    bad = None
    if converted.bad is not None:
        bad = pc.fill_null(pa.array(converted.bad).take(encoded.indices), False).to_numpy(zero_copy_only=False)
    return Converted(converted.stored.take(encoded.indices), bad)


def _convert_cells(column: Column, cells: pa.Array, numbers: NumberStyle = PLAIN) -> Converted:
    if storage_type(column) == pa.string():
        return Converted(cells)
    parsed = parse_column(column, cells, numbers)
    missing = np.isnat(parsed.values) if column.type == "datetime" else np.isnan(parsed.values)
    if column.type == "boolean":
        stored = pa.array(np.where(missing, 0.0, parsed.values).astype(np.bool_), mask=missing)
    elif column.type == "datetime":
        stored = pa.array(parsed.values, type=pa.timestamp("us"), mask=missing).cast(MOMENT)
    else:
        stored = pa.array(parsed.values, mask=missing)
    return Converted(stored, parsed.bad if parsed.bad.any() else None)
