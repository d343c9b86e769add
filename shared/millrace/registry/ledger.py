"""The ledger: its chain of hashes, what causes leave there, and the events that publish its entries.

Each entry holds its number, the hash of the entry before it, and the hash of its own attributes; the head of the chain
holds the last number and hash, and changes in the transaction that writes an entry. So whoever changes, removes or adds
an entry has to write every later one again, and the head, which :func:`verify_chain` compares. Entries of releases that
had no chain have no number: they count as written before it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from millrace.documents import to_plain
from millrace.entities import Cause, LedgerEntry, ModelState
from millrace.ports import Absent, Compare, Event, Item, Put, StoreChange, Update
from millrace.registry.items import ModelKeys, decode, encode, outbox_key

EVENT_VERSION = 1
#: The ledger of changes of API keys' scopes; no model can have the name.
KEYS_LEDGER = "_keys"
#: Two moves of an alias are at least this far apart.
_TICK = timedelta(microseconds=1)
#: The actions that are published, by the name of the event.
EVENT_NAMES: Mapping[str, str] = {
    "model_registered": "ModelRegistered",
    "model_promoted": "ModelPromoted",
    "model_rolled_back": "ModelRolledBack",
    "model_retired": "ModelRetired",
    "model_deleted": "ModelDeleted",
    "approval_requested": "ApprovalRequested",
    "approval_rejected": "ApprovalRejected",
    "approval_expired": "ApprovalExpired",
    "batch_scored": "BatchScored",
    "batch_failed": "BatchFailed",
    "batch_cancelled": "BatchCancelled",
    "release_started": "ReleaseStarted",
    "release_advanced": "ReleaseAdvanced",
    "release_paused": "ReleasePaused",
    "release_resumed": "ReleaseResumed",
    "release_completed": "ReleaseCompleted",
    "release_rolled_back": "ReleaseRolledBack",
    "release_aborted": "ReleaseAborted",
    "release_superseded": "ReleaseSuperseded",
    "release_expired": "ReleaseExpired",
}


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The actor of a change, the reason for the ledger, and the time."""

    actor: str  # the caller's ARN, or the name of the function
    reason: str
    now: datetime

    def entry(
        self, state: ModelState, entry_id: str, action: str, details: Mapping[str, Any], *earlier: datetime
    ) -> LedgerEntry:
        """Return the ledger entry of a change, later than the last alias move and than ``earlier``."""
        occurred_at = timestamp_after(state, self.now, *earlier)
        return LedgerEntry(state.model, entry_id, occurred_at, self.actor, action, self.reason, details)


def timestamp_after(state: ModelState, now: datetime, *earlier: datetime) -> datetime:
    """Return the timestamp of a change: now, but later than the last alias move and than ``earlier``.

    Clocks differ; the history must be in the order of the revisions.
    """
    known = [*earlier, *([state.aliases_moved_at] if state.aliases_moved_at else [])]
    return max([now, *(timestamp + _TICK for timestamp in known)])


@dataclass(frozen=True, slots=True)
class Append:
    """A change that appends an entry to its model's ledger; only the registry knows the entry before it."""

    entry: LedgerEntry


def chain(entries: Sequence[LedgerEntry], head: Item | None) -> list[StoreChange]:
    """Return the changes that append entries after ``head``, and put those to be published into the outbox.

    The first is the change of the head, which fails when another entry was faster; the others write the entries, and
    fail when they are written already.
    """
    keys = ModelKeys(entries[0].model)
    sequence, before = (head["sequence"], str(head["sha256"])) if head else (0, "")
    written: list[StoreChange] = []
    for entry in entries:
        sequence += 1
        item = {**encode(entry), "sequence": sequence, "previous": before}
        item["sha256"] = before = _hash(item)
        written.append(Put(keys.item("LEDGER", entry.occurred_at, entry.entry_id), item))
        if entry.action in EVENT_NAMES:
            written.append(Put(outbox_key(entry.model, entry.occurred_at, entry.entry_id), encode(entry), replace=True))
    unchanged = Compare("sha256", "=", head["sha256"]) if head else Absent()
    return [Update(keys.chain, {"sequence": sequence, "sha256": before}, conditions=(unchanged,)), *written]


def _hash(item: Item) -> str:
    """Return the SHA-256 of an entry's attributes, all but its keys and the hash itself."""
    attributes = {name: value for name, value in item.items() if name not in ("pk", "sk", "sha256")}
    return hashlib.sha256(json.dumps(attributes, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChainFault:
    """An entry that was changed, is missing or was added; ``sequence`` is its number."""

    kind: Literal["changed", "missing", "inserted"]
    message: str
    sequence: int | None = None
    entry_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """The result of verifying a ledger's chain: numbers of entries in it and before it, and what is wrong."""

    model: str
    entries: int
    before_the_chain: int
    faults: tuple[ChainFault, ...]

    @property
    def is_intact(self) -> bool:
        """True when no entry was changed, removed or added."""
        return not self.faults


def verify_chain(model: str, items: Iterable[Item], head: Item | None) -> ChainVerification:
    """Verify the chain of a model's ledger.

    Parameters
    ----------
    items : iterable of mapping
        Every entry as it is stored.
    head : mapping or None
        The head of the chain; None before the first entry.
    """
    by_sequence, unchained = defaultdict(list), []
    for item in items:
        if "sequence" in item:
            by_sequence[item["sequence"]].append(item)
        else:
            unchained.append(item)
    first = min((item["sk"] for item in by_sequence.get(1, ())), default=None)
    later = [item for item in unchained if first is not None and item["sk"] > first]
    faults = [*_verify_links(by_sequence, head)][::-1]
    faults += [_fault("inserted", "is outside the chain, and later than its first entry", item) for item in later]
    return ChainVerification(model, sum(map(len, by_sequence.values())), len(unchained) - len(later), tuple(faults))


def _verify_links(by_sequence: Mapping[int, list[Item]], head: Item | None) -> Iterator[ChainFault]:
    """Yield what is wrong from the last entry to the first; the one after it, or the head, holds the hash of each."""
    last, expected = (head["sequence"], head["sha256"]) if head else (0, "")
    if by_sequence and head is None:
        yield ChainFault("missing", "the head of the chain is missing")
    for sequence in range(max([last, *by_sequence]), 0, -1):
        found = by_sequence.get(sequence, [])
        genuine = [item for item in found if _hash(item) == (expected or item["sha256"]) and _is_at_home(item)]
        kept = (genuine or found)[:1] if sequence <= last or head is None else []
        yield from (_fault("inserted", "was added to the chain", item) for item in found if item not in kept)
        if not found:
            yield ChainFault("missing", f"entry {sequence} of the chain is missing", sequence)
        elif kept and not genuine:
            yield _fault("changed", "is not what was written", kept[0])
        if sequence <= last or head is None:
            expected = kept[0]["previous"] if kept else ""
        if sequence == 1 and expected:
            yield _fault("changed", "is not the first of the chain", kept[0])


def _is_at_home(item: Item) -> bool:
    entry = decode(LedgerEntry, item)
    key = ModelKeys(entry.model).item("LEDGER", entry.occurred_at, entry.entry_id)
    return (key.partition, key.sort) == (item["pk"], item["sk"])


def _fault(kind: Literal["changed", "inserted"], what: str, item: Item) -> ChainFault:
    entry = decode(LedgerEntry, item)
    name = f"{entry.action} of {entry.occurred_at:%Y-%m-%d %H:%M:%S} UTC"
    return ChainFault(kind, f"{name} {what}", item.get("sequence"), entry.entry_id)


def run_requested(entry: LedgerEntry, run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which started ``run_id``."""
    return replace(entry, action="run_requested", details={**entry.details, "run_id": run_id})


def trigger_deferred(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which waits for ``active_run_id`` to finish."""
    return replace(entry, action="trigger_deferred", details={**entry.details, "waits_for": active_run_id})


def of_incidents(incident_ids: Iterable[str | None]) -> dict[str, list[str]]:
    """Return the details of an entry that incidents of monitoring led to; nothing where none did."""
    known = [incident_id for incident_id in dict.fromkeys(incident_ids) if incident_id]
    return {"incident_ids": known} if known else {}


def trigger_skipped(entry: LedgerEntry, cause: Cause, refusal: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which starts nothing, with the refusal and the cause's reason as fields."""
    details = {**entry.details, "refusal": refusal, "cause_reason": cause.reason}
    reason = f"skipped: {refusal} ({cause.reason})"
    return replace(entry, action="trigger_skipped", reason=reason, details=details)


def trigger_covered(entry: LedgerEntry, cause: Cause, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which ``active_run_id``, requested shortly before, covers already."""
    skipped = trigger_skipped(entry, cause, f"run {active_run_id}, requested shortly before, covers it")
    return replace(skipped, details={**skipped.details, "answered_by": active_run_id})


def to_event(entry: LedgerEntry) -> Event:
    """Return the event of an entry; the same entry always has the same ``event_id``."""
    detail = {
        **to_plain(entry.details),
        "event_version": EVENT_VERSION,
        "event_id": f"{entry.model}/{entry.entry_id}",
        "model": entry.model,
        "occurred_at": to_plain(entry.occurred_at),
        "actor": entry.actor,
        "reason": entry.reason,
    }
    return Event(EVENT_NAMES[entry.action], detail, entry.occurred_at)
