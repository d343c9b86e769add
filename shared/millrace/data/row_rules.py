"""Rules that rows must meet: presence, range, set and pattern of a value, and conditions over several columns.

A condition, such as ``start <= end and (amount > 0 or kind == 'refund')``, is turned into calls of ``pyarrow.compute``.
Where a value is missing the condition is unknown, and unknown is no failure, as in SQL.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import listed, quoted
from millrace.data.raw import RowBatch
from millrace.data.typed_table import Converted
from millrace.errors import InvalidInputError
from millrace.quantities import format_number
from millrace.schema import Column
from millrace.spec.expressions import Expression, column_name

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add,
    ast.Sub: pc.subtract,
    ast.Mult: pc.multiply,
    ast.Div: pc.divide,
}

Columns = Mapping[str, pa.Array]


def unmet_rows(expression: Expression, columns: Columns) -> pa.Array:
    """Return a mask of the rows that do not meet a condition, null where unknown.

    Raises ``InvalidInputError`` when the columns' types do not allow it.
    """
    try:
        return pc.invert(_evaluate(expression.tree, columns))
    except (pa.ArrowException, TypeError, AttributeError, ValueError, OverflowError) as fault:
        raise InvalidInputError(f"the expression {expression.text!r} cannot be computed: {fault}") from fault


def _evaluate(node: ast.expr, columns: Columns) -> Any:
    name = column_name(node)
    if name is not None:
        return _column(name, columns)
    if isinstance(node, ast.Constant):
        return pa.scalar(float(node.value) if type(node.value) is int else node.value)
    if isinstance(node, ast.Compare):
        return _evaluate_comparison(node, columns)
    if isinstance(node, ast.BoolOp):
        combine = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
        result = _evaluate(node.values[0], columns)
        for value in node.values[1:]:
            result = combine(result, _evaluate(value, columns))
        return result
    if isinstance(node, ast.BinOp):
        return _ARITHMETIC[type(node.op)](_evaluate(node.left, columns), _evaluate(node.right, columns))
    if isinstance(node, ast.UnaryOp):
        return (pc.invert if isinstance(node.op, ast.Not) else pc.negate)(_evaluate(node.operand, columns))
    raise InvalidInputError(f"{ast.unparse(node)!r} is not supported")


def _evaluate_comparison(node: ast.Compare, columns: Columns) -> Any:
    left = _evaluate(node.left, columns)
    result = None
    for operator, following in zip(node.ops, node.comparators, strict=True):
        right = _evaluate(following, columns)
        met = _COMPARISONS[type(operator)](*_alike(left, right))
        result = met if result is None else pc.and_kleene(result, met)
        left = right
    return result


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Parse a string as a date where it is compared with one."""
    if pa.types.is_timestamp(left.type) and pa.types.is_string(right.type):
        return left, _parse_time(right, left.type)
    if pa.types.is_timestamp(right.type) and pa.types.is_string(left.type):
        return _parse_time(left, right.type), right
    return left, right


def _parse_time(text: Any, kind: pa.DataType) -> Any:
    if not isinstance(text, pa.Scalar):
        raise TypeError("dates are compared with dates, or with a date in quotes")
    try:
        time = datetime.fromisoformat(text.as_py())
    except ValueError as fault:
        raise TypeError(f"{text.as_py()!r} is no date such as 2024-01-31") from fault
    return pa.scalar(time.replace(tzinfo=None), pa.timestamp("us")).cast(kind)


def _column(name: str, columns: Columns) -> pa.Array:
    if name not in columns:
        raise InvalidInputError(f"there is no column {name!r}; the columns are {listed(list(columns))}")
    stored = columns[name]
    return stored.cast(pa.string()) if pa.types.is_dictionary(stored.type) else stored


Positions = npt.NDArray[np.int64]

NO_POSITIONS: Positions = np.empty(0, dtype=np.int64)


def true_positions(condition: pa.Array) -> Positions:
    """Return the positions where an Arrow condition is true; null counts as false."""
    found: Positions = pc.indices_nonzero(condition).to_numpy().view(np.int64)
    return found


def code_positions(encoded: pa.DictionaryArray, strings: Positions) -> Positions:
    """Return the positions of categories, which are given by their positions in the dictionary."""
    if not len(strings):
        return NO_POSITIONS
    # One word more, for the missing ones.
    wanted = np.zeros(len(encoded.dictionary) + 1, dtype=np.bool_)
    wanted[strings] = True
    indices = pc.fill_null(encoded.indices, len(encoded.dictionary)) if encoded.null_count else encoded.indices
    return np.flatnonzero(wanted.take(indices.to_numpy()))


#: Strings that are matched together: where one in a thousand is invalid, that is one group in thirty.
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


def unmatched(strings: pa.Array, pattern: str) -> Positions:
    """Return the positions of the strings that a pattern does not match from end to end; missing ones are left out."""
    if strings.null_count:
        known = true_positions(pc.is_valid(strings))
        return known[unmatched(strings.drop_null(), pattern)]
    if len(strings) > GROUP and _WITHIN_A_LINE.fullmatch(pattern) and not _have_line_breaks(strings):
        suspects = _suspects(strings, pattern)
        return suspects[_unmatched_alone(strings.take(pa.array(suspects)), pattern)]
    return _unmatched_alone(strings, pattern)


def _suspects(strings: pa.Array, pattern: str) -> Positions:
    """Return the positions of all strings in groups that do not match."""
    starts = np.minimum(np.arange(0, len(strings) + GROUP, GROUP, dtype=np.int32), np.int32(len(strings)))
    groups = pc.binary_join(pa.ListArray.from_arrays(starts, strings), "\n")
    lines = rf"\A(?:{pattern})(?:\n(?:{pattern}))*\z"
    try:
        failed = true_positions(pc.invert(pc.match_substring_regex(groups, lines)))
    except pa.ArrowInvalid:
        # Twice the pattern may be more than RE2 takes, where once is not.
        return np.arange(len(strings))
    positions = (failed[:, np.newaxis] * GROUP + np.arange(GROUP)).ravel()
    return positions[positions < len(strings)]


def _unmatched_alone(strings: pa.Array, pattern: str) -> Positions:
    return true_positions(pc.invert(pc.match_substring_regex(strings, rf"\A(?:{pattern})\z")))


def _have_line_breaks(strings: pa.Array) -> bool:
    _, offsets, letters = strings.buffers()
    if letters is None:
        return False
    ends = np.frombuffer(offsets, dtype=np.int32)
    first, last = ends[strings.offset], ends[strings.offset + len(strings)]
    return bool((np.frombuffer(letters, dtype=np.uint8)[first:last] == _NEWLINE).any())


@dataclass(frozen=True, slots=True)
class RuleFailures:
    """Positions of a batch's values that break one rule of one column; the demand completes 'should'."""

    check: str
    demand: str
    positions: Positions


def broken_rules(column: Column, converted: Converted, batch: RowBatch) -> Iterator[RuleFailures]:
    """Yield the rules of a column that some valid value of a batch breaks; missing values break only the first."""
    rules = column.rules
    stored, bad = converted.stored, converted.bad
    if rules.nullable is False and stored.null_count:
        missing = true_positions(pc.is_null(stored))
        yield from _if_any("missing_value", "not be missing", missing if bad is None else missing[~bad[missing]])
    if rules.minimum is not None or rules.maximum is not None:
        yield from _out_of_range(column, converted)
    if rules.allowed:
        demand = f"be one of {'the allowed values' if column.sensitive else quoted(rules.allowed[:10])}"
        values = stored if pa.types.is_floating(stored.type) else _as_strings(column, stored, batch)
        yield from _if_any("not_allowed", demand, _failing(values, partial(_foreign, allowed=rules.allowed)))
    if rules.pattern is not None:
        failing = _failing(_as_strings(column, stored, batch), partial(unmatched, pattern=rules.pattern))
        yield from _if_any("pattern", f"match {rules.pattern}", failing)


#: Python's first and last timestamp, in seconds since 1970.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def _out_of_range(column: Column, converted: Converted) -> Iterator[RuleFailures]:
    stored, numbers, rules = converted.stored, converted.numbers, column.rules
    dates = pa.types.is_timestamp(stored.type)
    if numbers is None and not dates:
        return
    for stated, demand in ((rules.minimum, "least"), (rules.maximum, "most")):
        if stated is None:
            continue
        bound = min(max(stated, _FIRST_SECOND), _LAST_SECOND) if dates else stated
        if numbers is None:
            compare = pc.less if demand == "least" else pc.greater
            failing = true_positions(compare(stored, pa.scalar(round(bound * 1e6), pa.int64()).cast(stored.type)))
        elif numbers.least >= bound if demand == "least" else numbers.greatest <= bound:
            continue  # no value is compared where the extremes are within the range
        else:
            values = numbers.values  # missing ones are NaN, and neither less nor greater than anything
            failing = np.flatnonzero(values < bound if demand == "least" else values > bound)
        written = datetime.fromtimestamp(bound, UTC).isoformat() if dates else format_number(bound, digits=6)
        shown = "the spec's limit" if column.sensitive else written
        yield from _if_any("range", f"be at {demand} {shown}", failing)


def _foreign(values: pa.Array, allowed: tuple[str, ...]) -> Positions:
    """Return the positions of values that are not allowed."""
    return true_positions(pc.invert(pc.is_in(values, value_set=_value_set(allowed, values.type))))


@lru_cache(maxsize=1_000)
def _value_set(allowed: tuple[str, ...], kind: pa.DataType) -> pa.Array:
    """Return the allowed values as an array of a type, and null: a missing value breaks another rule."""
    if not pa.types.is_floating(kind):
        return pa.array([*allowed, None], type=kind)
    values = []
    for string in allowed:
        with suppress(ValueError):
            values.append(float(string))
    return pa.array([*values, None], type=kind)


def _failing(stored: pa.Array, fails: Callable[[pa.Array], Positions]) -> Positions:
    """Return the positions of the values that fail a test, which sees each category once."""
    if pa.types.is_dictionary(stored.type):
        return code_positions(stored, fails(stored.dictionary))
    return fails(stored)


def _as_strings(column: Column, stored: pa.Array, batch: RowBatch) -> pa.Array:
    """Return words as they are, and anything else as the file has it."""
    if pa.types.is_string(stored.type) or pa.types.is_dictionary(stored.type):
        return stored
    return batch.column(column.name) if column.name in batch.names else pa.nulls(len(batch), pa.string())


def _if_any(check: str, demand: str, positions: Positions) -> Iterator[RuleFailures]:
    if len(positions):
        yield RuleFailures(check, demand, positions)
