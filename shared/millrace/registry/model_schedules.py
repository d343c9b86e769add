"""Schedules follow the spec: created, changed and removed with it."""

from collections.abc import Iterator

from millrace.ports import PURPOSES, Schedule, Schedules
from millrace.registry.store import Registry
from millrace.retry import retry
from millrace.spec import ModelSpec


def follow_spec(model: str, registry: Registry, schedules: Schedules) -> list[str]:
    """Make a model's schedules those of its present spec, also when somebody replaces it meanwhile.

    The spec of a deleted model has none.

    Returns
    -------
    list of str
        Descriptions of the changes.

    Raises ``InvalidInputError`` when an expression is refused; ``ServiceUnavailableError`` when the spec keeps being
    replaced.
    """
    changes: list[str] = []

    def attempt() -> list[str] | None:
        kept = registry.get_spec_record(model)
        changes.extend(apply_schedules(model, kept.spec, schedules))
        return changes if registry.get_spec_record(model).revision == kept.revision else None

    return retry(attempt, f"the spec of {model!r} keeps being changed; its schedules may not follow it yet")


def apply_schedules(model: str, spec: ModelSpec | None, schedules: Schedules) -> list[str]:
    """Make a model's schedules those of a spec (None: none), and describe the changes.

    Again is the same as once, so applying the spec again repairs what failed half-way.

    Raises ``InvalidInputError`` when an expression is refused.
    """
    wanted = {schedule.purpose: schedule for schedule in (_wanted(model, spec) if spec else ())}
    changes: list[str] = []
    for purpose in PURPOSES:
        present, following = schedules.get(model, purpose), wanted.get(purpose)
        if following and following != present:
            schedules.put(following)
        elif present and not following:
            schedules.delete(model, purpose)
        else:
            continue
        changes.append(f"{purpose}: {_describe(present)} -> {_describe(following)}")
    return changes


def _wanted(model: str, spec: ModelSpec) -> Iterator[Schedule]:
    if spec.retraining.schedule:
        yield Schedule(model, "retraining", spec.retraining.schedule, spec.retraining.time_zone)
    if spec.monitoring.schedule and spec.monitoring.enabled:
        yield Schedule(model, "monitoring", spec.monitoring.schedule, spec.monitoring.time_zone)
    if spec.scoring.schedule:
        yield Schedule(model, "scoring", spec.scoring.schedule, spec.scoring.time_zone)


def _describe(schedule: Schedule | None) -> str:
    return f"{schedule.expression} ({schedule.time_zone})" if schedule else "none"
