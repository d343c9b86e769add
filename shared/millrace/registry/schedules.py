"""Schedules follow the spec: created, changed and removed with it."""

from collections.abc import Iterator

from millrace.errors import ServiceUnavailableError
from millrace.ports import PURPOSES, Registry, Schedule, Schedules
from millrace.spec import ModelSpec

_MAX_ATTEMPTS = 5


def follow_spec(model: str, registry: Registry, schedules: Schedules) -> list[str]:
    """Make a model's schedules those of its spec as it is kept, also when somebody replaces it meanwhile.

    The spec of a model that was deleted asks for none.

    Returns
    -------
    list of str
        What was changed, in words.

    Raises
    ------
    InvalidInputError
        When an expression is refused.
    ServiceUnavailableError
        When the spec keeps being replaced.
    """
    changes: list[str] = []
    for _ in range(_MAX_ATTEMPTS):
        kept = registry.get_spec_record(model)
        changes += apply_schedules(model, kept.spec, schedules)
        if registry.get_spec_record(model).revision == kept.revision:
            return changes
    raise ServiceUnavailableError(f"the spec of {model!r} keeps being changed; its schedules may not follow it yet")


def apply_schedules(model: str, spec: ModelSpec | None, schedules: Schedules) -> list[str]:
    """Make a model's schedules those that its spec asks for; None asks for none.

    Again is the same as once, so what failed half-way is mended by applying the spec again.

    Returns
    -------
    list of str
        What was changed, in words.

    Raises
    ------
    InvalidInputError
        When an expression is refused.
    """
    wanted = {schedule.purpose: schedule for schedule in (_wanted(model, spec) if spec else ())}
    changes: list[str] = []
    for purpose in PURPOSES:
        present, following = schedules.get(model, purpose), wanted.get(purpose)
        if following and following != present:
            schedules.put(following)
            changes.append(f"{purpose}: {_in_words(present)} -> {_in_words(following)}")
        elif present and not following:
            schedules.delete(model, purpose)
            changes.append(f"{purpose}: {_in_words(present)} -> none")
    return changes


def _wanted(model: str, spec: ModelSpec) -> Iterator[Schedule]:
    if spec.retraining.schedule:
        yield Schedule(model, "retraining", spec.retraining.schedule, spec.retraining.time_zone)
    if spec.monitoring.schedule and spec.monitoring.enabled:
        yield Schedule(model, "monitoring", spec.monitoring.schedule, spec.monitoring.time_zone)


def _in_words(schedule: Schedule | None) -> str:
    return f"{schedule.expression} ({schedule.time_zone})" if schedule else "none"
