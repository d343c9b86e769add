"""Changes of a known size: `age:+2sd`, `age:*1.5`, `plan:basic=0.9`, `age:missing=0.3`, `label:flip=0.2`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace_cli.errors import RefusedError

Column = npt.NDArray[np.object_]
Columns = Mapping[str, Column]

#: Stands for the target, whatever it is called.
LABEL = "label"

_MOVE = re.compile(r"([+-]\d+(?:\.\d+)?)sd\Z")
_SCALE = re.compile(r"\*(\d+(?:\.\d+)?)\Z")
_SHARE = re.compile(r"(.+)=(0(?:\.\d+)?|1(?:\.0+)?)\Z")
_EXAMPLES = "write age:+2sd, age:*1.5, plan:basic=0.9, age:missing=0.3 or label:flip=0.2"


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of one column.

    Parameters
    ----------
    text : str
        As it was asked for.
    column : str
        Its name; :data:`LABEL` for the target.
    change : callable
        Takes the column's values and a random generator, returns the changed values.
    """

    text: str
    column: str
    change: Callable[[Column, np.random.Generator], Column]


def parse_shift(text: str) -> Shift:
    """Read a shift.

    Raises
    ------
    RefusedError
        When it is none.
    """
    column, colon, what = text.rpartition(":")
    if not colon or not column or not what:
        raise RefusedError(f"{text!r} is no shift", _EXAMPLES)
    if move := _MOVE.match(what):
        return Shift(text, column, lambda values, _: _moved(values, float(move[1]), column))
    if scale := _SCALE.match(what):
        return Shift(text, column, lambda values, _: _scaled(values, float(scale[1]), column))
    if share := _SHARE.match(what):
        word, part = share[1], float(share[2])
        if word == "flip":
            if column != LABEL:
                raise RefusedError("only the label can be flipped", _EXAMPLES)
            return Shift(text, column, lambda values, random: _flipped(values, part, random))
        replacement = None if word == "missing" else word
        return Shift(text, column, lambda values, random: _replaced(values, replacement, part, random))
    raise RefusedError(f"{text!r} is no shift", _EXAMPLES)


def apply_shifts(columns: Columns, shifts: list[Shift], target: str, random: np.random.Generator) -> dict[str, Column]:
    """Return the columns with every shift applied, in their order.

    Raises
    ------
    RefusedError
        When there is no such column, or it does not hold what the shift needs.
    """
    changed = dict(columns)
    for shift in shifts:
        name = target if shift.column == LABEL else shift.column
        if name not in changed:
            raise RefusedError(f"{shift.text!r}: there is no column {name!r}", f"columns: {', '.join(columns)}")
        changed[name] = shift.change(changed[name], random)
    return changed


def _numbers(values: Column, name: str) -> npt.NDArray[np.float64]:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values if value is not None):
        raise RefusedError(f"the column {name!r} holds no numbers", _EXAMPLES)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _moved(values: Column, deviations: float, name: str) -> Column:
    numbers = _numbers(values, name)
    return _like(values, numbers + deviations * float(np.nanstd(numbers)))


def _scaled(values: Column, factor: float, name: str) -> Column:
    return _like(values, _numbers(values, name) * factor)


def _like(values: Column, numbers: npt.NDArray[np.float64]) -> Column:
    """Return numbers as JSON holds them: whole where the column was, nothing where nothing was."""
    whole = all(isinstance(value, int) for value in values if value is not None)
    changed = np.empty(len(values), dtype=object)
    changed[:] = [
        None if np.isnan(number) else round(number) if whole else float(number) for number in numbers.tolist()
    ]
    return changed


def _replaced(values: Column, replacement: Any, share: float, random: np.random.Generator) -> Column:
    changed = values.copy()
    changed[random.random(len(values)) < share] = replacement
    return changed


def _flipped(values: Column, share: float, random: np.random.Generator) -> Column:
    """Give a share of the rows another class than theirs; numbers trade places."""
    changed = values.copy()
    chosen = np.flatnonzero(random.random(len(values)) < share)
    classes = sorted({value for value in values.tolist() if value is not None}, key=str)
    if len(classes) > max(20, len(values) // 2):
        changed[chosen] = values[random.permutation(chosen)]
        return changed
    for row in chosen.tolist():
        others = [value for value in classes if value != values[row]]
        changed[row] = others[random.integers(len(others))] if others else values[row]
    return changed
