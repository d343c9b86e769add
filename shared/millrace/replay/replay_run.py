"""One invocation of a replay: score captured hours until they, or the time, are over; then compare and report.

The state is committed by one conditional write after each batch of hours, so that an invocation that is killed or comes
twice loses nothing and counts nothing twice. What is left when time runs out is requested again.

Captures arrive minutes late. A release's replay therefore commits whole hours, a while after their end; the rows since
then are scored anew for each report, and not committed. So a release sees its newest requests at once, and one that
arrives late is replayed all the same, once.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from msgspec.structs import replace

from millrace.captures.traffic import read_traffic
from millrace.captures.window import hours, read_windows
from millrace.entities import Release
from millrace.errors import ArtifactNotFoundError, ReleaseNotFoundError, ServiceUnavailableError
from millrace.histograms.tables import TableHistogram, count_in_bins
from millrace.layout import replay_key
from millrace.monitoring.context import MonitoredVersion
from millrace.ports import EventPublisher
from millrace.registry.release_changes import get_release
from millrace.releases.replay_events import publish_replay_due
from millrace.replay.replay_context import ReplayContext, ReplayStores, make_context
from millrace.replay.replay_documents import (
    REQUEST_NAME,
    STATE_NAME,
    RefusedRows,
    ReplayCounts,
    ReplayReport,
    ReplayRequest,
    ReplayState,
    is_of_release,
)
from millrace.replay.replay_reports import announce_replay, describe_void, report_replay, write_report
from millrace.replay.replay_summary import declared_columns
from millrace.replay.replayed_rows import ReplayedRows, ScoredWindow, choose_slice_columns, score_window
from millrace.replay.replayed_versions import KnownSchemas, ReplayedVersions, find_missing_column, load_versions

#: Rows of a replay: of more, a sample. An invocation holds them all when it compares.
MAX_ROWS = 300_000
#: Rows of one hour that are held while they are scored, their values in all, and rows that one part holds.
MAX_HOURLY_ROWS, MAX_HOURLY_VALUES = 50_000, 5_000_000
PART_ROWS = 50_000
#: Time that is kept for the hours that are not committed, joining, comparing and writing.
_RESERVED_SECONDS = 240.0
#: An hour's captures are delivered by then: they wait for each other for ``CaptureBatchingSeconds``, 300 at most.
_DELIVERY = timedelta(minutes=15)

RunOutcome = Literal["more", "finished", "overtaken", "not_found", "over"]


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """The result of an invocation; ``overtaken``: another invocation of the same replay was faster."""

    model: str
    replay_id: str
    outcome: RunOutcome
    status: str = ""
    rows: int = 0
    reason: str = ""


def replay_captures(
    model: str,
    replay_id: str,
    *,
    stores: ReplayStores,
    publisher: EventPublisher,
    now: datetime,
    token: str,
    remaining_seconds: Callable[[], float] = lambda: float("inf"),
) -> ReplayRun:
    """Do, or go on with, a replay; ``token`` is unique to the invocation, and part of the names that it writes.

    Raises ``ServiceUnavailableError`` when a store is busy: a repetition goes on where this one stopped. Any other
    fault is in the report, and raised.
    """
    request = _find_request(model, replay_id, stores, now)
    if not isinstance(request, ReplayRequest):
        return ReplayRun(model, replay_id, "over" if request else "not_found")
    try:
        return _replay(request, stores, publisher=publisher, now=now, token=token, remaining_seconds=remaining_seconds)
    except ServiceUnavailableError:
        raise
    except Exception as error:
        reason = f"it failed ({type(error).__name__}), and is tried once more; the log of replay_captures has the trace"
        write_report(replace(ReplayReport.of(request, now), status="failed", reason=reason), stores.data)
        raise


def _replay(
    request: ReplayRequest,
    stores: ReplayStores,
    *,
    publisher: EventPublisher,
    now: datetime,
    token: str,
    remaining_seconds: Callable[[], float],
) -> ReplayRun:
    model, replay_id = request.model, request.replay_id
    loaded = _load_versions(request, stores)
    if isinstance(loaded, str):
        refused = replace(ReplayReport.of(request, now), status="refused", reason=loaded, progress=1.0)
        return _finish(refused, stores)
    context = make_context(request, loaded, stores, now, token)
    state, etag = _load_state(context)
    if etag is None:
        announce_replay(_describe_progress(context, state), stores.data)
    watermark = _find_watermark(request, now)
    state, kept = _score_hours(context, state, etag, token, watermark=watermark, remaining_seconds=remaining_seconds)
    if not kept:
        return ReplayRun(model, replay_id, "overtaken")
    newest = _Batch(context, state)
    if state.until >= watermark:
        for begin, end in _split_by_hour(state.until, request.until):
            newest.score(begin, end)
    reported = newest.state
    if reported.self_test.different:
        void = replace(_describe_progress(context, reported), status="void", reason=describe_void(reported.self_test))
        return _finish(void, stores)
    if state.until < watermark:
        write_report(_describe_progress(context, state), stores.data)
        publish_replay_due(model, replay_id, f"{state.until:%Y%m%dT%H%M%S}", publisher, now)
        return ReplayRun(model, replay_id, "more", "running", state.counts.replayed)
    return _finish(report_replay(context, reported, [*_load_parts(state, stores), *newest.parts]), stores)


def _load_parts(state: ReplayState, stores: ReplayStores) -> list[ReplayedRows]:
    """Return the parts that retention has not deleted, as it may have in a long release."""
    found = []
    for key in state.parts:
        with suppress(ArtifactNotFoundError):
            found.append(ReplayedRows.from_bytes(stores.data.get(key)))
    return found


def _finish(report: ReplayReport, stores: ReplayStores) -> ReplayRun:
    write_report(report, stores.data)
    rows = report.counts.replayed
    return ReplayRun(report.model, report.replay_id, "finished", report.status, rows, report.reason)


def _load_versions(request: ReplayRequest, stores: ReplayStores) -> ReplayedVersions | str:
    if stores.registry.get_state(request.model).deleted_at is not None:
        return f"the model {request.model!r} was deleted"
    return load_versions(request.model, request.baseline, request.candidate, stores.registry, stores.models)


def _score_hours(
    context: ReplayContext,
    state: ReplayState,
    etag: str | None,
    token: str,
    *,
    watermark: datetime,
    remaining_seconds: Callable[[], float],
) -> tuple[ReplayState, bool]:
    """Score captured hours until ``watermark`` or until time is short, saving each batch of them.

    Returns the state, and False when another invocation saved another one meanwhile.
    """
    batch = _Batch(context, state)
    for begin, end in _split_by_hour(state.until, watermark):
        batch.score(begin, end)
        is_over = remaining_seconds() < _RESERVED_SECONDS or batch.state.self_test.different > 0
        if batch.buffered >= PART_ROWS or is_over:
            state = batch.close(token)
            if not _save_state(context, state, etag):
                return state, False
            if is_over:
                return state, True
            etag, batch = _read_etag(context), _Batch(context, state)
    if batch.state is state and etag is not None:
        return state, True
    state = batch.close(token)
    return state, _save_state(context, state, etag)


def _split_by_hour(start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    if start >= end:
        return []
    return [(max(hour, start), min(hour + timedelta(hours=1), end)) for hour in hours(start, end)]


def _find_request(model: str, replay_id: str, stores: ReplayStores, now: datetime) -> ReplayRequest | Release | None:
    """Return the request of a replay; that of a release follows from it, and is the release itself when it is over."""
    if not is_of_release(replay_id):
        try:
            return ReplayRequest.read(stores.data.get(replay_key(model, replay_id, REQUEST_NAME)))
        except ArtifactNotFoundError:
            return None
    try:
        release = get_release(model, replay_id, stores.registry)
    except ReleaseNotFoundError:
        return None
    if not release.is_active:
        return release
    guard = release.spec.replay_guards.get("quality")
    since = (release.started_at - release.spec.replayed_time).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    begun_after = stores.registry.get_state(model).begun_after
    since = since if begun_after is None else max(since, begun_after)
    return ReplayRequest(
        model=model,
        replay_id=replay_id,
        baseline=release.baseline,
        candidate=release.candidate,
        since=since,
        until=max(since, now),
        requested_at=release.started_at,
        requested_by=release.started_by,
        metric=guard.metric if guard else None,
        margin=guard.margin if guard else None,
    )


def _find_watermark(request: ReplayRequest, now: datetime) -> datetime:
    """Return the time up to which rows are committed: of a release a whole hour, whose captures are delivered."""
    if not is_of_release(request.replay_id):
        return request.until
    delivered = (now - _DELIVERY).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return min(request.until, max(request.since, delivered))


def _load_state(context: ReplayContext) -> tuple[ReplayState, str | None]:
    """Return the state; at first with the share of the rows that is replayed, by the record of traffic."""
    request = context.request
    try:
        body, etag = context.stores.data.get_with_etag(replay_key(request.model, request.replay_id, STATE_NAME))
        return ReplayState.read(body), etag
    except ArtifactNotFoundError:
        counted = read_traffic(context.stores.item_store, request.model, request.since, request.until)
        rows = sum(hour.total.rows for hour in counted)
        return ReplayState(until=request.since, sample_share=min(1.0, MAX_ROWS / max(1, rows))), None


def _save_state(context: ReplayContext, state: ReplayState, etag: str | None) -> bool:
    key = replay_key(context.request.model, context.request.replay_id, STATE_NAME)
    return context.stores.data.put_if_unchanged(key, state.write(indent=False), etag, "application/json")


def _read_etag(context: ReplayContext) -> str:
    key = replay_key(context.request.model, context.request.replay_id, STATE_NAME)
    return context.stores.data.get_with_etag(key)[1]


def _describe_progress(context: ReplayContext, state: ReplayState) -> ReplayReport:
    request = context.request
    whole = (request.until - request.since) / timedelta(seconds=1)
    done = (state.until - request.since) / timedelta(seconds=1)
    return replace(
        ReplayReport.of(request, context.now),
        status="running",
        task=context.versions.baseline.schema.task,
        progress=min(1.0, done / whole) if whole else 1.0,
        counts=state.counts,
        self_test=state.self_test,
        not_finite=state.not_finite,
    )


class _Batch:
    """Hours that are scored, and not yet in the state."""

    def __init__(self, context: ReplayContext, state: ReplayState) -> None:
        self._context = context
        self._versions = context.versions
        self._first = state.until
        self.parts: list[ReplayedRows] = []
        self.state = state
        known = {one.version: one.schema for one in (context.versions.baseline, context.versions.candidate)}
        self._schemas = KnownSchemas(context.request.model, context.stores.models, known)
        self._slice_columns = choose_slice_columns(context.versions.baseline.schema, declared_columns(context.spec))

    @property
    def buffered(self) -> int:
        """Rows that are not in a part yet."""
        return sum(len(part) for part in self.parts)

    def score(self, start: datetime, end: datetime) -> None:
        """Read and score the rows of one hour."""
        state, request = self.state, self._context.request
        share = state.sample_share
        most = min(MAX_HOURLY_ROWS, MAX_HOURLY_VALUES // max(1, len(self._versions.baseline.schema.features)))
        windows, report = read_windows(self._context.stores.data, request.model, start, end, max_rows=most, share=share)
        counts = replace(
            state.counts,
            rows=state.counts.rows + report.rows - report.outside,
            duplicates=state.counts.duplicates + report.duplicates,
            malformed=state.counts.malformed + report.malformed_rows,
            unreadable_objects=(*state.counts.unreadable_objects, *report.unreadable_objects),
            sample_share=min(state.counts.sample_share, report.kept_share),
        )
        state = replace(state, until=end, counts=counts)
        for version, window in windows.items():
            state = replace(state, counts=_count_version(state.counts, version, len(window)))
            rates = float(window.sampling_rates.min(initial=1.0))
            state = replace(state, counts=replace(state.counts, sampling_rate=min(state.counts.sampling_rate, rates)))
            reasons = {
                loaded.version: find_missing_column(self._schemas.find(version), loaded.schema)
                for loaded in (self._versions.baseline, self._versions.candidate)
            }
            missing = next(((number, reason) for number, reason in reasons.items() if reason), None)
            if missing is not None:
                state = replace(state, counts=_count_refused(state.counts, {missing: len(window)}))
                continue
            scored = score_window(
                window, version, self._versions.baseline, self._versions.candidate, self._slice_columns
            )
            state = self._add(state, scored)
        if state.counts.replayed > MAX_ROWS:
            # More than was foreseen, as in a release, whose traffic is still to come: the rest is thinned.
            factor = 2 ** (state.counts.replayed // MAX_ROWS)
            state = replace(state, sample_share=min(state.sample_share, 1.0 / factor))
        self.state = state

    def _add(self, state: ReplayState, scored: ScoredWindow) -> ReplayState:
        self.parts.append(scored.rows)
        counts = replace(
            _count_refused(state.counts, dict(scored.refused)),
            replayed=state.counts.replayed + len(scored.rows),
            omitted=state.counts.omitted + scored.omitted,
        )
        context = self._context
        counted = [
            _count_features(before, monitored, columns)
            for before, monitored, columns in (
                (state.baseline_features, context.baseline, scored.baseline_columns),
                (state.candidate_features, context.candidate, scored.candidate_columns),
            )
        ]
        return replace(
            state,
            counts=counts,
            self_test=state.self_test + scored.self_test,
            not_finite=state.not_finite + scored.not_finite,
            baseline_features=counted[0],
            candidate_features=counted[1],
        )

    def close(self, token: str) -> ReplayState:
        """Store the rows as a part, and return the state with it."""
        if not self.buffered:
            return self.state
        request = self._context.request
        key = replay_key(request.model, request.replay_id, f"parts/{self._first:%Y%m%dT%H%M%S}-{token}.npz")
        self._context.stores.data.put(key, ReplayedRows.join(self.parts).to_bytes())
        return replace(self.state, parts=(*self.state.parts, key))


def _count_version(counts: ReplayCounts, version: int, rows: int) -> ReplayCounts:
    present = counts.by_version.get(str(version), 0)
    return replace(counts, by_version={**counts.by_version, str(version): present + rows})


def _count_refused(counts: ReplayCounts, more: dict[tuple[int, str], int]) -> ReplayCounts:
    found = {(one.version, one.reason): one.rows for one in counts.refused}
    for key, rows in more.items():
        found[key] = found.get(key, 0) + rows
    refused = (RefusedRows(version=key[0], reason=key[1], rows=rows) for key, rows in sorted(found.items()) if rows)
    return replace(counts, refused=tuple(refused))


def _count_features(
    before: TableHistogram | None, monitored: MonitoredVersion | None, columns: Mapping[str, Any]
) -> TableHistogram | None:
    if monitored is None:
        return None
    rows = len(next(iter(columns.values()), ()))
    counted = count_in_bins(columns, rows, monitored.reference.bins, monitored.reference.plan)
    return counted if before is None else before + counted
