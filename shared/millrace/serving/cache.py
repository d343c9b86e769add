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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, ModelNotFoundError, VersionNotFoundError
from millrace.names import CHAMPION
from millrace.routing import AliasPointer, RoutingPlan
from millrace.serving.arms import ActiveRelease
from millrace.serving.model import LoadedModel, ModelSource, load_version

#: A request waits for the refresh of an alias that was confirmed more than this many refresh intervals ago.
STALE_AFTER_INTERVALS = 6
#: The same during a release: its end has to reach an environment that was frozen in between.
STALE_AFTER_INTERVALS_OF_RELEASE = 2
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
    """A served model; ``loaded`` is replaced as a whole, so that a request sees the old or the new version.

    ``release`` routes beside the champion that it names, and no other. It was loaded from the text ``routing``.
    """

    loaded: LoadedModel
    tried_at: float
    confirmed_at: float
    release: ActiveRelease | None = None
    routing: str = ""
    refreshing: bool = False
    failing: bool = False
    refreshed: threading.Event = field(default_factory=threading.Event)


def start_thread(work: Callable[[], None]) -> None:
    """Run ``work`` beside the requests; it does not keep the process alive."""
    threading.Thread(target=work, name="millrace-refresh", daemon=True).start()


class ModelCache:
    """Keeps the ``capacity`` most recently used models.

    Two reads of one alias are at least ``refresh_seconds`` apart on the monotonic ``clock``; ``start`` runs a refresh
    beside the requests. ``preloaded`` has versions, by model and number, that need not be read when an alias names
    them: a version never changes.
    """

    def __init__(
        self,
        source: ModelSource,
        refresh_seconds: float,
        clock: Callable[[], float],
        capacity: int = 8,
        start: Callable[[Callable[[], None]], None] = start_thread,
        *,
        preloaded: Mapping[tuple[str, int], LoadedModel] = MappingProxyType({}),
    ) -> None:
        self._source = source
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._capacity = capacity
        self._start = start
        self._preloaded = preloaded
        self._lock = threading.Lock()
        self._first_load = threading.Lock()
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._events: deque[CacheEvent] = deque(maxlen=_KEPT_EVENTS)
        self._known: set[str] = set()

    def get(self, model: str, version: str = CHAMPION) -> LoadedModel:
        """Return the version to serve, by its number or an alias; raises as its source and ``load_version`` do."""
        return self.find(model, version)[0]

    def find(self, model: str, version: str = CHAMPION) -> tuple[LoadedModel, ActiveRelease | None]:
        """Return the version to serve as :meth:`get` does, and the release that routes beside it."""
        entry = self._find_fresh((model, version))
        release, loaded = entry.release, entry.loaded
        # The thread replaces one after the other.
        return loaded, release if release is not None and release.plan.baseline == loaded.version else None

    def find_current(self, model: str, version: str) -> tuple[LoadedModel, ActiveRelease | None] | None:
        """Return what :meth:`find` does; None where it would load, refresh, wait or have something to report."""
        with self._lock:
            entry = self._entries.get((model, version))
            if (
                entry is None
                or entry.refreshing
                or self._events
                or self._clock() - entry.tried_at >= self._refresh_seconds
            ):
                return None
            self._entries.move_to_end((model, version))
        release, loaded = entry.release, entry.loaded
        return loaded, release if release is not None and release.plan.baseline == loaded.version else None

    def _find_fresh(self, key: tuple[str, str]) -> _Entry:
        entry = self._find(key) or self._load_first(key)
        if self._claim_refresh(entry):
            self._start(lambda: self._refresh(key, entry))
        intervals = STALE_AFTER_INTERVALS if entry.release is None else STALE_AFTER_INTERVALS_OF_RELEASE
        stale_seconds = self._refresh_seconds * intervals
        if entry.refreshing and not entry.failing and self._clock() - entry.confirmed_at > stale_seconds:
            entry.refreshed.wait(STALE_WAIT_SECONDS)
        return entry

    def preload(self, models: Iterable[str]) -> dict[tuple[str, int], LoadedModel]:
        """Load the champions of ``models`` before any request; one that cannot be loaded is left out, with an event."""
        loaded = {}
        for model in models:
            try:
                each = self.get(model)
            except Exception as error:  # noqa: BLE001 - requests for it load it, or say why not
                self._events.append(CacheEvent("refresh_failed", model, CHAMPION, 0, f"not preloaded: {error}"))
            else:
                if each.instead_of is None:
                    loaded[model, each.version] = each
        return loaded

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
                model, version = key
                pointer = AliasPointer(int(version)) if _is_number(version) else self._source.read_alias(model, version)
                if not _is_number(version):
                    self._known.add(model)
                entry = _Entry(self._load(model, version, pointer.version), tried_at=now, confirmed_at=now)
                if pointer.routing:
                    self._load_release(model, entry, pointer.routing)
                with self._lock:
                    self._entries[key] = entry
                    while len(self._entries) > 1 and self._count_loaded() > self._capacity:
                        self._entries.popitem(last=False)
            return entry

    def _count_loaded(self) -> int:
        return sum(1 + (len(entry.release.candidates) if entry.release else 0) for entry in self._entries.values())

    def _served(self, model: str) -> dict[int, LoadedModel]:
        """Return the loaded versions of a model, candidates too, by number."""
        with self._lock:
            entries = [entry for key, entry in self._entries.items() if key[0] == model]
        served = {
            version: loaded for each in entries if each.release for version, loaded in each.release.candidates.items()
        }
        return served | {each.loaded.version: each.loaded for each in entries if each.loaded.instead_of is None}

    def _load_release(self, model: str, entry: _Entry, routing: str) -> None:
        """Load the candidates of a plan, then let it route; one that cannot be loaded is left out, and falls back."""
        try:
            plan = RoutingPlan.read(routing)
        except ValueError as error:
            entry.release, entry.routing = None, routing
            self._events.append(CacheEvent("refresh_failed", model, CHAMPION, entry.loaded.version, str(error)))
            return
        served, candidates = self._served(model), dict[int, LoadedModel]()
        loads_again = False
        for version in (arm.version for arm in plan.arms):
            try:
                candidates[version] = served.get(version) or load_version(self._source, model, version)
            except Exception as error:  # noqa: BLE001 - the champion answers for it, and the release counts that
                loads_again |= not isinstance(error, _DAMAGE)
                reason = f"candidate {version} is not loaded: {type(error).__name__}: {error}"
                self._events.append(CacheEvent("refresh_failed", model, CHAMPION, entry.loaded.version, reason))
        entry.release, entry.routing = ActiveRelease.of(plan, candidates, entry.loaded), "" if loads_again else routing

    def _load(self, model: str, version: str, number: int) -> LoadedModel:
        """Load a version, unless it is already served under another alias or its number."""
        try:
            loaded = self._served(model).get(number)
            if loaded is None and not _is_number(version):  # a number may be that of a version that was retired since
                loaded = self._preloaded.get((model, number))
            loaded = loaded or load_version(self._source, model, number)
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
                version, routing = self._read_pointer(*key)
            except (ModelNotFoundError, VersionNotFoundError) as error:
                with self._lock:
                    self._entries.pop(key, None)
                self._events.append(CacheEvent("withdrawn", *key, serving, str(error)))
                return
            if version != serving:
                entry.loaded = self._served(key[0]).get(version) or load_version(self._source, key[0], version)
                self._events.append(CacheEvent("swapped", *key, version, f"version {serving} served before"))
            elif entry.loaded.instead_of is not None:
                entry.loaded = replace(entry.loaded, instead_of=None)  # a rollback made it the champion
            if not routing:
                entry.release, entry.routing = None, ""
            elif routing != entry.routing:
                self._load_release(key[0], entry, routing)
            entry.confirmed_at = now
            entry.failing = False
        except Exception as error:  # noqa: BLE001 - a thread has no caller to raise to, and the old version serves
            entry.failing = True
            self._events.append(CacheEvent("refresh_failed", *key, serving, f"{type(error).__name__}: {error}"))
        finally:
            entry.refreshing = False
            entry.refreshed.set()

    def _read_pointer(self, model: str, version: str) -> AliasPointer:
        """Return what an alias points to, or the number itself unless that version is retired."""
        if not _is_number(version):
            return self._source.read_alias(model, version)
        self._source.manifest_sha256(model, int(version))
        return AliasPointer(int(version))


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit()
