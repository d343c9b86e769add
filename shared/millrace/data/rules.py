"""What a spec demands of single values: presence, range, set, pattern; found a batch at a time."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import quoted
from millrace.data.raw import RowBatch
from millrace.data.typed_table import Converted
from millrace.schema import Column

Positions = npt.NDArray[np.int64]

NO_POSITIONS: Positions = np.empty(0, dtype=np.int64)


def true_positions(condition: pa.Array) -> Positions:
    """Return where an Arrow condition is true; null counts as false."""
    found: Positions = pc.indices_nonzero(condition).to_numpy().view(np.int64)
    return found


def word_positions(encoded: pa.DictionaryArray, words: Positions) -> Positions:
    """Return where one of some words stands, which are given by their positions in the dictionary."""
    if not len(words):
        return NO_POSITIONS
    # One word more, for the missing ones.
    wanted = np.zeros(len(encoded.dictionary) + 1, dtype=np.bool_)
    wanted[words] = True
    indices = pc.fill_null(encoded.indices, len(encoded.dictionary)) if encoded.null_count else encoded.indices
    return np.flatnonzero(wanted.take(indices.to_numpy()))


#: Words that are looked at together: where one in a thousand is at fault, that is one group in thirty.
GROUP = 32

_NEWLINE = 10
#: What matches no line break, whatever it is put together to: no negation, no flags, no named or escaped classes but
#: digits and letters.
_WITHIN_A_LINE = re.compile(
    r"(?:[A-Za-z0-9_ @#%&=:;,!<>/|){}\]*+?.-]"
    r"|\((?!\?)"
    r"|\[(?![\^:])"
    r"|\\[dw.+*?|()\[\]{}/-])+"
)


def unmatched(words: pa.Array, pattern: str) -> Positions:
    """Return the positions of the words that a pattern does not match from end to end; missing ones are none."""
    if words.null_count:
        known = true_positions(pc.is_valid(words))
        return known[unmatched(words.drop_null(), pattern)]
    if len(words) > GROUP and _WITHIN_A_LINE.fullmatch(pattern) and not _have_line_breaks(words):
        suspects = _suspects(words, pattern)
        return suspects[_unmatched_alone(words.take(pa.array(suspects)), pattern)]
    return _unmatched_alone(words, pattern)


def _suspects(words: pa.Array, pattern: str) -> Positions:
    """Return the positions of all words in groups that do not match."""
    starts = np.minimum(np.arange(0, len(words) + GROUP, GROUP, dtype=np.int32), np.int32(len(words)))
    groups = pc.binary_join(pa.ListArray.from_arrays(starts, words), "\n")
    lines = rf"\A(?:{pattern})(?:\n(?:{pattern}))*\z"
    try:
        failed = true_positions(pc.invert(pc.match_substring_regex(groups, lines)))
    except pa.ArrowInvalid:
        # Twice the pattern may be more than RE2 takes, where once is not.
        return np.arange(len(words))
    positions = (failed[:, np.newaxis] * GROUP + np.arange(GROUP)).ravel()
    return positions[positions < len(words)]


def _unmatched_alone(words: pa.Array, pattern: str) -> Positions:
    return true_positions(pc.invert(pc.match_substring_regex(words, rf"\A(?:{pattern})\z")))


def _have_line_breaks(words: pa.Array) -> bool:
    _, offsets, letters = words.buffers()
    if letters is None:
        return False
    ends = np.frombuffer(offsets, dtype=np.int32)
    first, last = ends[words.offset], ends[words.offset + len(words)]
    return bool((np.frombuffer(letters, dtype=np.uint8)[first:last] == _NEWLINE).any())


@dataclass(frozen=True, slots=True)
class Failures:
    """The values of a batch that break one rule of one column.

    Parameters
    ----------
    check : str
        The rule's name.
    demand : str
        What was demanded, so that "should ..." is a sentence.
    positions : int64 array of shape (n_failures,)
        Where they are.
    """

    check: str
    demand: str
    positions: Positions


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
        missing = true_positions(pc.is_null(stored))
        yield from _if_any("missing_value", "not be missing", missing if bad is None else missing[~bad[missing]])
    if rules.minimum is not None or rules.maximum is not None:
        yield from _out_of_range(column, converted)
    if rules.allowed:
        demand = f"be one of {quoted(rules.allowed[:10])}"
        yield from _if_any("not_allowed", demand, _not_allowed(column, stored, batch))
    if rules.pattern is not None:
        yield from _if_any("pattern", f"match {rules.pattern}", _not_matching(column, stored, batch))


def _out_of_range(column: Column, converted: Converted) -> Iterator[Failures]:
    stored, numbers = converted.stored, converted.numbers
    low, high = column.rules.minimum, column.rules.maximum
    if numbers is not None:
        if low is not None and numbers.least < low:
            yield Failures("range", f"be at least {_written(low, stored.type)}", np.flatnonzero(numbers.values < low))
        if high is not None and numbers.greatest > high:
            yield Failures("range", f"be at most {_written(high, stored.type)}", np.flatnonzero(numbers.values > high))
    elif pa.types.is_timestamp(stored.type):
        seen = pc.min_max(stored)
        if low is not None and _is_true(pc.less(seen["min"], _bound(low, stored.type))):
            positions = true_positions(pc.less(stored, _bound(low, stored.type)))
            yield Failures("range", f"be at least {_written(low, stored.type)}", positions)
        if high is not None and _is_true(pc.greater(seen["max"], _bound(high, stored.type))):
            positions = true_positions(pc.greater(stored, _bound(high, stored.type)))
            yield Failures("range", f"be at most {_written(high, stored.type)}", positions)


def _not_allowed(column: Column, stored: pa.Array, batch: RowBatch) -> Positions:
    if pa.types.is_floating(stored.type):
        return _foreign(stored, column.rules.allowed)
    words = _as_words(column, stored, batch)
    if pa.types.is_dictionary(words.type):
        return word_positions(words, _foreign(words.dictionary, column.rules.allowed))
    return _foreign(words, column.rules.allowed)


def _foreign(values: pa.Array, allowed: tuple[str, ...]) -> Positions:
    """Return where values are that are not allowed."""
    return true_positions(pc.invert(pc.is_in(values, value_set=_value_set(allowed, values.type))))


@lru_cache(maxsize=1_000)
def _value_set(allowed: tuple[str, ...], kind: pa.DataType) -> pa.Array:
    """Return what is allowed as values of a type, and null: a missing value breaks another rule."""
    values = [float(word) for word in allowed if _is_number(word)] if pa.types.is_floating(kind) else allowed
    return pa.array([*values, None], type=kind)


def _not_matching(column: Column, stored: pa.Array, batch: RowBatch) -> Positions:
    words, pattern = _as_words(column, stored, batch), column.rules.pattern or ""
    if pa.types.is_dictionary(words.type):
        return word_positions(words, unmatched(words.dictionary, pattern))
    return unmatched(words, pattern)


def _as_words(column: Column, stored: pa.Array, batch: RowBatch) -> pa.Array:
    """Return words as they are, and anything else as the file has it."""
    if pa.types.is_string(stored.type) or pa.types.is_dictionary(stored.type):
        return stored
    return batch.column(column.name) if column.name in batch.names else pa.nulls(len(batch), pa.string())


def _if_any(check: str, demand: str, positions: Positions) -> Iterator[Failures]:
    if len(positions):
        yield Failures(check, demand, positions)


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
