"""Histories of metrics: ``metrics/…`` of MLflow's API.

A page of a history reads the headers and chunks that it needs. A sample reads every header of a metric, which is a
hundredth of its values or less, and at most a hundred chunks.
"""

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.tracking.arguments import INTEGER, LIST, TEXT, invalid_argument, read_texts, required
from millrace.tracking.metric_chunks import (
    ChunkHeader,
    content_key,
    step_order,
    time_order,
    unpack,
)
from millrace.tracking.pages import MAX_BYTES, read_token, write_token
from millrace.tracking.tracked_runs import describe_point, find_run_record, read_run_id
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import chunk_prefix, run_partition
from millrace.tracking.tracking_records import Point, RunRecord

#: Values of one response, and of one whose request names no number: some clients ask once and read no token.
MAX_PAGE, DEFAULT_PAGE = 25_000, 50_000
MAX_RUNS, MAX_SAMPLE = 100, 2_500
#: Histories up to this length are read whole for a sample.
_WHOLE = 20_000
#: Contents of chunks that one call of the store reads, and that a sample may read.
_AT_ONCE = 25
_MAX_CONTENTS = 100
_MAX_SORT_KEY = 300
#: Of a value in a response beside its key: time, step, value, the id of its run and their names.
_POINT_BYTES = 170

_Order = tuple[int, int, float, bool]


def read_headers(call: TrackingCall, run_id: str, metric: str, after: str | None = None) -> Iterator[ChunkHeader]:
    """Yield the headers of a metric's chunks by their earliest time."""
    items = call.store.query(run_partition(run_id), chunk_prefix("H", metric), after=after, table="tracking")
    return map(ChunkHeader.read, items)


def read_contents(call: TrackingCall, run_id: str, headers: Sequence[ChunkHeader]) -> list[list[Point]]:
    """Return the values of chunks."""
    large = [header for header in headers if header.data is None]
    items = call.store.get_many([content_key(run_id, header) for header in large]) if large else []
    contents = {header.sort: item["data"] for header, item in zip(large, items, strict=True) if item is not None}
    return [unpack(contents.get(header.sort, b"") if header.data is None else header.data) for header in headers]


def _chunks(
    call: TrackingCall, run_id: str, metric: str, after: str | None, wanted: int
) -> Iterator[tuple[ChunkHeader, list[Point]]]:
    """Yield chunks with their values; of the contents of large ones as many are read at once as a page may need."""
    waiting: list[ChunkHeader] = []
    count = 0
    for header in read_headers(call, run_id, metric, after):
        waiting.append(header)
        count += header.count
        if len(waiting) == _AT_ONCE or count >= wanted:
            yield from zip(waiting, read_contents(call, run_id, waiting), strict=True)
            waiting, count = [], 0
    yield from zip(waiting, read_contents(call, run_id, waiting), strict=True)


class _History:
    """The values of a metric in the order of time, each once, merged from chunks that may overlap."""

    def __init__(self, call: TrackingCall, run: RunRecord, metric: str, token: Mapping[str, Any], wanted: int) -> None:
        tail = sorted(run.tails.get(metric, ()), key=time_order)
        self._heap: list[tuple[_Order, int, Point]] = []
        self._sources: list[Iterator[Point]] = []
        self._sorts: dict[int, str] = {}
        self._before: _Order | None = tuple(token["at"]) if "at" in token else None
        self._after: str | None = token.get("after")
        self._open(iter(tail))
        self._chunks = _chunks(call, run.run_id, metric, self._after, wanted) if metric in run.chunked else iter(())
        self._ended: list[str] = []
        self._next = next(self._chunks, None)

    def _open(self, source: Iterator[Point], sort: str | None = None) -> None:
        number = len(self._sources)
        self._sources.append(source)
        if sort is not None:
            self._sorts[number] = sort
        self._advance(number)

    def _advance(self, number: int) -> None:
        point = next(self._sources[number], None)
        if point is None:
            self._sorts.pop(number, None)
        else:
            heapq.heappush(self._heap, (time_order(point), number, point))

    def __iter__(self) -> Iterator[Point]:
        while True:
            while self._next is not None and (not self._heap or self._next[0].begin <= self._heap[0][0][0]):
                header, points = self._next
                self._ended.append(header.sort)
                self._open(iter(points), header.sort)
                self._next = next(self._chunks, None)
            if not self._heap:
                return
            order, number, point = heapq.heappop(self._heap)
            self._advance(number)
            if self._before is None or order > self._before:
                self._before = order
                yield point

    def token(self) -> dict[str, Any]:
        """Return where the next page begins: after the last value, and after the chunks that are read to their end."""
        still_open = min(self._sorts.values(), default=None)
        done = [sort for sort in self._ended if still_open is None or sort < still_open]
        after = max(done, default=self._after)
        return {"at": self._before} if after is None else {"at": self._before, "after": after}


def _get_history(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    metric = arguments["metric_key"]
    limit = min(arguments["max_results"], MAX_PAGE) if "max_results" in arguments else DEFAULT_PAGE
    if limit < 1:
        raise invalid_argument("max_results", limit, "It must be a positive integer.")
    limit = min(limit, _fitting(metric))
    token = read_token(arguments)
    if token:
        _ensure_token(token, metric)
    run = find_run_record(call, read_run_id(arguments)).record
    if run.is_mirrored:
        return {"metrics": [describe_point(metric, run.latest[metric])] if metric in run.latest else []}
    history = _History(call, run, metric, token, limit)
    points: list[Point] = []
    for point in history:
        points.append(point)
        if len(points) == limit:
            break
    response: dict[str, Any] = {"metrics": [describe_point(metric, point) for point in points]}
    if len(points) == limit:
        following = history.token()
        if next(iter(history), None) is not None:
            response["next_page_token"] = write_token(following)
    return response


def _fitting(metric: str) -> int:
    """Return how many values of a metric fit into a response: each repeats the metric's key."""
    return MAX_BYTES // (_POINT_BYTES + len(json.dumps(metric)))


def _ensure_token(token: Mapping[str, Any], metric: str) -> None:
    """Raise ``InvalidInputError`` for a token that is none of this history."""
    at, after = token.get("at"), token.get("after")
    is_position = isinstance(at, list) and len(at) == 4 and all(isinstance(one, int | float) for one in at)  # noqa: PLR2004 - of time_order
    prefix = chunk_prefix("H", metric)
    is_key = after is None or (isinstance(after, str) and after.startswith(prefix) and len(after) <= _MAX_SORT_KEY)
    if not (is_position and is_key):
        raise InvalidInputError("Invalid page token", [FieldError("page_token", "is no token of this history")])


def _sample(points: Sequence[Point], number: int) -> list[Point]:
    """Return the first value of each of ``number`` equal parts, and the last value in place of the last part's."""
    positions = find_sample_positions(len(points), number)
    return [points[position] for position in positions]


def find_sample_positions(length: int, number: int) -> list[int]:
    """Return the positions of a sample: where each of ``number`` parts begins, and the last."""
    if length <= number:
        return list(range(length))
    size, longer = divmod(length, number)
    begins = [part * size + min(part, longer) for part in range(number)]
    if begins[-1] != length - 1:
        begins[-1] = length - 1
    return begins


def _sample_run(call: TrackingCall, run_id: str, metric: str, number: int, steps: range | None) -> list[Point]:
    run = find_run_record(call, run_id).record
    tail = list(run.tails.get(metric, ()))
    if run.is_mirrored and metric in run.latest:
        tail = [run.latest[metric]]
    headers = list(read_headers(call, run_id, metric)) if metric in run.chunked else []
    if steps is not None:
        headers = [one for one in headers if one.last.step >= steps.start and one.first.step < steps.stop]
    whole = sum(header.count for header in headers) <= _WHOLE
    contents = read_contents(call, run_id, headers) if whole else _read_sampled(call, run_id, headers, number)
    every = {step_order(point): point for points in (*contents, tail) for point in points}
    kept = sorted(
        (order for order in every if steps is None or steps.start <= order[0] < steps.stop),
    )
    return _sample([every[order] for order in kept], number)


def _read_sampled(call: TrackingCall, run_id: str, headers: Sequence[ChunkHeader], number: int) -> list[list[Point]]:
    """Return values of a long history: of chunks that are spread evenly, and the ends of the others."""
    by_step = sorted(headers, key=lambda header: step_order(header.first))
    chosen = {by_step[position].sort for position in find_sample_positions(len(by_step), min(number, _MAX_CONTENTS))}
    read = [header for header in by_step if header.sort in chosen]
    contents = dict(zip((header.sort for header in read), read_contents(call, run_id, read), strict=True))
    per_chunk = max(1, number // len(by_step))
    return [
        _sample(sorted(contents[header.sort], key=step_order), per_chunk + 1)
        if header.sort in contents
        else [header.first, header.last]
        for header in by_step
    ]


def _read_steps(arguments: Arguments) -> range | None:
    start, end = arguments.get("start_step"), arguments.get("end_step")
    if start is None and end is None:
        return None
    if start is None or end is None:
        message = "If either start step or end step are specified, both must be specified."
        raise InvalidInputError(message, [FieldError("start_step", "comes with end_step alone")])
    if start > end:
        message = f"end_step must be greater than start_step. Found start_step={start} and end_step={end}."
        raise InvalidInputError(message, [FieldError("end_step", "is less than start_step")])
    return range(start, end + 1)


def _read_runs(arguments: Arguments, name: str, what: str) -> list[str]:
    run_ids = read_texts(arguments, name)
    if len(run_ids) > MAX_RUNS:
        message = f"{what} request must specify at most {MAX_RUNS} {name}. Received {len(run_ids)} {name}."
        raise InvalidInputError(message, [FieldError(name, f"are more than {MAX_RUNS}")])
    return run_ids


def _get_sampled(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    run_ids = _read_runs(arguments, "run_ids", "GetMetricHistoryBulkInterval")
    number, steps, metric = arguments.get("max_results", MAX_SAMPLE), _read_steps(arguments), arguments["metric_key"]
    if not 1 <= number <= MAX_SAMPLE:
        message = f"max_results must be between 1 and {MAX_SAMPLE}."
        raise InvalidInputError(message, [FieldError("max_results", "is out of range")])
    return {
        "metrics": [
            {**describe_point(metric, point), "run_id": run_id}
            for run_id in run_ids
            for point in _sample_run(call, run_id, metric, number, steps)
        ]
    }


def _get_bulk(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    """Return the histories of several runs, one after the other by their ids, up to the size of a page."""
    metric, limit = (
        arguments["metric_key"],
        min(arguments.get("max_results", MAX_PAGE), MAX_PAGE, _fitting(arguments["metric_key"])),
    )
    found: list[dict[str, Any]] = []
    for run_id in sorted(set(_read_runs(arguments, "run_id", "GetMetricHistoryBulk"))):
        run = find_run_record(call, run_id).record
        points: Iterable[Point] = _History(call, run, metric, {}, limit)
        for point in points:
            if len(found) >= limit:
                return {"metrics": found}
            found.append({**describe_point(metric, point), "run_id": run_id})
    return {"metrics": found}


ENDPOINTS = (
    TrackingEndpoint(
        ("GET",),
        "metrics/get-history",
        _get_history,
        {
            "run_id": TEXT,
            "run_uuid": TEXT,
            "metric_key": required(TEXT),
            "max_results": INTEGER,
            "page_token": TEXT,
        },
    ),
    TrackingEndpoint(
        ("GET",),
        "metrics/get-history-bulk-interval",
        _get_sampled,
        {
            "run_ids": required(LIST),
            "metric_key": required(TEXT),
            "start_step": INTEGER,
            "end_step": INTEGER,
            "max_results": INTEGER,
        },
    ),
    TrackingEndpoint(
        ("GET",),
        "metrics/get-history-bulk",
        _get_bulk,
        {"run_id": required(LIST), "metric_key": required(TEXT), "max_results": INTEGER},
    ),
)
