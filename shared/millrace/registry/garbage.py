"""Garbage collection: delete the artifacts that nothing refers to any more.

Only these are collected:

* artifacts of a version that was retired ``retention.retired_days`` ago or more, while neither its retirement nor a
  move of an alias from or to it is younger than that, and neither an alias, nor an active release, nor a batch job
  that goes on, points to it;
* artifacts of the trials of a run that ended ``retention.run_days`` ago or more, unless the run is the active one, or
  its version is not retired, or is kept for one of the reasons above.

Retirement is for good, and an alias never points to a retired version: an artifact that may be collected now may be
collected ever after, so nobody can come to need it between the decision and the deletion. Documents stay (manifest,
card, evaluation, signature, records of trials). The buckets are versioned: a deleted object can be recovered for
``NoncurrentVersionDays``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from millrace.entities import FINISHED_BATCHES, FINISHED_STATUSES, LedgerEntry, ModelState, ModelVersion
from millrace.layout import batch_item, runs_prefix, versions_prefix
from millrace.ports import ListedObject, ObjectStore
from millrace.registry.ledger import AuditContext
from millrace.registry.release_changes import find_active_release
from millrace.registry.store import Registry
from millrace.spec.operations import RetentionSpec

#: The names of collected artifacts; everything else is a document, and stays.
ARTIFACTS = frozenset({"model.onnx", "estimator.skops", "reference.json", "background.npz", "mlflow/model.onnx"})
#: Objects that one call deletes; further calls delete more.
MAX_OBJECTS = 5_000
#: Moves of an alias that are read; more than people make in a window of retention.
_MAX_MOVES = 10_000
#: Batch jobs among which those that go on are searched; an execution ends within a day.
_RECENT_JOBS = 200
_TRIAL = re.compile(r"^([^/]+)/([^/]+)/([^/]+)\Z")


@dataclass(frozen=True, slots=True)
class Collection:
    """The result of a collection, or with ``dry_run`` its plan."""

    model: str
    dry_run: bool
    versions: tuple[int, ...]  # the owners of the artifacts
    runs: tuple[str, ...]
    objects: int  # number of objects, and their bytes
    size: int
    is_complete: bool  # false when there is more than one call deletes
    keys: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Garbage:
    """Versions whose artifacts nothing refers to, and runs whose artifacts are kept."""

    versions: frozenset[int]
    kept_runs: frozenset[str]  # runs that something refers to, at any age


def find_garbage(
    state: ModelState,
    versions: Mapping[int, ModelVersion],
    recently_moved: frozenset[int],
    retention: RetentionSpec,
    now: datetime,
) -> Garbage:
    """Find the artifacts that nothing refers to, by the rules of this module.

    Parameters
    ----------
    recently_moved : frozenset of int
        Versions that an alias moved from or to inside the window of ``retention.retired_days``.
    """
    oldest = now - timedelta(days=retention.retired_days)
    referenced = recently_moved | frozenset(state.aliases.values())
    garbage = frozenset(
        number
        for number, version in versions.items()
        if version.status == "retired"
        and version.retired_at is not None
        and version.retired_at <= oldest
        and number not in referenced
    )
    kept = {version.run_id for number, version in versions.items() if number not in garbage}
    if state.active_run_id:
        kept.add(state.active_run_id)
    return Garbage(garbage, frozenset(kept))


def collect(
    model: str, audit: AuditContext, *, registry: Registry, model_store: ObjectStore, dry_run: bool = False
) -> Collection:
    """Delete the artifacts that nothing refers to, or only list them.

    The ledger records them before they are deleted; a call that failed half way is repeated.

    Raises ``ModelNotFoundError`` when there is no such model.
    """
    state = registry.get_state(model)
    retention = registry.get_spec(model).retention
    versions = {version.version: version for version in registry.list_versions(model)}
    oldest_move = audit.now - timedelta(days=retention.retired_days)
    release = find_active_release(state, registry)
    waiting = {state.pending_candidate["version"]} if state.pending_candidate else set[int]()
    in_use = frozenset({*waiting, *(release.versions if release else ())})
    in_use |= _moved_since(state, oldest_move, registry) | _scoring(model, registry)
    garbage = find_garbage(state, versions, in_use, retention, audit.now)
    found = list(_objects_of_versions(model, garbage, model_store))
    found += _objects_of_runs(model, garbage, audit.now - timedelta(days=retention.run_days), registry, model_store)
    taken = found[:MAX_OBJECTS]
    collection = Collection(
        model=model,
        dry_run=dry_run,
        versions=tuple(sorted({owner for owner, _ in taken if isinstance(owner, int)})),
        runs=tuple(sorted({owner for owner, _ in taken if isinstance(owner, str)})),
        objects=len(taken),
        size=sum(listed.size for _, listed in taken),
        is_complete=len(taken) == len(found),
        keys=tuple(listed.key for _, listed in taken),
    )
    if taken and not dry_run:
        registry.append_ledger(_entry(collection, audit))
        model_store.delete(collection.keys)
        for version in collection.versions:
            registry.mark_collected(model, version, audit.now)
    return collection


def _moved_since(state: ModelState, oldest: datetime, registry: Registry) -> frozenset[int]:
    """Return the versions that an alias moved from or to since then; removed aliases had moves too."""
    aliases = {*state.aliases, "champion", "challenger"}
    moves = [move for alias in aliases for move in registry.list_alias_moves(state.model, alias, _MAX_MOVES)]
    recent = [move for move in moves if move.occurred_at > oldest]
    pointed = {number for move in recent for number in (move.from_version, move.to_version)}
    return frozenset(number for number in pointed if number is not None)


def _scoring(model: str, registry: Registry) -> frozenset[int]:
    """Return the versions that batch jobs score with now."""
    first = batch_item(model, "")
    jobs = registry.store.query(first.partition, first.sort, newest_first=True, limit=_RECENT_JOBS, table=first.table)
    return frozenset(job["version"] for job in jobs if job["status"] not in FINISHED_BATCHES)


def _objects_of_versions(
    model: str, garbage: Garbage, store: ObjectStore
) -> "Iterator[tuple[int | str, ListedObject]]":
    for number in sorted(garbage.versions):
        prefix = f"{versions_prefix(model)}{number}/"
        for listed in store.list(prefix):
            if listed.key.removeprefix(prefix) in ARTIFACTS:
                yield number, listed


def _objects_of_runs(
    model: str, garbage: Garbage, oldest: datetime, registry: Registry, store: ObjectStore
) -> "Iterator[tuple[int | str, ListedObject]]":
    prefix = runs_prefix(model)
    matched = ((_TRIAL.match(listed.key.removeprefix(prefix)), listed) for listed in store.list(prefix))
    trials = [
        (match[1], listed)
        for match, listed in matched
        if match and match[3] in ARTIFACTS and match[1] not in garbage.kept_runs
    ]
    # A run that the registry does not know is left alone.
    run_ids = dict.fromkeys(run_id for run_id, _ in trials)
    runs = {run.run_id: run for run in registry.find_runs((model, run_id) for run_id in run_ids)}
    for run_id, listed in trials:
        run = runs.get(run_id)
        if run and run.status in FINISHED_STATUSES and run.finished_at and run.finished_at <= oldest:
            yield run_id, listed


def _entry(collection: Collection, audit: AuditContext) -> LedgerEntry:
    details = {
        "versions": list(collection.versions),
        "runs": list(collection.runs),
        "objects": collection.objects,
        "bytes": collection.size,
    }
    entry_id, actor, reason = f"collected-{audit.now:%Y%m%dT%H%M%S%f}", audit.actor, audit.reason
    return LedgerEntry(collection.model, entry_id, audit.now, actor, "artifacts_collected", reason, details)
