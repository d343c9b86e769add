"""Part of a spec on releases: the way in which a new champion comes into service."""

import re
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from millrace.spec.part import SpecPart

Strategy = Literal["all_at_once", "canary", "linear"]
GuardName = Literal["errors", "slow", "refusals", "not_finite"]
GUARDS: tuple[GuardName, ...] = ("errors", "slow", "refusals", "not_finite")

_DURATION = re.compile(r"(\d{1,5})(m|h|d)\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LEAST_BAKE, _LONGEST = timedelta(minutes=5), timedelta(days=60)
#: In percent; the smallest share is one request of a thousand.
_LEAST_STEP, _WHOLE = 0.1, 100.0
_DEFAULT_STEPS = (5.0, 25.0, 50.0)
_DEFAULT_STRIDE = 10.0
_MAX_STEPS = 100


def _read_duration(text: str) -> timedelta:
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write minutes, hours or days, such as 30m, 1h or 14d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _check_bake(text: str) -> str:
    if not _LEAST_BAKE <= _read_duration(text) <= _LONGEST:
        raise ValueError("a stage lasts from 5m, the time between two evaluations, to 60d")
    return text


def _check_duration(text: str) -> str:
    if not timedelta(hours=1) <= _read_duration(text) <= _LONGEST:
        raise ValueError("a release lasts from 1h to 60d at most")
    return text


class GuardSpec(SpecPart):
    """A guard: the candidate's share of bad requests may be ``ratio`` times the champion's.

    ``over_ms`` is the latency from which on a request is slow; None takes the 95th percentile of the day before.
    """

    ratio: float | None = Field(default=None, ge=1.0, le=1_000.0)  # None takes the guard's own
    over_ms: float | None = Field(default=None, gt=0.0, le=30_000.0)


class LinearSteps(SpecPart):
    """Steps at equal distances, in percent."""

    start: Annotated[float, Field(ge=_LEAST_STEP, lt=_WHOLE)] = _DEFAULT_STRIDE
    by: Annotated[float, Field(ge=1.0, lt=_WHOLE)] = _DEFAULT_STRIDE


class ReleaseSpec(SpecPart):
    """Release of a version that passed the gate; ``release: canary`` is short for the strategy alone.

    ``all_at_once`` moves every request at once. ``canary`` moves them by ``steps`` in percent, ``linear`` by equal ones
    (``{start: 10, by: 10}``). A stage lasts ``bake`` at least, and until the candidate was assigned ``min_requests``.
    A guard that finds the candidate worse ends the release at any time.
    """

    strategy: Strategy = "all_at_once"
    steps: tuple[float, ...] | LinearSteps | None = None
    bake: Annotated[str, AfterValidator(_check_bake)] = "1h"
    min_requests: int = Field(default=200, ge=1, le=10_000_000)
    sticky_by: str | None = Field(default=None, min_length=1)  # a column; None takes the id column
    #: By name; a guard that is not named has its defaults, and null switches one off.
    guards: Mapping[str, GuardSpec | None] = Field(default_factory=dict)
    max_duration: Annotated[str, AfterValidator(_check_duration)] = "14d"
    on_undecided: Literal["promote", "rollback", "hold"] = "promote"  # once ``max_duration`` is over

    @model_validator(mode="before")
    @classmethod
    def _read_strategy(cls, value: Any) -> Any:
        return {"strategy": value} if isinstance(value, str) else value

    @field_validator("guards")
    @classmethod
    def _check_guards(cls, guards: Mapping[str, GuardSpec | None]) -> Mapping[str, GuardSpec | None]:
        for name, guard in guards.items():
            if name not in GUARDS:
                raise ValueError(f"there is no guard {name!r}: choose from {', '.join(GUARDS)}")
            if guard is not None and guard.over_ms is not None and name != "slow":
                raise ValueError(f"over_ms belongs to the guard slow, not to {name}: remove it there")
        return guards

    @field_validator("steps", mode="before")
    @classmethod
    def _check_steps(cls, steps: Any) -> Any:
        if not isinstance(steps, list | tuple):
            return steps
        if not 1 <= len(steps) <= _MAX_STEPS:
            raise ValueError(f"a release has 1 to {_MAX_STEPS} steps: write {list(_DEFAULT_STEPS)}")
        for step in steps:
            if isinstance(step, bool) or not isinstance(step, int | float):
                raise ValueError(f"a step is a number of percent: write {list(_DEFAULT_STEPS)}")  # noqa: TRY004 - pydantic reports ValueError alone
            if step > _WHOLE:
                raise ValueError(f"{step} is more than 100 percent: steps are shares of the requests, such as 25")
            if step == _WHOLE:
                raise ValueError("the last step is followed by 100 percent anyway: remove the 100")
            if step < _LEAST_STEP:
                raise ValueError(f"{step} is less than {_LEAST_STEP} percent, the smallest share")
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError(f"steps ascend: write {sorted(set(steps))}")
        return steps

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.strategy == "all_at_once" and self.steps is not None:
            raise ValueError("all_at_once has no steps: remove them, or write strategy: canary")
        if self.strategy == "linear" and isinstance(self.steps, tuple):
            raise ValueError("linear takes steps: {start: 10, by: 10}; a list of steps is for strategy: canary")
        if self.strategy == "canary" and isinstance(self.steps, LinearSteps):
            raise ValueError("canary takes a list of steps, such as [5, 25, 50]; {start, by} is for strategy: linear")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of the candidate by stage, from 0 to 1; the whole is no stage."""
        if self.strategy == "linear":
            linear = self.steps if isinstance(self.steps, LinearSteps) else LinearSteps()
            percents = [linear.start]
            while percents[-1] + linear.by < _WHOLE:
                percents.append(percents[-1] + linear.by)
        else:
            percents = list(self.steps if isinstance(self.steps, tuple) else _DEFAULT_STEPS)
        return tuple(percent / _WHOLE for percent in percents)

    @property
    def bake_time(self) -> timedelta:
        """Least time of a stage."""
        return _read_duration(self.bake)

    @property
    def longest(self) -> timedelta:
        """Time after which an undecided release ends."""
        return _read_duration(self.max_duration)

    def dump(self) -> dict[str, Any]:
        """Return the part as plain JSON."""
        return self.model_dump(mode="json")
