"""Windows of outcomes: closed as labels arrive, and measured again when more arrive late."""

import statistics
from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from operator import add

from msgspec.structs import replace

from millrace.captures.records import FeedbackRecord
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.monitoring.context import MonitorContext
from millrace.monitoring.new_captures import IngestCounts
from millrace.monitoring.performance import measure_outcomes
from millrace.monitoring.quality import choose_metric
from millrace.monitoring.rules import evaluate_outcomes, rows_needed
from millrace.monitoring.segments import assign_outcomes, count_outcomes
from millrace.monitoring.state import MAX_HISTORY, OutcomeHistory, QualityRecord, Segment
from millrace.monitoring.window_findings import WindowEvaluation, WindowFinding

#: Share of the usual outcomes with which a segment is evaluated.
_COMPLETE_SHARE = 0.9
_COVERAGE_OVER = 10
#: Outcomes may arrive before the captured prediction; they are tried again for so long.
_RETRY_FOR = timedelta(hours=6)
_MAX_PENDING = 10_000


def ingest_feedback(
    context: MonitorContext, history: OutcomeHistory, records: Sequence[FeedbackRecord], counts: IngestCounts
) -> OutcomeHistory:
    """Assign outcomes to captured rows, and measure the windows again that they belong to."""
    records = [*(FeedbackRecord.from_line(line) for line in history.pending_feedback), *records]
    if not records:
        return history
    matched: set[str] = set()
    changed: set[str] = set()
    segments, left = list(history.segments), records
    for index in range(len(segments) - 1, -1, -1):
        if not left:
            break
        segment = segments[index]
        segments[index], found, unusable = assign_outcomes(
            context.store, segment, left, schema=context.schema, token=context.token
        )
        counts.unusable_feedback += unusable
        if segments[index] is not segment:
            changed.add(segment.key)
        matched |= found
        # A prediction is in one segment only; a row may have been predicted more than once.
        left = [record for record in left if record.feedback_id not in found or record.prediction_id is None]
    unmatched = [record for record in records if record.feedback_id not in matched]
    counts.matched_feedback += len(matched)
    counts.unmatched_feedback += len(unmatched)
    recent = [record for record in unmatched if context.now - record.received_at < _RETRY_FOR]
    quality = tuple(
        _measure(context, record, segments) if changed.intersection(record.segments) else record
        for record in history.quality
    )
    pending = tuple(record.to_line() for record in recent[-_MAX_PENDING:])
    return OutcomeHistory(segments=tuple(segments), quality=quality, pending_feedback=pending)


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
    if context.monitored is None:
        findings = [WindowFinding("live_quality", "quality", "unknown", context.obstacle, rows=labelled)]
    else:
        outcomes = _sum_outcomes(context, ready)
        findings = evaluate_outcomes(outcomes, record.predictions, context.monitored, spec, inputs)
    keys = set(record.segments)
    history = replace(
        history,
        segments=tuple(replace(one, evaluated=True) if one.key in keys else one for one in history.segments),
        quality=(*history.quality, _measure(context, record, ready))[-MAX_HISTORY:],
    )
    return history, WindowEvaluation("outcomes", record.begin, tuple(findings))


def _median_coverage(records: Sequence[QualityRecord]) -> float:
    shares = [record.outcomes / record.predictions for record in records[-_COVERAGE_OVER:] if record.predictions]
    return statistics.median(shares) if shares else 1.0


def _is_complete(context: MonitorContext, segment: Segment, coverage: float) -> bool:
    old = context.now - segment.end >= timedelta(hours=context.spec.monitoring.live_quality.settle_hours)
    return old or segment.labelled >= _COMPLETE_SHARE * coverage * segment.rows


def _sum_outcomes(context: MonitorContext, segments: Sequence[Segment]) -> AnyOutcomes:
    schema, target = context.schema, context.monitored.reference.target if context.monitored else None
    origin = target.center if target else 0.0
    counted = [count_outcomes(context.store, one, schema, origin) for one in segments if one.labelled]
    empty: AnyOutcomes = OutcomeHistogram.empty(len(schema.classes)) if schema.classes else ErrorSums.empty(origin)
    return reduce(add, [one for one in counted if one is not None], empty)


def _measure(context: MonitorContext, record: QualityRecord, segments: Sequence[Segment]) -> QualityRecord:
    """Measure a window by the outcomes that are known now."""
    keys = set(record.segments)
    own = [segment for segment in segments if segment.key in keys]
    record = replace(record, outcomes=sum(segment.labelled for segment in own))
    measured = measure_outcomes(_sum_outcomes(context, own))
    wanted = context.spec.monitoring.live_quality.metric or context.spec.primary_metric
    metric = choose_metric(context.schema.task, wanted, measured)
    if metric is None:
        return record
    estimate = measured[metric.name]
    low, high = estimate.interval()
    return replace(record, metric=metric.name, value=estimate.value, low=low, high=high)
