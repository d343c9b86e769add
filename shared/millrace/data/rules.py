"""What a spec demands of single values: presence, range, set, pattern; found a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.conversion import Converted
from millrace.data.findings import quoted
from millrace.data.raw import RowBatch
from millrace.schema import Column

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Failures:
    """The values of a batch that break one rule of one column.

    Parameters
    ----------
    check : str
        The rule's name.
    demand : str
        What was demanded, so that "should ..." is a sentence.
    mask : bool array of shape (n_rows,)
        Where it is not met.
    """

    check: str
    demand: str
    mask: BoolArray


def broken_rules(column: Column, converted: Converted, batch: RowBatch) -> Iterator[Failures]:
    """Yield the rules of a column that some value of a batch breaks; missing values break only the first.

    Parameters
    ----------
    converted : Converted
        The column's values; cells that are no such values are at fault already.
    """
    rules = column.rules
    stored, bad = converted.stored, converted.bad
    if rules.nullable is False and stored.null_count:
        missing = to_numpy(pc.is_null(stored))
        yield from _if_any("missing_value", "not be missing", missing if bad is None else missing & ~bad)
    if rules.minimum is not None or rules.maximum is not None:
        yield from _out_of_range(column, converted)
    if rules.allowed:
        yield from _if_any(
            "not_allowed", f"be one of {quoted(rules.allowed[:10])}", _not_allowed(column, stored, batch)
        )
    if rules.pattern is not None:
        whole = rf"\A(?:{rules.pattern})\z"
        mask = _by_word(
            _as_words(column, stored, batch), lambda words: pc.invert(pc.match_substring_regex(words, whole))
        )
        yield from _if_any("pattern", f"match {rules.pattern}", mask)


def to_numpy(condition: pa.Array) -> BoolArray:
    """Return an Arrow condition as a mask; null counts as false."""
    if condition.null_count:
        condition = pc.fill_null(condition, False)
    mask: BoolArray = condition.to_numpy(zero_copy_only=False)
    return mask


def _out_of_range(column: Column, converted: Converted) -> Iterator[Failures]:
    stored, numbers = converted.stored, converted.numbers
    low, high = column.rules.minimum, column.rules.maximum
    if numbers is not None:
        if low is not None and numbers.least < low:
            yield Failures("range", f"be at least {_written(low, stored.type)}", numbers.values < low)
        if high is not None and numbers.greatest > high:
            yield Failures("range", f"be at most {_written(high, stored.type)}", numbers.values > high)
    elif pa.types.is_timestamp(stored.type):
        seen = pc.min_max(stored)
        if low is not None and _is_true(pc.less(seen["min"], _bound(low, stored.type))):
            mask = to_numpy(pc.less(stored, _bound(low, stored.type)))
            yield Failures("range", f"be at least {_written(low, stored.type)}", mask)
        if high is not None and _is_true(pc.greater(seen["max"], _bound(high, stored.type))):
            mask = to_numpy(pc.greater(stored, _bound(high, stored.type)))
            yield Failures("range", f"be at most {_written(high, stored.type)}", mask)


def _not_allowed(column: Column, stored: pa.Array, batch: RowBatch) -> BoolArray:
    if pa.types.is_floating(stored.type):
        allowed = pa.array([float(word) for word in column.rules.allowed if _is_number(word)], type=pa.float64())
        return to_numpy(pc.and_(pc.is_valid(stored), pc.invert(pc.is_in(stored, value_set=allowed))))
    allowed = pa.array(column.rules.allowed, type=pa.string())
    words = _as_words(column, stored, batch)
    return _by_word(words, lambda words: pc.and_(pc.is_valid(words), pc.invert(pc.is_in(words, value_set=allowed))))


def _as_words(column: Column, stored: pa.Array, batch: RowBatch) -> pa.Array:
    """Return words as they are, and anything else as the file has it."""
    if pa.types.is_string(stored.type) or pa.types.is_dictionary(stored.type):
        return stored
    return batch.column(column.name) if column.name in batch.names else pa.nulls(len(batch), pa.string())


def _by_word(stored: pa.Array, condition) -> BoolArray:  # type: ignore[no-untyped-def]  # Arrow has no types
    """Judge each different word once; missing ones pass."""
    if not pa.types.is_dictionary(stored.type):
        return to_numpy(condition(stored))
    judged = condition(stored.dictionary)
    if not pc.any(judged).as_py():
        return np.zeros(len(stored), dtype=np.bool_)
    # One word more for the missing ones.
    found = np.append(to_numpy(judged), False)
    indices = pc.fill_null(stored.indices, len(judged)) if stored.null_count else stored.indices
    return np.asarray(found[indices.to_numpy(zero_copy_only=False)])


def _if_any(check: str, demand: str, mask: BoolArray) -> Iterator[Failures]:
    if mask.any():
        yield Failures(check, demand, mask)


def _bound(value: float, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(round(value * 1e6), pa.int64()).cast(kind)


def _written(value: float, kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return datetime.fromtimestamp(value, UTC).isoformat()
    return f"{value:g}"


def _is_true(scalar: pa.Scalar) -> bool:
    return scalar.as_py() is True


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
