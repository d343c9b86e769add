"""Cells to typed columns, batch by batch, as a schema says."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.cells import (
    ISO_FORMAT,
    Numbers,
    Parsed,
    parse_booleans,
    parse_datetimes,
    parse_numbers,
    parse_strings,
    view_numbers,
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
    numbers : Numbers or None, default=None
        A numeric column's values once more, as numpy sees them.
    """

    stored: pa.Array
    bad: npt.NDArray[np.bool_] | None = None
    numbers: Numbers | None = None


def read_types(columns: Iterable[Column]) -> dict[str, pa.DataType]:
    """Return the type that each column is best read as; booleans, and dates written otherwise, are words at first."""
    return {column.name: _read_type(column) for column in columns}


def _read_type(column: Column) -> pa.DataType:
    kind = storage_type(column)
    if kind == pa.bool_() or (kind == MOMENT and column.formats != (ISO_FORMAT,)):
        return WORDS
    return kind


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
    if typed is not None:
        converted = _convert_typed(column, one_array(typed.unify_dictionaries()), batch)
        if converted is not None:
            return converted
    if column.name not in batch.names:
        return Converted(pa.nulls(len(batch), kind))
    cells = batch.column(column.name)
    return _convert_cells(column, cells, batch.numbers) if kind != WORDS else Converted(cells.dictionary_encode())


def _convert_typed(column: Column, typed: pa.Array, batch: RowBatch) -> Converted | None:
    """Take a column that was read as some type; None when its text has to be looked at."""
    kind = storage_type(column)
    if pa.types.is_floating(typed.type):
        numbers = view_numbers(typed)
        if numbers is None or kind != typed.type:
            return None
        return Converted(pc.add(typed, 0.0) if _has_negative_zero(numbers) else typed, None, numbers)
    if pa.types.is_date(typed.type) or typed.type == MOMENT:
        return Converted(typed.cast(MOMENT)) if kind == MOMENT else None
    if pa.types.is_dictionary(typed.type):
        return _convert_words(column, typed, batch)
    cells = one_array(normalise(pa.chunked_array([typed]), batch.missing, nulls_known=batch.nulls_known))
    if kind in (WORDS, pa.bool_(), MOMENT):
        return _convert_words(column, cells.dictionary_encode(), batch)
    return _convert_cells(column, cells, batch.numbers)


def _has_negative_zero(numbers: Numbers) -> bool:
    """Tell whether adding zero would change the bytes: it makes negative zero positive, as where text is parsed."""
    if not numbers.least <= 0.0 <= numbers.greatest:
        return False
    return bool((np.signbit(numbers.values) & (numbers.values == 0.0)).any())


def _convert_words(column: Column, encoded: pa.DictionaryArray, batch: RowBatch) -> Converted:
    """Type the different words once each."""
    distinct = pa.chunked_array([encoded.dictionary])
    words = one_array(normalise(distinct, batch.missing, nulls_known=batch.nulls_known))
    if storage_type(column) == WORDS:
        if words.equals(encoded.dictionary):
            return Converted(encoded)
        return Converted(words.take(encoded.indices).dictionary_encode())
    converted = _convert_cells(column, words, batch.numbers)
    bad = None
    if converted.bad is not None:
        bad = pc.fill_null(pa.array(converted.bad).take(encoded.indices), False).to_numpy(zero_copy_only=False)
    return Converted(converted.stored.take(encoded.indices), bad)


def _convert_cells(column: Column, cells: pa.Array, style: NumberStyle) -> Converted:
    if storage_type(column) == pa.string():
        return Converted(cells)
    parsed = parse_column(column, cells, style)
    missing = np.isnat(parsed.values) if column.type == "datetime" else np.isnan(parsed.values)
    if column.type == "boolean":
        stored = pa.array(np.where(missing, 0.0, parsed.values).astype(np.bool_), mask=missing)
    elif column.type == "datetime":
        stored = pa.array(parsed.values, type=pa.timestamp("us"), mask=missing).cast(MOMENT)
    else:
        stored = pa.array(parsed.values, mask=missing)
    numbers = view_numbers(stored) if pa.types.is_floating(stored.type) else None
    return Converted(stored, parsed.bad if parsed.bad.any() else None, numbers)
