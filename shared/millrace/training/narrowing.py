"""What a spec may change about a search space: other values of its parameters, inside what is known to export."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.spec import ParameterRange
from millrace.training.ranges import Choice, Interval, Range
from millrace.training.search_space import REFUSED_PARAMETERS, SearchSpace


def narrow(
    spaces: Sequence[SearchSpace], wanted: Mapping[str, Mapping[str, ParameterRange]]
) -> tuple[SearchSpace, ...]:
    """Return the spaces with the spec's ranges instead of their own.

    Raises
    ------
    InvalidInputError
        Names every candidate, parameter and value that is not inside a search space, and why one is refused.
    """
    faults = [*_unknown_candidates(spaces, wanted)]
    narrowed = []
    for space in spaces:
        ranges, first = dict(space.ranges), dict(space.first)
        for name, said in wanted.get(space.candidate, {}).items():
            fault = _fault(space, name, said)
            if fault:
                faults.append(FieldError(f"training.parameters.{space.candidate}.{name}", fault))
                continue
            ranges[name] = _as_range(space.ranges[name], said)
            if not _holds(ranges[name], first[name]):
                first[name] = ranges[name].at(0.5)
        narrowed.append(replace(space, ranges=ranges, first=first))
    if faults:
        message = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        raise InvalidInputError(f"the spec's parameters cannot be tried: {message}", faults)
    return tuple(narrowed)


def _unknown_candidates(
    spaces: Sequence[SearchSpace], wanted: Mapping[str, Mapping[str, ParameterRange]]
) -> Iterator[FieldError]:
    known = [space.candidate for space in spaces]
    for name in wanted:
        if name not in known:
            yield FieldError(f"training.parameters.{name}", f"no candidate of this run; these are: {', '.join(known)}")


def _fault(space: SearchSpace, name: str, said: ParameterRange) -> str:
    refused = REFUSED_PARAMETERS.get((space.candidate, name))
    if refused:
        return refused
    if name not in space.ranges:
        return f"not searched; these are: {', '.join(space.ranges) or 'none'}"
    outside = [value for value in _named_values(said) if not _holds(space.ranges[name], value)]
    if outside:
        return f"{', '.join(map(str, outside))} is outside of what is known to export: {space.ranges[name].describe()}"
    if isinstance(space.ranges[name], Choice) and said.values is None:
        return f"a list of values, not a range: {space.ranges[name].describe()}"
    return ""


def _named_values(said: ParameterRange) -> list[Any]:
    values = [said.low, said.high] if said.values is None else list(said.values)
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _holds(known: Range, value: Any) -> bool:
    if isinstance(known, Choice):
        return value in known.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return known.low <= value <= known.high and (not known.whole or float(value).is_integer())


def _as_range(known: Range, said: ParameterRange) -> Range:
    if said.values is None:
        assert isinstance(known, Interval)  # noqa: S101  # _fault has refused a range of anything else
        return replace(known, low=_number(known, said.low), high=_number(known, said.high))
    values = _named_values(said)
    if isinstance(known, Interval):
        values = [_number(known, value) for value in values]
    return Choice(tuple(values))


def _number(known: Interval, value: Any) -> Any:
    return int(value) if known.whole else float(value)
