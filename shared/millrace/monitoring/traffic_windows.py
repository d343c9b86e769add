"""Windows of traffic: filled by each run, closed once they hold enough rows."""

import gzip
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from millrace.captures.window import CapturedWindow
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.predictions import AnyPredictions, PredictionHistogram, Traffic, ValueHistogram
from millrace.histograms.tables import Reference, count_in_bins
from millrace.layout import monitoring_key
from millrace.monitoring.chart_data import draw_columns, effects_of
from millrace.monitoring.context import Baselines, MonitorContext
from millrace.monitoring.new_captures import IngestCounts
from millrace.monitoring.rules import evaluate_traffic, input_findings, range_scope, rows_needed
from millrace.monitoring.seasonality import SeasonalBaselines, find_seasonal_windows, learn_ranges
from millrace.monitoring.segments import SegmentRows, extract_rows, load_rows, store_segment, time_span
from millrace.monitoring.state import (
    GZIP,
    MAX_HISTORY,
    MAX_SEGMENTS,
    MAX_WINDOWS,
    OpenWindow,
    Segment,
    TrafficHistory,
    WindowRecord,
    WindowSummary,
)
from millrace.monitoring.window_findings import WindowEvaluation, WindowFinding
from millrace.ports import ObjectStore


@dataclass(frozen=True, slots=True)
class IngestedTraffic:
    """The open window and the segments with the captured rows of a run, and the time of the last row."""

    open: OpenWindow | None
    segments: tuple[Segment, ...]
    last_row_at: datetime | None


def ingest_traffic(
    context: MonitorContext,
    before: IngestedTraffic,
    batches: Iterable[CapturedWindow],
    known_versions: set[int],
    counts: IngestCounts,
) -> IngestedTraffic:
    """Add captured rows to the open window, and store their predictions as segments."""
    ingested = before
    for number, batch in enumerate(batches):
        name = f"{context.token}-{number}"
        ingested = _ingest_batch(context, ingested, batch, name=name, known_versions=known_versions, counts=counts)
    return ingested


def _ingest_batch(
    context: MonitorContext,
    before: IngestedTraffic,
    batch: CapturedWindow,
    *,
    name: str,
    known_versions: set[int],
    counts: IngestCounts,
) -> IngestedTraffic:
    fresh = ~_read_before(context.store, before.segments, batch)
    counts.read.duplicates += int(np.count_nonzero(~fresh))
    chosen = fresh & (batch.versions == context.version)
    for version, rows in Counter(batch.versions[fresh & ~chosen].tolist()).items():
        others = counts.other_versions if version in known_versions else counts.unknown_versions
        others[version] = others.get(version, 0) + rows
    rows = int(np.count_nonzero(chosen))
    if not rows:
        return before
    now = np.datetime64(context.now.astimezone(UTC).replace(tzinfo=None), "us")
    begin, end = time_span(np.minimum(batch.predicted_at[chosen], now))
    predicted = extract_rows(batch, chosen, context.schema, context.spec.sensitive_groups)
    counts.monitored_rows += rows
    counts.unanswered += rows - len(predicted)
    segments, window = before.segments, before.open
    if len(predicted):
        segments = (*segments, store_segment(context.store, context.model, name, predicted))[-MAX_SEGMENTS:]
    if context.monitored is not None:
        reference = context.monitored.reference
        columns = {key: values[chosen] for key, values in batch.typed_features(context.schema).items()}
        features = count_in_bins(columns, rows, reference.bins, reference.plan)
        traffic = Traffic(features=features, predictions=_count_predictions(predicted, context, reference))
        window = _extend(window, OpenWindow(traffic=traffic, begin=begin, end=end))
    return IngestedTraffic(window, segments, max(before.last_row_at or end, end))


def _extend(window: OpenWindow | None, more: OpenWindow) -> OpenWindow:
    if window is None:
        return more
    begin, end = min(window.begin, more.begin), max(window.end, more.end)
    return OpenWindow(traffic=window.traffic + more.traffic, begin=begin, end=end)


def _read_before(store: ObjectStore, segments: Iterable[Segment], batch: CapturedWindow) -> npt.NDArray[np.bool_]:
    """Return the mask of rows that an earlier run read, from another object."""
    if not len(batch):
        return np.zeros(0, dtype=np.bool_)
    earliest, _ = time_span(batch.predicted_at)
    known: set[str] = set()
    for segment in segments:
        if segment.end >= earliest and (rows := load_rows(store, segment)) is not None:
            known.update(rows.prediction_ids.tolist())
    return np.fromiter((name in known for name in batch.prediction_ids.tolist()), dtype=np.bool_, count=len(batch))


def _count_predictions(rows: SegmentRows, context: MonitorContext, reference: Reference) -> AnyPredictions | None:
    if not len(rows):
        return None
    if context.schema.classes:
        return PredictionHistogram.count(rows.predictions())
    if reference.target is None:
        return None
    groups = {name: values.tolist() for name, values in rows.groups.items()}
    return ValueHistogram.count(rows.values.astype(np.float64), reference.target, groups)


def close_traffic_window(
    context: MonitorContext, history: TrafficHistory
) -> tuple[TrafficHistory, WindowEvaluation | None]:
    """Close and evaluate the open window once it is full or old."""
    window, monitored, spec = history.open, context.monitored, context.spec.monitoring
    if window is None or monitored is None:
        return history, None
    needed = rows_needed(spec)
    full = window.traffic.features.rows >= needed
    if not full and context.now - window.begin < timedelta(hours=spec.max_window_hours):
        return history, None
    baselines = _find_baselines(context, history, window, needed)
    findings = evaluate_traffic(window.traffic, monitored, spec, baselines)
    key = monitoring_key(context.model, f"windows/{window.end:%Y%m%dT%H%M%S}-{context.token}.json.gz")
    context.store.put(key, gzip.compress(window.traffic.write(indent=False), mtime=0), GZIP)
    closed = _add_window(history, window, findings, key, full=full, first=baselines.first)
    breaches = sorted({finding.key for finding in findings if finding.status == "breach"})
    summary = WindowSummary(
        begin=window.begin,
        end=window.end,
        version=context.version,
        rows=window.traffic.features.rows,
        breaches=breaches,
        effects=effects_of(findings),
    )
    closed = replace(
        closed,
        summaries=(*history.summaries, summary)[-MAX_HISTORY:],
        charts=draw_columns(window.traffic, monitored, findings),
    )
    return closed, WindowEvaluation("traffic", window.begin, tuple(findings))


def _add_window(
    history: TrafficHistory, window: OpenWindow, findings: list[WindowFinding], key: str, *, full: bool, first: bool
) -> TrafficHistory:
    breaches = [finding for finding in findings if finding.status == "breach"]
    quiet = full and not breaches
    record = WindowRecord(begin=window.begin, end=window.end, rows=window.traffic.features.rows, quiet=quiet, key=key)
    skewed = [finding.subject for finding in breaches if finding.verdict == "skew"]
    scoped = ((range_scope(finding), finding) for finding in findings)
    return replace(
        history,
        open=None,
        windows=(*history.windows, record)[-MAX_WINDOWS:],
        skewed=tuple(skewed if first else (name for name in history.skewed if name in skewed)),
        daily_ranges=learn_ranges(history.daily_ranges, scoped, window.end),
        first_predictions=history.first_predictions or (window.traffic.predictions if full else None),
        inputs=input_findings(findings),
    )


def _find_baselines(context: MonitorContext, history: TrafficHistory, window: OpenWindow, needed: int) -> Baselines:
    quiet = next((record for record in reversed(history.windows) if record.quiet), None)
    like = find_seasonal_windows(history.windows, window.begin, window.end)
    return Baselines(
        previous=_load_window(context.store, quiet) if quiet else None,
        seasonal=SeasonalBaselines(like, lambda record: _load_window(context.store, record), window.traffic)
        if like
        else None,
        daily_ranges=history.daily_ranges,
        now=context.now,
        skewed=history.skewed,
        first=not any(record.rows >= needed for record in history.windows),
        predictions=history.first_predictions,
    )


def _load_window(store: ObjectStore, record: WindowRecord) -> Traffic | None:
    try:
        return Traffic.read(gzip.decompress(store.get(record.key)))
    except ArtifactNotFoundError:
        return None
