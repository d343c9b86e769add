"""Part of a spec on releases: the way in which a new champion comes into service."""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from millrace.spec.part import SpecPart

Strategy = Literal["all_at_once", "blue_green", "canary", "linear", "shadow", "ab_test", "bandit"]
#: Strategies that divide the requests by their rewards instead of steps.
_REWARDED: tuple[Strategy, ...] = ("ab_test", "bandit")
#: ``replay``: captured traffic is replayed, and nobody is served by the candidate. ``preload``: environments load it.
StageKind = Literal["replay", "preload", "serve"]

TrafficGuard = Literal["errors", "slow", "refusals", "not_finite"]
ReplayGuard = Literal["quality", "estimate", "output"]
GuardName = Literal["errors", "slow", "refusals", "not_finite", "quality", "estimate", "output"]
#: Guards on the record of traffic; on unless null.
TRAFFIC_GUARDS: tuple[TrafficGuard, ...] = ("errors", "slow", "refusals", "not_finite")
#: Guards on captured rows that are replayed; on where they are named, and ``quality`` where anything is replayed.
REPLAY_GUARDS: tuple[ReplayGuard, ...] = ("quality", "estimate", "output")
GUARDS: tuple[GuardName, ...] = (*TRAFFIC_GUARDS, *REPLAY_GUARDS)
#: Metrics that are means of losses of single rows, so that two versions can be compared row by row.
PAIRED_METRICS = ("accuracy", "brier", "log_loss", "mae", "rmse")

_DURATION = re.compile(r"(\d{1,5})(m|h|d)\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
#: The time between two evaluations.
LEAST_BAKE = timedelta(minutes=5)
_LONGEST = timedelta(days=60)
#: In percent; the smallest share is one request of a thousand.
_LEAST_STEP, _WHOLE = 0.1, 100.0
_DEFAULT_STEPS = (5.0, 25.0, 50.0)
_DEFAULT_STRIDE = 10.0
_MAX_STEPS = 100
_MAX_ARMS = 8
_HALF = 50.0
#: Members of a guard by the guard that they belong to; ``ratio`` belongs to every guard on traffic.
_MEMBERS: Mapping[str, tuple[GuardName, ...]] = {
    "ratio": TRAFFIC_GUARDS,
    "over_ms": ("slow",),
    "metric": ("quality",),
    "margin": ("quality",),
    "drop": ("estimate",),
    "shift": ("output",),
}


def _read_duration(text: str) -> timedelta:
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration: write minutes, hours or days, such as 30m, 1h or 14d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _check_bake(text: str) -> str:
    bake = _read_duration(text)
    if bake and not LEAST_BAKE <= bake <= _LONGEST:
        message = "a stage lasts from 5m, the time between two evaluations, to 60d; 0m ends it by min_requests alone"
        raise ValueError(message)
    return text


def _check_duration(text: str) -> str:
    if not timedelta(hours=1) <= _read_duration(text) <= _LONGEST:
        raise ValueError("from 1h to 60d")
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]


class Stage(NamedTuple):
    """A stage of a release, and the candidate's share of the requests in it, from 0 to 1."""

    kind: StageKind
    weight: float


class GuardSpec(SpecPart):
    """A guard: the candidate's share of bad requests may be ``ratio`` times the champion's.

    ``over_ms`` is the latency from which on a request is slow; None takes the 95th percentile of the day before.
    ``quality`` tolerates a ``metric`` that is worse by ``margin`` on the same labelled rows, ``estimate`` an estimated
    accuracy that is lower by ``drop``, and ``output`` a population stability index of the scores of ``shift``.
    """

    ratio: float | None = Field(default=None, ge=1.0, le=1_000.0)  # None takes the guard's own
    over_ms: float | None = Field(default=None, gt=0.0, le=30_000.0)
    metric: str | None = None  # None takes the task's own: accuracy or mae
    margin: float | None = Field(default=None, ge=0.0)
    drop: float | None = Field(default=None, gt=0.0, lt=1.0)
    shift: float | None = Field(default=None, gt=0.0, le=10.0)

    @field_validator("metric")
    @classmethod
    def _is_paired(cls, metric: str | None) -> str | None:
        if metric is not None and metric not in PAIRED_METRICS:
            raise ValueError(f"{metric!r} cannot be compared row by row: choose from {', '.join(PAIRED_METRICS)}")
        return metric


class LinearSteps(SpecPart):
    """Steps at equal distances, in percent."""

    start: Annotated[float, Field(ge=_LEAST_STEP, lt=_WHOLE)] = _DEFAULT_STRIDE
    by: Annotated[float, Field(ge=1.0, lt=_WHOLE)] = _DEFAULT_STRIDE


class RewardSpec(SpecPart):
    """Reward of a request by its reported outcome: 1 for the class ``outcome``, or a number from ``low`` to ``high``.

    ``reward: converted`` is short for the class alone.
    """

    outcome: str | None = Field(default=None, min_length=1)
    low: float | None = None
    high: float | None = None

    @field_validator("outcome")
    @classmethod
    def _is_no_metric(cls, outcome: str | None) -> str | None:
        if outcome in (*PAIRED_METRICS, "f1", "roc_auc", "average_precision", "r2"):
            raise ValueError(
                f"{outcome} compares predictions with outcomes that no prediction changes, and both versions can "
                "predict the same rows: strategy: shadow with the guard quality needs about a sixth of the labels. "
                "A reward is an outcome that the decision changes, such as converted"
            )
        return outcome

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        numbers = (self.low, self.high)
        if (self.outcome is None) == (numbers == (None, None)):
            raise ValueError("a reward is a class (outcome: converted) or a bounded number (low: 0, high: 200)")
        if self.outcome is None and (self.low is None or self.high is None or self.low >= self.high):
            raise ValueError("a number as reward has both bounds, such as low: 0 and high: 200")
        return self


class ReleaseSpec(SpecPart):
    """Release of a version that passed the gate; ``release: canary`` is short for the strategy alone.

    ``all_at_once`` moves every request at once. ``canary`` moves them by ``steps`` in percent, ``linear`` by equal ones
    (``{start: 10, by: 10}``), ``blue_green`` at once after every environment has loaded the candidate, and keeps the
    champion loaded for ``bake``. ``shadow`` replays captured traffic and moves no request before its end. ``ab_test``
    and ``bandit`` compare rewards. A stage lasts ``bake`` at least (``0m``: no time), and until the candidate was
    assigned ``min_requests``. A guard that finds the candidate worse ends the release at any time.
    """

    strategy: Strategy = "all_at_once"
    steps: tuple[float, ...] | LinearSteps | None = None
    bake: Annotated[str, AfterValidator(_check_bake)] = "1h"
    min_requests: int = Field(default=200, ge=1, le=10_000_000)
    sticky_by: str | None = Field(default=None, min_length=1)  # a column; None takes the id column
    #: Captured traffic that is replayed before anybody is served by the candidate; None replays none first.
    shadow_first: Duration | None = None
    #: By name; a guard that is not named has its defaults, and null switches one off.
    guards: Mapping[str, GuardSpec | None] = Field(default_factory=dict)
    reward: RewardSpec | None = None
    reward_after: Duration = "1d"  # the age from which on a request's reward counts
    #: Of ab_test: smallest difference of the mean reward that matters, as a share of its range.
    effect: float = Field(default=0.02, gt=0.0, lt=1.0)
    floor: float = Field(default=5.0, ge=_LEAST_STEP, le=_HALF)  # of bandit: least share of every arm, in percent
    #: Of bandit: further candidates, by version.
    versions: tuple[Annotated[int, Field(ge=1)], ...] = ()
    max_duration: Duration = "14d"
    on_undecided: Literal["promote", "rollback", "hold"] = "promote"  # once ``max_duration`` is over

    @model_validator(mode="before")
    @classmethod
    def _read_strategy(cls, value: Any) -> Any:
        return {"strategy": value} if isinstance(value, str) else value

    @field_validator("reward", mode="before")
    @classmethod
    def _read_reward(cls, value: Any) -> Any:
        return {"outcome": value} if isinstance(value, str) else value

    @field_validator("guards")
    @classmethod
    def _check_guards(cls, guards: Mapping[str, GuardSpec | None]) -> Mapping[str, GuardSpec | None]:
        for name, guard in guards.items():
            if name not in GUARDS:
                raise ValueError(f"there is no guard {name!r}: choose from {', '.join(GUARDS)}")
            for member in guard.model_fields_set if guard else ():
                if getattr(guard, member) is not None and name not in _MEMBERS[member]:
                    owner = " and ".join(_MEMBERS[member])
                    raise ValueError(f"{member} belongs to the guard {owner}, not to {name}: remove it there")
        return guards

    @field_validator("steps", mode="before")
    @classmethod
    def _check_steps(cls, steps: Any) -> Any:
        if not isinstance(steps, list | tuple):
            return steps
        if not 1 <= len(steps) <= _MAX_STEPS:
            raise ValueError(f"a release has 1 to {_MAX_STEPS} steps: write {list(_DEFAULT_STEPS)}")
        for step in steps:
            if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step):
                raise ValueError(f"a step is a number of percent: write {list(_DEFAULT_STEPS)}")
            if step > _WHOLE:
                raise ValueError(f"{step} is more than 100 percent: steps are shares of the requests, such as 25")
            if step == _WHOLE:
                raise ValueError("the last step is followed by 100 percent anyway: remove the 100")
            if step < _LEAST_STEP:
                raise ValueError(f"{step} is less than {_LEAST_STEP} percent, the smallest share")
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise ValueError(f"steps ascend: write {sorted(set(steps))}")
        return steps

    @field_validator("versions")
    @classmethod
    def _check_versions(cls, versions: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(versions)) < len(versions):
            raise ValueError(f"a version has one arm: write {sorted(set(versions))}")
        if len(versions) > _MAX_ARMS - 2:
            raise ValueError(f"a release has {_MAX_ARMS} arms at most, the champion among them: every one is loaded")
        return versions

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        self._check_steps_of_strategy()
        if self.strategy == "all_at_once" and self.shadow_first:
            raise ValueError("all_at_once replays nothing first: remove shadow_first, or write strategy: shadow")
        rewarded = self.strategy in _REWARDED
        if rewarded and self.reward is None:
            raise ValueError(f"{self.strategy} needs a reward: an outcome that the decision changes, such as converted")
        if not rewarded and self.reward is not None:
            raise ValueError(f"{self.strategy} compares no rewards: remove reward, or write strategy: ab_test")
        if self.versions and self.strategy != "bandit":
            raise ValueError(f"{self.strategy} has one candidate: remove versions, or write strategy: bandit")
        if self.strategy == "bandit" and self.floor * (len(self.versions) + 2) > _WHOLE:
            most = _WHOLE / (len(self.versions) + 2)
            raise ValueError(f"the floors of {len(self.versions) + 2} arms are more than 100 percent: {most:g} at most")
        if self.strategy == "shadow" and "quality" in self.guards and self.guards["quality"] is None:
            raise ValueError("shadow decides by the guards on replayed traffic: do not switch quality off")
        return self

    def _check_steps_of_strategy(self) -> None:
        if self.steps is None:
            return
        if self.strategy in ("all_at_once", "blue_green", "shadow", "bandit"):
            raise ValueError(f"{self.strategy} has no steps: remove them, or write strategy: canary")
        if self.strategy == "linear" and isinstance(self.steps, tuple):
            raise ValueError("linear takes steps: {start: 10, by: 10}; a list of steps is for strategy: canary")
        if self.strategy == "canary" and isinstance(self.steps, LinearSteps):
            raise ValueError("canary takes a list of steps, such as [5, 25, 50]; {start, by} is for strategy: linear")
        if self.strategy == "ab_test" and not (isinstance(self.steps, tuple) and len(self.steps) == 1):
            raise ValueError("ab_test has one share for all its time: write steps: [50]")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages in their order; the whole is none, except that of ``blue_green``, which can return from it."""
        replay = (Stage("replay", 0.0),) if self.shadow_first or self.strategy == "shadow" else ()
        if self.strategy == "shadow":
            return replay
        if self.strategy == "blue_green":
            return (*replay, Stage("preload", 0.0), Stage("serve", 1.0))
        return (*replay, *(Stage("serve", percent / _WHOLE) for percent in self._percents))

    @property
    def _percents(self) -> list[float]:
        if self.strategy == "linear":
            linear = self.steps if isinstance(self.steps, LinearSteps) else LinearSteps()
            percents = [linear.start]
            while percents[-1] + linear.by < _WHOLE:
                percents.append(percents[-1] + linear.by)
            return percents
        if self.strategy == "bandit":
            return [_WHOLE / (len(self.versions) + 2)]
        defaults = (_HALF,) if self.strategy == "ab_test" else _DEFAULT_STEPS
        return list(self.steps if isinstance(self.steps, tuple) else defaults)

    @property
    def weights(self) -> tuple[float, ...]:
        """Shares of the candidate by stage, from 0 to 1."""
        return tuple(stage.weight for stage in self.stages)

    @property
    def traffic_guards(self) -> tuple[TrafficGuard, ...]:
        """The guards on the record of traffic that are on."""
        return tuple(name for name in TRAFFIC_GUARDS if self.guards.get(name, GuardSpec()) is not None)

    @property
    def replay_guards(self) -> dict[ReplayGuard, GuardSpec]:
        """The guards on replayed traffic that are on."""
        default = {"quality": GuardSpec()} if self.shadow_first or self.strategy == "shadow" else {}
        chosen = default | dict(self.guards)
        return {name: guard for name in REPLAY_GUARDS if (guard := chosen.get(name)) is not None}

    @property
    def bake_time(self) -> timedelta:
        """Least time of a stage."""
        return _read_duration(self.bake)

    @property
    def replayed_time(self) -> timedelta:
        """Time before the release whose captured traffic is replayed; a day by default."""
        return _read_duration(self.shadow_first or "1d")

    @property
    def maturity(self) -> timedelta:
        """Age from which on a request's reward counts."""
        return _read_duration(self.reward_after)

    @property
    def longest(self) -> timedelta:
        """Time after which an undecided release ends."""
        return _read_duration(self.max_duration)

    def dump(self) -> dict[str, Any]:
        """Return the part as plain JSON."""
        return self.model_dump(mode="json")
