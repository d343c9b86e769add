"""Traffic of a model by the hour: requests, status classes, rows and latency, by version.

An item an hour in the table of runs, written by the delivery of captures. Every request for predictions is counted
once, failed ones and those outside the sample too. The counts of an hour are a function of the lines delivered for it,
and only grow; therefore they are set rather than added, and a repeated or overtaken delivery changes nothing.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from millrace.captures.records import CountedRequest
from millrace.documents import Record
from millrace.ports import Compare, Key, RegistryStore, Update

#: Model of the requests whose model no execution environment has read from the registry: anybody could make up names.
UNKNOWN_MODEL = "_unknown"
#: Version of the requests that failed before their version was known.
UNKNOWN_VERSION = 0

_FIRST_ERROR = 400  # of HTTP's status codes

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
    left out as invalid.
    """

    requests: int = 0
    statuses: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the default
    rows: int = 0
    refused_rows: int = 0
    cold_starts: int = 0
    latencies: dict[int, int] = {}  # noqa: RUF012  # as above
    latency_us: int = 0

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
    numbers, statuses, latencies = Counter[str](), Counter[str](), Counter[int]()
    for one in many:
        statuses.update(one.statuses)
        latencies.update(one.latencies)
        numbers.update({name: getattr(one, name) for name in _NUMBERS})
    return TrafficCounts(statuses=dict(statuses), latencies=dict(latencies), **numbers)


_NUMBERS = ("requests", "rows", "refused_rows", "cold_starts", "latency_us")


def count_requests(requests: Iterable[CountedRequest]) -> dict[int, TrafficCounts]:
    """Return the counts of requests by version; the latency of failed ones does not count."""
    versions: dict[int, _Sums] = defaultdict(_Sums)
    for request in requests:
        sums = versions[request.version]
        sums.rows += request.rows
        sums.refused_rows += request.refused_rows
        sums.cold_starts += request.cold_start
        sums.statuses[request.status // 100] += 1
        if request.status < _FIRST_ERROR:
            sums.latencies[_bin(request.latency_ms)] += 1
            sums.latency_us += round(request.latency_ms * 1_000)
    return {version: sums.counts() for version, sums in sorted(versions.items())}


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    refused_rows: int = 0
    cold_starts: int = 0
    latency_us: int = 0
    statuses: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    latencies: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def counts(self) -> TrafficCounts:
        return TrafficCounts(
            requests=sum(self.statuses.values()),
            statuses={f"{first}xx": count for first, count in sorted(self.statuses.items())},
            rows=self.rows,
            refused_rows=self.refused_rows,
            cold_starts=self.cold_starts,
            latencies=dict(sorted(self.latencies.items())),
            latency_us=self.latency_us,
        )


class TrafficHour(Record, frozen=True, kw_only=True, eq=False):
    """One hour, in UTC, of a model's traffic; :data:`UNKNOWN_VERSION` counts requests whose version was not known."""

    model: str
    hour: datetime
    versions: dict[int, TrafficCounts] = {}  # noqa: RUF012  # as above

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
        )
        for item in items
    ]


def _key(model: str, timestamp: datetime) -> Key:
    return Key(f"TRAFFIC#{model}", timestamp.astimezone(UTC).strftime(_HOUR), "runs")


_HOUR = "%Y-%m-%dT%H"


def _bin(latency_ms: float) -> int:
    place = math.floor(math.log2(max(latency_ms, 1e-9)) * _BINS_OF_AN_OCTAVE)
    return min(max(place, _FIRST_BIN), _LAST_BIN)
