"""Retiring a version: it never serves again, and its artifacts may be collected."""

from dataclasses import dataclass
from typing import Literal

from millrace.errors import ConflictError, RunNotFoundError, UnfitVersionError
from millrace.ports import Registry
from millrace.registry.acting import Acting, moment_of_act
from millrace.registry.entities import FINISHED_STATUSES, Act, LedgerEntry, ModelVersion


@dataclass(frozen=True, slots=True)
class Retirement:
    """What became of a version that was to be retired; ``already`` when it was before."""

    model: str
    version: int
    outcome: Literal["retired", "already"]


def retire(model: str, version: int, acting: Acting, *, registry: Registry) -> Retirement:
    """Retire a version, for good.

    Raises
    ------
    ModelNotFoundError, VersionNotFoundError
        When there is none.
    ConflictError
        While an alias points to it or its run goes on, or when an alias moved meanwhile.
    """
    state = registry.get_state(model)
    found = registry.get_version(model, version)
    if found.status == "retired":
        return Retirement(model, version, "already")
    pointing = sorted(alias for alias, pointed in state.aliases.items() if pointed == version)
    if pointing:
        raise ConflictError(f"version {version} of {model!r} is in use: it is the {' and the '.join(pointing)}")
    if _is_running(found, registry):
        raise ConflictError(f"version {version} of {model!r} is in use: run {found.run_id} has not ended")
    entry = LedgerEntry(
        model=model,
        entry_id=f"version-{version}-retired",
        occurred_at=moment_of_act(state, acting.now),
        actor=acting.actor,
        action="model_retired",
        reason=acting.reason,
        details={"version": version, "semantic_version": found.semantic_version},
    )
    try:
        registry.perform(Act(entry, state.revision, retires=version))
    except UnfitVersionError:
        return Retirement(model, version, "already")
    return Retirement(model, version, "retired")


def _is_running(version: ModelVersion, registry: Registry) -> bool:
    """Tell whether the version's run goes on: it may still be registering it, or waiting for an approval."""
    try:
        return registry.get_run(version.model, version.run_id).status not in FINISHED_STATUSES
    except RunNotFoundError:
        return False
