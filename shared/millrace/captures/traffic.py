"""Traffic of a model by the hour: requests, status classes, rows and latency, by version and by arm of a release.

An item an hour in the table of runs, written by the delivery of captures. Every request for predictions is counted
once, failed ones and those outside the sample too. The counts of an hour are a function of the lines delivered for it,
and only grow; therefore they are set rather than added, and a repeated or overtaken delivery changes nothing.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from millrace.captures.records import CountedRequest
from millrace.documents import Record
from millrace.ports import Compare, Key, RegistryStore, Update
from millrace.routing import order_marks

KeyT = TypeVar("KeyT", int, str)

#: Model of the requests whose model no execution environment has read from the registry: anybody could make up names.
UNKNOWN_MODEL = "_unknown"
#: Version of the requests that failed before their version was known.
UNKNOWN_VERSION = 0

#: Most keys of an hour that are kept: the hour is written with every delivery.
_MAX_KEYS = 1_000
_FIRST_ERROR, _FIRST_SERVER_ERROR = 400, 500  # of HTTP's status codes
#: Groups of keys by which latencies are counted: every request has one, and an hour's item stays small.
LATENCY_GROUPS = 32

#: Bins of latency in an octave; bin ``i`` holds latencies from ``2 ** (i / 4)`` up to ``2 ** ((i + 1) / 4)`` ms.
_BINS_OF_AN_OCTAVE = 4
#: 0.25 ms and below, and 32 s and above.
_FIRST_BIN, _LAST_BIN = -8, 60
#: Time that an hour's item is kept: a year, and a month to look back at it.
_RETENTION = timedelta(days=400)


class TrafficCounts(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """Counts of requests; they add up.

    ``statuses`` counts requests by ``2xx``, ``4xx`` and ``5xx``. ``latencies`` counts those with predictions by bin of
    latency, and ``latency_us`` is the sum of their latencies in microseconds. Of the ``rows``, ``refused_rows`` were
    left out as invalid. Of an arm, ``fallbacks`` counts the requests that the champion answered for it, by reason,
    ``not_finite`` those that the champion itself predicted no finite number for, and ``unloaded`` those in environments
    that lacked a candidate. ``keys`` are the marks of the routing keys in a sample of them, each once. Of a candidate's
    arm, ``groups`` counts server errors (``5xx``) and those fallbacks that the request may have caused (``not_finite``)
    by group of keys, and ``latency_groups`` latencies by bin and by group, of :data:`LATENCY_GROUPS`.
    """

    requests: int = 0
    statuses: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the default
    rows: int = 0
    refused_rows: int = 0
    cold_starts: int = 0
    latencies: dict[int, int] = {}  # noqa: RUF012  # as above
    latency_us: int = 0
    fallbacks: dict[str, int] = {}  # noqa: RUF012  # as above
    not_finite: int = 0
    unloaded: int = 0
    keys: frozenset[str] = frozenset()
    groups: dict[str, dict[int, int]] = {}  # noqa: RUF012  # as above
    latency_groups: dict[int, dict[int, int]] = {}  # noqa: RUF012  # as above

    @property
    def errors(self) -> int:
        """Requests that failed with a server error."""
        return self.statuses.get("5xx", 0)

    @property
    def refused(self) -> int:
        """Requests that were refused: errors of the caller."""
        return self.statuses.get("4xx", 0)

    @property
    def mean_latency_ms(self) -> float | None:
        """Mean latency of the requests with predictions; None without any."""
        timed = sum(self.latencies.values())
        return self.latency_us / timed / 1_000 if timed else None

    def slower_than(self, milliseconds: float) -> int:
        """Return the number of requests that took longer than a latency, to the next end of a bin."""
        last = _bin(milliseconds)
        return sum(count for place, count in self.latencies.items() if place > last)

    def slower_by_group(self, milliseconds: float) -> dict[int, int]:
        """Return the numbers of requests of :meth:`slower_than` by group."""
        last = _bin(milliseconds)
        found = Counter[int]()
        for place, counts in self.latency_groups.items():
            if place > last:
                found.update(counts)
        return dict(found)

    def latency_quantile(self, share: float) -> float | None:
        """Return a quantile of latency in ms, interpolated within its bin, so at most 19 % off; None without any."""
        rank, below = share * sum(self.latencies.values()), 0
        for place in sorted(self.latencies):
            count = self.latencies[place]
            if below + count >= rank:
                return float(2.0 ** ((place + (rank - below) / count) / _BINS_OF_AN_OCTAVE))
            below += count
        return None

    def __add__(self, other: "TrafficCounts") -> "TrafficCounts":
        """Return the counts of both."""
        return add_counts((self, other))


def add_counts(many: Iterable[TrafficCounts]) -> TrafficCounts:
    """Return the sum of counts."""
    numbers, statuses, latencies, fallbacks = Counter[str](), Counter[str](), Counter[int](), Counter[str]()
    keys: set[str] = set()
    groups: defaultdict[str, Counter[int]] = defaultdict(Counter)
    latency_groups: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for one in many:
        keys |= one.keys
        for kind, by_group in one.groups.items():
            groups[kind].update(by_group)
        for place, by_group in one.latency_groups.items():
            latency_groups[place].update(by_group)
        statuses.update(one.statuses)
        latencies.update(one.latencies)
        fallbacks.update(one.fallbacks)
        numbers.update({name: getattr(one, name) for name in _NUMBERS})
    return TrafficCounts(
        statuses=dict(statuses),
        latencies=dict(latencies),
        fallbacks=dict(fallbacks),
        keys=frozenset(keys),
        groups={kind: dict(counts) for kind, counts in groups.items()},
        latency_groups={place: dict(counts) for place, counts in latency_groups.items()},
        **numbers,
    )


_NUMBERS = ("requests", "rows", "refused_rows", "cold_starts", "latency_us", "not_finite", "unloaded")


def count_difference(counts: TrafficCounts, earlier: TrafficCounts) -> TrafficCounts:
    """Return the counts that came after ``earlier`` ones of the same requests; none of them is negative."""

    def less(now: Mapping[KeyT, int], before: Mapping[KeyT, int]) -> dict[KeyT, int]:
        return {key: count - before.get(key, 0) for key, count in now.items() if count > before.get(key, 0)}

    def less_by_group(now: Mapping[KeyT, dict[int, int]], before: Mapping[KeyT, dict[int, int]]) -> dict[KeyT, Any]:
        return {key: left for key, by_group in now.items() if (left := less(by_group, before.get(key, {})))}

    numbers = {name: max(0, getattr(counts, name) - getattr(earlier, name)) for name in _NUMBERS}
    return TrafficCounts(
        statuses=less(counts.statuses, earlier.statuses),
        latencies=less(counts.latencies, earlier.latencies),
        fallbacks=less(counts.fallbacks, earlier.fallbacks),
        keys=counts.keys - earlier.keys,
        groups=less_by_group(counts.groups, earlier.groups),
        latency_groups=less_by_group(counts.latency_groups, earlier.latency_groups),
        **numbers,
    )


def arm_key(release_id: str, stage: int, arm: str) -> str:
    """Return the name of an arm's counts: within a stage, the arm's share of the requests does not change."""
    return f"{release_id}/{stage}/{arm}"


def count_requests(requests: Iterable[CountedRequest]) -> dict[int, TrafficCounts]:
    """Return the counts of requests by version, without keys; the latency of failed ones does not count."""
    counts = _count((request.version, request) for request in requests)
    nothing: dict[str, Any] = {"keys": frozenset(), "groups": {}, "latency_groups": {}}
    return {version: msgspec.structs.replace(one, **nothing) for version, one in counts.items()}


def count_arms(requests: Iterable[CountedRequest]) -> dict[str, TrafficCounts]:
    """Return the counts of the requests during releases by :func:`arm_key`; of too many keys a smaller sample."""
    released = [request for request in requests if request.release]
    marks = {request.key for request in released if request.key}
    kept = set(sorted(marks, key=order_marks)[:_MAX_KEYS])
    counts = _count((arm_key(one.release, one.stage, one.arm), one) for one in released)
    return {key: msgspec.structs.replace(one, keys=one.keys & kept) for key, one in counts.items()}


def _count(requests: Iterable[tuple[KeyT, CountedRequest]]) -> dict[KeyT, TrafficCounts]:
    found: dict[Any, _Sums] = defaultdict(_Sums)
    for key, request in requests:
        found[key].add(request)
    return {key: sums.counts() for key, sums in sorted(found.items())}


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    refused_rows: int = 0
    cold_starts: int = 0
    latency_us: int = 0
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    latencies: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    fallbacks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    not_finite: int = 0
    unloaded: int = 0
    keys: set[str] = field(default_factory=set)
    groups: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    latency_groups: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, request: CountedRequest) -> None:
        self.rows += request.rows
        self.refused_rows += request.refused_rows
        self.cold_starts += request.cold_start
        self.statuses[request.status // 100] += 1
        if request.status < _FIRST_ERROR:
            self.latencies[_bin(request.latency_ms)] += 1
            self.latency_us += round(request.latency_ms * 1_000)
        if request.fallback:
            self.fallbacks[request.fallback] += 1
        self.not_finite += request.not_finite
        self.unloaded += request.unloaded
        if request.key:
            self.keys.add(request.key)
        if request.group:
            self._add_to_group(request)

    def _add_to_group(self, request: CountedRequest) -> None:
        if request.fallback == "not_finite":
            self.groups["not_finite"][request.group] += 1
        if request.status >= _FIRST_SERVER_ERROR:
            self.groups["5xx"][request.group] += 1
        elif request.status < _FIRST_ERROR:
            self.latency_groups[_bin(request.latency_ms)][request.group % LATENCY_GROUPS] += 1

    def counts(self) -> TrafficCounts:
        return TrafficCounts(
            requests=sum(self.statuses.values()),
            statuses={f"{first}xx": count for first, count in sorted(self.statuses.items())},
            rows=self.rows,
            refused_rows=self.refused_rows,
            cold_starts=self.cold_starts,
            latencies=dict(sorted(self.latencies.items())),
            latency_us=self.latency_us,
            fallbacks=dict(sorted(self.fallbacks.items())),
            not_finite=self.not_finite,
            unloaded=self.unloaded,
            keys=frozenset(self.keys),
            groups={kind: dict(sorted(counts.items())) for kind, counts in sorted(self.groups.items())},
            latency_groups={place: dict(sorted(one.items())) for place, one in sorted(self.latency_groups.items())},
        )


class TrafficHour(Record, frozen=True, kw_only=True, eq=False):
    """One hour, in UTC, of a model's traffic; :data:`UNKNOWN_VERSION` counts requests whose version was not known.

    ``arms`` counts the requests during a release once more, by :func:`arm_key`.
    """

    model: str
    hour: datetime
    versions: dict[int, TrafficCounts] = {}  # noqa: RUF012  # as above
    arms: dict[str, TrafficCounts] = {}  # noqa: RUF012  # as above

    @property
    def total(self) -> TrafficCounts:
        """Counts of all versions."""
        return add_counts(self.versions.values())


def record_traffic(item_store: RegistryStore, traffic: TrafficHour) -> bool:
    """Set the counts of an hour; False, having written nothing, when at least as many requests are recorded.

    ``traffic`` holds all requests of the hour that are known by now, not those of one delivery.
    """
    requests = traffic.total.requests
    values = {
        "requests": requests,
        "versions": msgspec.json.encode(traffic.versions).decode(),
        "expires_at": int((traffic.hour + _RETENTION).timestamp()),
    }
    if traffic.arms:
        values["arms"] = msgspec.json.encode(traffic.arms).decode()
    # Where two deliveries add to an hour at once, the one that has written the hour's object first may come last here.
    condition = Compare("requests", "<", requests, or_absent=True)
    return item_store.write(Update(_key(traffic.model, traffic.hour), values, conditions=(condition,))) is not None


def read_traffic(item_store: RegistryStore, model: str, since: datetime, until: datetime) -> list[TrafficHour]:
    """Return the recorded hours that a span touches, oldest first; a month of them is one call of a query."""
    first, last = _key(model, since), _key(model, max(since, until - timedelta.resolution))
    items = item_store.query(first.partition, first.sort, up_to=last.sort, table="runs")
    return [
        TrafficHour(
            model=model,
            hour=datetime.strptime(item["sk"], _HOUR).replace(tzinfo=UTC),
            versions=msgspec.json.decode(item["versions"], type=dict[int, TrafficCounts]),
            arms=msgspec.json.decode(item.get("arms", "{}"), type=dict[str, TrafficCounts]),
        )
        for item in items
    ]


def _key(model: str, timestamp: datetime) -> Key:
    return Key(f"TRAFFIC#{model}", timestamp.astimezone(UTC).strftime(_HOUR), "runs")


_HOUR = "%Y-%m-%dT%H"


def _bin(latency_ms: float) -> int:
    place = math.floor(math.log2(max(latency_ms, 1e-9)) * _BINS_OF_AN_OCTAVE)
    return min(max(place, _FIRST_BIN), _LAST_BIN)
