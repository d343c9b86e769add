"""What a schema demands of a request's values, made ready once for a model: each rule is one look at a whole column.

Demands that only a table can meet (uniqueness, a share of missing values) are not made of requests, and neither are
patterns, which are written for an engine that runs in linear time and that serving does not have, nor lists of dates,
which are meant as a file writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import missing_cells
from millrace.schema import Column

Values = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

#: Allowed values that a message lists.
_LISTED = 10


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One demand.

    Parameters
    ----------
    demand : str
        In words, as a bad field's message.
    breaks : callable
        Tells which typed values break it.
    """

    demand: str
    breaks: Callable[[Values], BoolArray]


def value_rules(column: Column) -> tuple[ValueRule, ...]:
    """Return what is demanded of a feature's typed values; nothing when the spec said nothing."""
    rules = column.rules
    found: list[ValueRule] = []
    if rules.nullable is False:
        found.append(ValueRule("may not be missing", missing_cells))
    if column.type in ("integer", "number", "datetime"):
        if rules.minimum is not None:
            found.append(_bound(column, rules.minimum, np.less, "at least"))
        if rules.maximum is not None:
            found.append(_bound(column, rules.maximum, np.greater, "at most"))
    if rules.allowed and column.type != "datetime":
        found.append(_among(column, rules.allowed))
    return tuple(found)


def _bound(column: Column, limit: float, compare: Callable[[Any, Any], Any], words: str) -> ValueRule:
    if column.type == "datetime":
        moment = np.datetime64(round(limit * 1e6), "us")
        shown = f"{datetime.fromtimestamp(limit, UTC):%Y-%m-%dT%H:%M:%SZ}"
        # Comparisons with "not a time" are false, as they are with NaN: a missing value breaks no bound.
        return ValueRule(f"expects {words} {shown}", lambda values: np.asarray(compare(values, moment), np.bool_))
    return ValueRule(f"expects {words} {limit:g}", lambda values: np.asarray(compare(values, limit), np.bool_))


def _among(column: Column, allowed: tuple[str, ...]) -> ValueRule:
    more = f" and {len(allowed) - _LISTED} more" if len(allowed) > _LISTED else ""
    demand = f"expects one of {', '.join(map(repr, allowed[:_LISTED]))}{more}"
    known = _typed(column, allowed)
    return ValueRule(demand, lambda values: ~missing_cells(values) & ~np.isin(values, known))


def _typed(column: Column, allowed: tuple[str, ...]) -> Values:
    """Return the allowed values as the column's values are typed; what is no such value allows nothing."""
    if column.type in ("category", "text"):
        return np.array(allowed, dtype=np.str_)
    if column.type == "boolean":
        true_words = {word.lower() for word in (*column.true_values, "true", "1")}
        false_words = {word.lower() for word in (*column.false_values, "false", "0")}
        lowered = {word.strip().lower() for word in allowed}
        return np.array([*([1.0] if lowered & true_words else []), *([0.0] if lowered & false_words else [])])
    return np.array([number for word in allowed if (number := _number(word)) is not None], dtype=np.float64)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
