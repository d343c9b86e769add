"""Cache of the models that are served, kept current without a pause.

A request is answered with the loaded version. Every few seconds a thread beside the requests reads the alias again and
loads the version it moved to; one assignment replaces the old one, which serves on when the registry does not respond
or a version is damaged. Where none is loaded yet and the champion is damaged, the nearest earlier champion that is not
serves instead. A version requested by its number never changes; the thread checks that it is not retired.

An execution environment may be frozen between two requests, and its threads with it. After an idle time the pointer may
be long out of date; then, once, a request waits briefly for the thread before it serves the old version.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, ModelNotFoundError, VersionNotFoundError
from millrace.names import CHAMPION
from millrace.serving.model import LoadedModel, ModelSource, load_version

#: A request waits for the refresh of an alias that was confirmed more than this many refresh intervals ago.
STALE_AFTER_INTERVALS = 6
#: Longest wait of a request for a refresh.
STALE_WAIT_SECONDS = 1.0

_KEPT_EVENTS = 100
_DAMAGE = (ArtifactIntegrityError, ArtifactNotFoundError)


@dataclass(frozen=True, slots=True)
class CacheEvent:
    """A refresh that changed or failed, for the log and the metrics.

    ``swapped``: ``version`` serves now. ``refresh_failed``: ``version`` serves, and not that of the alias, for
    ``reason``.
    ``withdrawn``: the alias is gone, or the version retired, and the cache no longer holds it.
    """

    kind: Literal["swapped", "refresh_failed", "withdrawn"]
    model: str
    alias: str
    version: int
    reason: str = ""


@dataclass(slots=True)
class _Entry:
    """A served model; ``loaded`` is replaced as a whole, so that a request sees the old or the new version."""

    loaded: LoadedModel
    tried_at: float
    confirmed_at: float
    refreshing: bool = False
    failing: bool = False
    refreshed: threading.Event = field(default_factory=threading.Event)


def start_thread(work: Callable[[], None]) -> None:
    """Run ``work`` beside the requests; it does not keep the process alive."""
    threading.Thread(target=work, name="millrace-refresh", daemon=True).start()


class ModelCache:
    """Keeps the ``capacity`` most recently used models.

    Two reads of one alias are at least ``refresh_seconds`` apart on the monotonic ``clock``; ``start`` runs a refresh
    beside the requests.
    """

    def __init__(
        self,
        source: ModelSource,
        refresh_seconds: float,
        clock: Callable[[], float],
        capacity: int = 8,
        start: Callable[[Callable[[], None]], None] = start_thread,
    ) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._capacity = capacity
        self._start = start
        self._lock = threading.Lock()
        self._first_load = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._events: deque[CacheEvent] = deque(maxlen=_KEPT_EVENTS)
        self._known: set[str] = set()

    def get(self, model: str, version: str = CHAMPION) -> LoadedModel:
        """Return the version to serve, by its number or an alias; raises as its source and ``load_version`` do."""
        key = (model, version)
        entry = self._find(key) or self._load_first(key)
        if self._claim_refresh(entry):
            self._start(lambda: self._refresh(key, entry))
        stale_seconds = self._refresh_seconds * STALE_AFTER_INTERVALS
        if entry.refreshing and not entry.failing and self._clock() - entry.confirmed_at > stale_seconds:
            entry.refreshed.wait(STALE_WAIT_SECONDS)
        return entry.loaded

    def knows(self, model: str) -> bool:
        """Return whether the source has named a version of the model before: then the name is not made up."""
        return model in self._known

    def take_events(self) -> list[CacheEvent]:
        """Return the events since the last call, oldest first."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def _find(self, key: tuple[str, str]) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def _load_first(self, key: tuple[str, str]) -> _Entry:
        with self._first_load:  # an environment has one request at a time: no two models wait for each other
            entry = self._find(key)
            if entry is None:
                now = self._clock()
                entry = _Entry(self._load(*key), tried_at=now, confirmed_at=now)
                with self._lock:
                    self._entries[key] = entry
                    while len(self._entries) > self._capacity:
                        self._entries.popitem(last=False)
            return entry

    def _load(self, model: str, version: str) -> LoadedModel:
        """Load a version, unless it is already served under another alias or its number."""
        number = int(version) if _is_number(version) else self._source.alias_version(model, version)
        if not _is_number(version):
            self._known.add(model)
        with self._lock:
            entries = [entry.loaded for key, entry in self._entries.items() if key[0] == model]
        served = {loaded.version: loaded for loaded in entries if loaded.instead_of is None}
        try:
            loaded = served.get(number) or load_version(self._source, model, number)
        except _DAMAGE as error:
            if version != CHAMPION:
                raise
            loaded = self._load_earlier(model, number, error)
        self._known.add(model)
        return loaded

    def _load_earlier(self, model: str, champion: int, damage: Exception) -> LoadedModel:
        """Load the nearest earlier champion that is whole; raises the champion's own error when there is none."""
        for version in self._source.earlier_champions(model, champion):
            with suppress(*_DAMAGE):
                loaded = replace(load_version(self._source, model, version), instead_of=champion)
                reason = f"version {champion} is damaged: {damage}"
                self._events.append(CacheEvent("refresh_failed", model, CHAMPION, version, reason))
                return loaded
        raise damage

    def _claim_refresh(self, entry: _Entry) -> bool:
        """Return whether a refresh is due, and assign it to the caller: no two run at once."""
        with self._lock:
            now = self._clock()
            if entry.refreshing or now - entry.tried_at < self._refresh_seconds:
                return False
            entry.refreshing = True
            entry.tried_at = now
            entry.refreshed.clear()
            return True

    def _refresh(self, key: tuple[str, str], entry: _Entry) -> None:
        serving = entry.loaded.version
        try:
            now = self._clock()
            try:
                version = self._read_pointer(*key)
            except (ModelNotFoundError, VersionNotFoundError) as error:
                with self._lock:
                    self._entries.pop(key, None)
                self._events.append(CacheEvent("withdrawn", *key, serving, str(error)))
                return
            if version != serving:
                entry.loaded = load_version(self._source, key[0], version)
                self._events.append(CacheEvent("swapped", *key, version, f"version {serving} served before"))
            elif entry.loaded.instead_of is not None:
                entry.loaded = replace(entry.loaded, instead_of=None)  # a rollback made it the champion
            entry.confirmed_at = now
            entry.failing = False
        except Exception as error:  # noqa: BLE001 - a thread has no caller to raise to, and the old version serves
            entry.failing = True
            self._events.append(CacheEvent("refresh_failed", *key, serving, f"{type(error).__name__}: {error}"))
        finally:
            entry.refreshing = False
            entry.refreshed.set()

    def _read_pointer(self, model: str, version: str) -> int:
        """Return the version that an alias points to, or the number itself unless that version is retired."""
        if not _is_number(version):
            return self._source.alias_version(model, version)
        self._source.manifest_sha256(model, int(version))
        return int(version)


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit()
