"""Windows of traffic and of outcomes: filled by each run, closed and evaluated once they hold enough.

A window of outcomes closes as ground truth arrives, and is measured again when more arrives late.
"""

import dataclasses
import gzip
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from millrace.captures.joining import is_excluded
from millrace.captures.records import FeedbackRecord
from millrace.captures.window import CapturedWindow
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.histograms.predictions import AnyPredictions, PredictionHistogram, Traffic, ValueHistogram
from millrace.histograms.tables import Reference, count_in_bins
from millrace.layout import monitoring_key
from millrace.monitoring.chart_data import draw_columns, effects_of
from millrace.monitoring.context import Baselines, MonitorContext, MonitoredVersion
from millrace.monitoring.days import find_steady, find_what_is_of_days
from millrace.monitoring.drift import counts_by_column
from millrace.monitoring.live_quality import evaluated_metrics
from millrace.monitoring.measured_windows import COUNTS_KEPT, MeasuredWindow, PooledWindow, RecentOutcomes, pool_old
from millrace.monitoring.new_captures import IngestCounts
from millrace.monitoring.rules import (
    evaluate_outcomes,
    evaluate_traffic,
    input_findings,
    range_scope,
    rows_needed,
)
from millrace.monitoring.seasonal_notes import note_seasonal
from millrace.monitoring.seasonality import (
    CLOCK_SHARE,
    WEEK,
    TrafficTotal,
    TrafficTotals,
    add_impurities,
    clock_shares,
    find_clock,
    find_seasonal_baselines,
    learn_ranges,
)
from millrace.monitoring.segments import (
    KnownRows,
    SegmentRows,
    assign_outcomes,
    count_outcomes,
    extract_rows,
    store_segment,
    time_span,
)
from millrace.monitoring.state import (
    GZIP,
    MAX_HISTORY,
    MAX_SEGMENTS,
    MAX_TOTALS,
    MAX_WINDOWS,
    MonitoringState,
    OpenWindow,
    OutcomeHistory,
    QualityRecord,
    Segment,
    TrafficHistory,
    WindowRecord,
    WindowSummary,
)
from millrace.monitoring.window_findings import WindowEvaluation, WindowFinding
from millrace.ports import ObjectStore

#: Share of the usual outcomes with which a segment is evaluated.
_COMPLETE_SHARE = 0.9
_COVERAGE_OVER = 10
#: Outcomes may arrive before the captured prediction; they are tried again for so long.
_RETRY_FOR = timedelta(hours=6)
_MAX_PENDING = 10_000
#: Share of rows up to which those that came late do not make their hours and the present ones one piece.
_FEW_LATE = 0.2
#: Least time between two totals: runs may be more frequent, and what is kept covers weeks.
_TOTAL_EVERY = timedelta(minutes=30)
#: Time in which a version's hours are compared with one another, to find what follows the clock.
_IMPURITIES_OF = 2 * WEEK


def ingest_traffic(
    context: MonitorContext, state: MonitoringState, batch: CapturedWindow, name: str, known_rows: KnownRows
) -> tuple[MonitoringState, IngestCounts]:
    """Add captured rows to the open window, and store their predictions as a segment of that name."""
    now = np.datetime64(context.now.astimezone(UTC).replace(tzinfo=None), "us")
    fresh = ~known_rows.find(batch, state.outcomes.segments)
    chosen = fresh & (batch.versions == context.version)
    versions = Counter(batch.versions[fresh & ~chosen].tolist())
    predicted = extract_rows(batch, chosen, context.schema, context.spec.sensitive_groups)
    rows = int(np.count_nonzero(chosen))
    counts = IngestCounts.of_reading(batch.report) + IngestCounts(
        duplicates=int(np.count_nonzero(~fresh)),
        from_the_future=int(np.count_nonzero(batch.predicted_at > now)),
        other_versions={str(version): n for version, n in versions.items()},
        monitored_rows=rows,
        unanswered=rows - len(predicted),
    )
    if not rows:
        return state, counts
    segments, history = state.outcomes.segments, state.traffic
    begin, end = time_span(_without_few_late(np.minimum(batch.predicted_at[chosen], now), history))
    segment = store_segment(context.store, context.model, name, predicted, time_span(batch.predicted_at[chosen]))
    segments = (*segments, segment)[-MAX_SEGMENTS:]
    if context.monitored is not None:
        reference = context.monitored.reference
        columns = {key: values[chosen] for key, values in batch.typed_features(context.schema).items()}
        features = count_in_bins(columns, rows, reference.bins, reference.plan)
        traffic = Traffic(features=features, predictions=_count_predictions(predicted, context, reference))
        history = add_traffic(history, OpenWindow(traffic=traffic, begin=begin, end=end), context.monitored)
    state = replace(
        state,
        traffic=history,
        outcomes=replace(state.outcomes, segments=segments),
        last_row_at=max(state.last_row_at or end, end),
    )
    return state, counts


def _without_few_late(timestamps: npt.NDArray[Any], history: TrafficHistory) -> npt.NDArray[Any]:
    """Leave out rows that are older than the last total if they are few: they count with the others' hours."""
    if not history.totals:
        return timestamps
    since = np.datetime64(history.totals[-1].end.astimezone(UTC).replace(tzinfo=None), "us")
    new = timestamps[timestamps > since]
    return new if len(timestamps) - len(new) <= _FEW_LATE * len(timestamps) else timestamps


def add_traffic(history: TrafficHistory, more: OpenWindow, monitored: MonitoredVersion) -> TrafficHistory:
    """Add rows that were read together to the open window."""
    window, impurities = history.open, history.impurities
    if more.end - (history.begun_at or more.begin) < _IMPURITIES_OF:
        counts = counts_by_column(more.traffic, monitored)
        impurities = add_impurities(impurities, counts, more.end - more.begin)
    if window is None:
        return replace(history, open=replace(more, fresh_since=more.begin), impurities=impurities)
    fresh = min(window.fresh_since or more.begin, more.begin)
    begin, end = min(window.begin, more.begin), max(window.end, more.end)
    window = OpenWindow(traffic=window.traffic + more.traffic, begin=begin, end=end, fresh_since=fresh)
    return replace(history, open=window, impurities=impurities)


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
    """Close and evaluate the open window once it is full or old; keep the total of the version's traffic until now."""
    monitored, spec = context.monitored, context.spec.monitoring
    window = history.open
    if window is None or monitored is None:
        return history, None
    history, total = _keep_total(context, history, window)
    needed = rows_needed(spec)
    full = window.traffic.features.rows >= needed
    if not full and context.now - window.begin < timedelta(hours=spec.max_window_hours):
        return history, None
    history, baselines = _find_baselines(context, history, window, total)
    findings = evaluate_traffic(window.traffic, monitored, spec, baselines)
    findings = note_seasonal(findings, monitored, spec, context.now, window.traffic.features)
    key = _store_traffic(context, window.traffic, f"{window.end:%Y%m%dT%H%M%S}")
    rows = window.traffic.features.rows
    breaches = [finding for finding in findings if finding.status == "breach"]
    skewed = [finding.subject for finding in breaches if finding.verdict == "skew"]
    quiet, begin, end = full and not breaches, window.begin, window.end
    keys, effects = sorted({finding.key for finding in breaches}), effects_of(findings)
    summary = WindowSummary(begin=begin, end=end, version=context.version, rows=rows, breaches=keys, effects=effects)
    scoped = ((range_scope(finding), finding) for finding in findings)
    closed = replace(
        history,
        open=None,
        windows=(*history.windows, WindowRecord(begin=begin, end=end, rows=rows, quiet=quiet, key=key))[-MAX_WINDOWS:],
        window_total=history.totals[-1].key,
        skewed=_still_skewed(findings, baselines, skewed),
        daily_ranges=learn_ranges(history.daily_ranges, scoped, end),
        first_predictions=history.first_predictions or (window.traffic.predictions if full else None),
        inputs=input_findings(findings),
        summaries=(*history.summaries, summary)[-MAX_HISTORY:],
        charts=draw_columns(window.traffic, monitored, findings),
    )
    return closed, WindowEvaluation("traffic", begin, tuple(findings))


def _still_skewed(findings: Sequence[WindowFinding], baselines: Baselines, skewed: Sequence[str]) -> tuple[str, ...]:
    if baselines.first:
        return tuple(skewed)
    unknown = {finding.subject for finding in findings if finding.verdict == "skew" and finding.status == "unknown"}
    return tuple(name for name in baselines.skewed if name in skewed or unknown)


def _keep_total(
    context: MonitorContext, history: TrafficHistory, window: OpenWindow
) -> tuple[TrafficHistory, Traffic | None]:
    """Store the total of the version's traffic with the open window's rows; return the total."""
    totals = history.totals
    if totals and window.fresh_since is None:
        return history, _load_traffic(context.store, totals[-1].key)
    before = _load_traffic(context.store, history.window_total) if history.window_total else None
    if history.window_total and before is None:
        totals = ()  # Retention has deleted it: the history begins anew
    total = before + window.traffic if before else window.traffic
    if total.predictions is not None and total.predictions.groups:
        total = replace(total, predictions=replace(total.predictions, groups={}))
    key = _store_traffic(context, total, f"{window.end:%Y%m%dT%H%M%S}-total")
    begin, end = window.fresh_since or window.begin, window.end
    if totals and (end <= totals[-1].end or _is_short(totals)):
        # Rows that were all delivered late, or after another run within the hour: the piece before and these are one.
        last, totals = totals[-1], totals[:-1]
        begin, end = min(begin, last.begin), max(end, last.end)
    begun_at = history.begun_at if totals and history.begun_at else begin
    totals = (*totals, TrafficTotal(begin=begin, end=end, key=key))[-MAX_TOTALS:]
    window = replace(window, fresh_since=None)
    return replace(history, open=window, totals=totals, begun_at=begun_at), total


def _is_short(totals: Sequence[TrafficTotal]) -> bool:
    return len(totals) > 1 and totals[-1].end - totals[-2].end < _TOTAL_EVERY


def _find_baselines(
    context: MonitorContext, history: TrafficHistory, window: OpenWindow, total: Traffic | None
) -> tuple[TrafficHistory, Baselines]:
    """Return the baselines of the open window, and the history with what its first whole day and week show."""
    store, monitored, begun_at = context.store, context.monitored, history.begun_at or window.begin
    needed = rows_needed(context.spec.monitoring)
    quiet = next((record for record in reversed(history.windows) if record.quiet), None)
    baselines = Baselines(
        previous=_load_traffic(store, quiet.key) if quiet else None,
        daily_ranges=history.daily_ranges,
        now=context.now,
        skewed=history.skewed,
        first=not any(record.rows >= needed for record in history.windows),
        predictions=history.first_predictions,
    )
    if context.spec.monitoring.seasonality == "off":
        return history, baselines
    newest = history.totals[-1].key
    totals = TrafficTotals(history.totals, lambda key: total if key == newest else _load_traffic(store, key), begun_at)
    clock: frozenset[str] = frozenset()
    if total is not None and monitored is not None:
        counts = counts_by_column(total, monitored)
        so_far = clock_shares(history.impurities, counts)
        age = window.end - begun_at
        if age < WEEK:
            columns, training = total.features.columns, counts_by_column(monitored.training, monitored)
            bins = monitored.reference.bins
            few_values = {name: counts[name] for name, own in bins.items() if columns[name].has_few_values(own)}
            clock = find_clock(history.clock_shares, so_far, few_values, training)
        elif age < _IMPURITIES_OF:
            history = replace(history, clock_shares=history.clock_shares | so_far)
    clock |= {name for name, share in history.clock_shares.items() if share >= CLOCK_SHARE}

    def of_days(days: Sequence[Traffic]) -> dict[str, float]:
        found = find_what_is_of_days(days, monitored) if monitored else {}
        return {name: share for name, share in found.items() if name not in history.skewed}

    def steady(days: Sequence[Traffic]) -> frozenset[str]:
        return find_steady(days, monitored) if monitored else frozenset()

    seasonal = find_seasonal_baselines(totals, window.begin, window.end, clock, of_days, find_steady=steady)
    seen, skewed = history.period_seen, history.skewed
    is_first = not seen and seasonal.day.is_whole and seasonal.day.whole() is not None
    if seasonal.week.is_whole and seen == "day":
        # What follows the clock is compared for the first time.
        skewed = tuple(dict.fromkeys([*skewed, *sorted(clock)]))
    if seasonal.week.is_whole and (seen or is_first):
        history = replace(history, period_seen="week")
    elif is_first:
        history = replace(history, period_seen="day")
    return history, dataclasses.replace(baselines, seasonal=seasonal, first=is_first, skewed=skewed)


def _store_traffic(context: MonitorContext, traffic: Traffic, name: str) -> str:
    key = monitoring_key(context.model, f"windows/{name}-{context.token}.json.gz")
    context.store.put(key, gzip.compress(traffic.write(indent=False), mtime=0), GZIP)
    return key


def _load_traffic(store: ObjectStore, key: str) -> Traffic | None:
    try:
        return Traffic.read(gzip.decompress(store.get(key)))
    except ArtifactNotFoundError:
        return None


def ingest_feedback(
    context: MonitorContext, history: OutcomeHistory, records: Sequence[FeedbackRecord], *, retry: bool
) -> tuple[OutcomeHistory, IngestCounts]:
    """Assign outcomes to captured rows, with ``retry`` also those that wait, and measure their windows again."""
    waiting = history.pending_feedback
    if retry:
        records, waiting = [*map(FeedbackRecord.from_line, waiting), *records], ()
    records = [record for record in records if not is_excluded(record.caller, context.spec.feedback.exclude_callers)]
    matched: set[str] = set()
    changed: set[str] = set()
    segments, left, unusable = list(history.segments), records, 0
    for index in range(len(segments) - 1, -1, -1):
        if not left:
            break
        segment = segments[index]
        assigned = assign_outcomes(context.store, segment, left, schema=context.schema, token=context.token)
        segments[index], found, not_usable = assigned
        unusable += not_usable
        if segments[index] is not segment:
            changed.add(segment.key)
        matched |= found
        # A prediction is in one segment only; a row may have been predicted more than once.
        left = [record for record in left if record.feedback_id not in found or record.prediction_id is None]
    unmatched = [record for record in records if record.feedback_id not in matched]
    counts = IngestCounts(matched_feedback=len(matched), unmatched_feedback=len(unmatched), unusable_feedback=unusable)
    recent = [record for record in unmatched if context.now - record.received_at < _RETRY_FOR]
    quality = tuple(
        _measure(context, record, segments) if changed.intersection(record.segments) else record
        for record in history.quality
    )
    pending = (*waiting, *(record.to_line() for record in recent))[-_MAX_PENDING:]
    return replace(history, segments=tuple(segments), quality=quality, pending_feedback=pending), counts


def close_outcome_window(
    context: MonitorContext, history: OutcomeHistory, inputs: Sequence[WindowFinding]
) -> tuple[OutcomeHistory, WindowEvaluation | None]:
    """Close and evaluate a window of outcomes once enough are complete; ``inputs`` are of the latest traffic."""
    spec, coverage = context.spec.monitoring, _median_coverage(history.quality)
    ready = [one for one in history.segments if not one.evaluated and _is_complete(context, one, coverage)]
    labelled = sum(segment.labelled for segment in ready)
    if not labelled or labelled < rows_needed(spec, "outcomes"):
        return history, None
    record = QualityRecord(
        begin=min(segment.begin for segment in ready),
        end=max(segment.end for segment in ready),
        segments=tuple(segment.key for segment in ready),
        predictions=sum(segment.rows for segment in ready),
        outcomes=labelled,
    )
    outcomes = _sum_outcomes(context, ready)
    record, keys = _describe(context, record, outcomes), set(record.segments)
    monitored = context.monitored
    if monitored is None:
        findings = [WindowFinding("live_quality", "every metric", "unknown", context.obstacle, rows=labelled)]
    else:
        earlier: tuple[PooledWindow | QualityRecord, ...] = (*history.pooled, *history.quality)
        recent = RecentOutcomes(record, earlier, [one.counts for one in earlier])
        findings = evaluate_outcomes(outcomes, record.predictions, monitored, spec, inputs, recent=recent)
        findings = note_seasonal(findings, monitored, spec, context.now)
    quality = (*(_without_old_counts(one, record) for one in history.quality), record)
    left = [(one, one.counts) for one in quality[:-MAX_HISTORY]]
    history = replace(
        history,
        segments=tuple(replace(one, evaluated=True) if one.key in keys else one for one in history.segments),
        quality=quality[-MAX_HISTORY:],
        pooled=pool_old(history.pooled, left) if left else history.pooled,
    )
    return history, WindowEvaluation("outcomes", record.begin, tuple(findings))


def closing_times(context: MonitorContext, state: MonitoringState) -> Iterator[datetime]:
    """Yield when the open windows close without new rows: the one of traffic, and the next one of outcomes."""
    spec, window = context.spec.monitoring, state.traffic.open
    if window is not None and context.monitored is not None:
        yield window.begin + timedelta(hours=spec.max_window_hours)
    coverage, patience = _median_coverage(state.outcomes.quality), timedelta(hours=spec.live_quality.settle_hours)
    waiting = sorted(
        (context.now if _is_complete(context, one, coverage) else one.end + patience, one.labelled)
        for one in state.outcomes.segments
        if not one.evaluated and one.labelled
    )
    labelled = 0
    for complete_at, more in waiting:
        labelled += more
        if labelled >= rows_needed(spec, "outcomes"):
            yield complete_at
            return


def _median_coverage(records: Sequence[QualityRecord]) -> float:
    shares = [record.outcomes / record.predictions for record in records[-_COVERAGE_OVER:] if record.predictions]
    return statistics.median(shares) if shares else 1.0


def _is_complete(context: MonitorContext, segment: Segment, coverage: float) -> bool:
    old = context.now - segment.end >= timedelta(hours=context.spec.monitoring.live_quality.settle_hours)
    return old or segment.labelled >= _COMPLETE_SHARE * coverage * segment.rows


def _sum_outcomes(context: MonitorContext, segments: Sequence[Segment]) -> AnyOutcomes:
    schema, target = context.schema, context.monitored.reference.target if context.monitored else None
    calibration = context.monitored.calibration if context.monitored else None
    counted = [count_outcomes(context.store, one, schema, target, calibration) for one in segments if one.labelled]
    origin = target.center if target else 0.0
    empty: AnyOutcomes = OutcomeHistogram.empty(len(schema.classes)) if schema.classes else ErrorSums.empty(origin)
    return reduce(add, [one for one in counted if one is not None], empty)


def _without_old_counts(record: QualityRecord, latest: QualityRecord) -> QualityRecord:
    is_old = record.counts is not None and record.end < latest.end - COUNTS_KEPT
    return replace(record, counts=None) if is_old else record


def _measure(context: MonitorContext, record: QualityRecord, segments: Sequence[Segment]) -> QualityRecord:
    """Measure a window by the outcomes that are known now."""
    keys = set(record.segments)
    own = [segment for segment in segments if segment.key in keys]
    record = replace(record, outcomes=sum(segment.labelled for segment in own))
    return _describe(context, record, _sum_outcomes(context, own))


def _describe(context: MonitorContext, record: QualityRecord, outcomes: AnyOutcomes) -> QualityRecord:
    spec, monitored, task = context.spec, context.monitored, context.schema.task
    profile, target = (monitored.profile, monitored.reference.target) if monitored else (None, None)
    measured = MeasuredWindow.measure(outcomes, profile, target, (record.begin, record.end))
    record = replace(record, counts=outcomes.coarsen(), calibration=measured.calibration, covered=measured.covered)
    metrics = measured.metrics
    names = evaluated_metrics(task, spec.monitoring.live_quality.metric, spec.primary_metric, metrics)
    if not names:
        return record
    first = metrics[names[0]]
    kept = {name: metrics[name] for name in names}
    return replace(record, metrics=kept, metric=names[0], value=first.value, low=first.low, high=first.high)
