"""Windows of outcomes: they settle as labels arrive, and are measured anew when more come late."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from millrace.captures.records import FeedbackRecord
from millrace.histograms.outcomes import ErrorSketch, OutcomeSketch
from millrace.monitoring.findings import Finding
from millrace.monitoring.judging import judge_outcomes
from millrace.monitoring.performance import measure_outcomes
from millrace.monitoring.quality import choose_metric
from millrace.monitoring.run import Run
from millrace.monitoring.segments import load_outcomes, load_rows, settle, sketch_outcomes
from millrace.monitoring.state import QualityRecord, Segment
from millrace.spec.monitoring import MonitoringSpec

#: A part is settled with this share of the outcomes that usually come.
_SETTLED_SHARE = 0.9
_USUAL_OVER = 10
#: Outcomes may come before the prediction was delivered; they are tried again for as long.
_RETRY_FOR = timedelta(hours=6)
_MAX_PENDING = 10_000


def take_feedback(run: Run, records: Sequence[FeedbackRecord]) -> int:
    """Give outcomes to the rows that they are about; return how many reports met one."""
    state = run.state
    waiting = [FeedbackRecord.from_line(line) for line in state.pending_feedback]
    records = [*waiting, *records]
    if not records:
        return 0
    met: set[str] = set()
    changed: set[str] = set()
    left = list(records)
    for index in range(len(state.segments) - 1, -1, -1):
        if not left:
            break
        segment = state.segments[index]
        settled, found = settle(run.store, segment, left, schema=run.watched.schema, token=run.token, notes=run.notes)
        if settled is not segment:
            state.segments[index] = settled
            changed.add(segment.key)
        met |= found
        # A prediction is in one place only; a row may have been asked about more than once.
        left = [record for record in left if record.feedback_id not in found or record.prediction_id is None]
    unmatched = [record for record in records if record.feedback_id not in met]
    recent = [record for record in unmatched if run.now - record.received_at < _RETRY_FOR]
    state.pending_feedback = [record.to_line() for record in recent[-_MAX_PENDING:]]
    run.notes.unmatched_feedback += len(unmatched)
    state.quality = [
        _measure(run, record) if changed.intersection(record.segments) else record for record in state.quality
    ]
    return len(met)


def judge_settled(run: Run) -> int:
    """Judge the outcomes that have settled once there are enough; return how many windows were judged."""
    state, spec = run.state, run.spec.monitoring
    usual = _usual_coverage(state.quality)
    ready = [segment for segment in state.segments if not segment.judged and _is_settled(segment, run, usual)]
    labelled = sum(segment.labelled for segment in ready)
    if not labelled or labelled < _outcomes_needed(spec):
        return 0
    begin, end = min(segment.begin for segment in ready), max(segment.end for segment in ready)
    record = QualityRecord(
        begin=begin,
        end=end,
        segments=tuple(segment.key for segment in ready),
        answers=sum(segment.rows for segment in ready),
        outcomes=labelled,
    )
    keys = set(record.segments)
    state.segments = [replace(one, judged=True) if one.key in keys else one for one in state.segments]
    if run.watched.subject is None:
        findings = [Finding("live_quality", "quality", "unknown", run.watched.obstacle, rows=labelled)]
    else:
        sketch = _sum_outcomes(run, ready)
        findings = judge_outcomes(sketch, record.answers, run.watched.subject, spec, state.inputs)
    state.quality.append(_measure(run, record))
    run.advance("outcomes", findings, begin)
    return 1


def _outcomes_needed(spec: MonitoringSpec) -> int:
    watches = (spec.live_quality, spec.concept_drift, spec.calibration)
    return max((watch.min_rows for watch in watches if watch.enabled), default=1)


def _usual_coverage(records: Sequence[QualityRecord]) -> float:
    shares = [record.outcomes / record.answers for record in records[-_USUAL_OVER:] if record.answers]
    return statistics.median(shares) if shares else 1.0


def _is_settled(segment: Segment, run: Run, usual: float) -> bool:
    old = run.now - segment.end >= timedelta(hours=run.spec.monitoring.live_quality.settle_hours)
    return old or segment.labelled >= _SETTLED_SHARE * usual * segment.rows


def _sum_outcomes(run: Run, segments: Sequence[Segment]) -> OutcomeSketch | ErrorSketch:
    schema, subject = run.watched.schema, run.watched.subject
    target = subject.reference.target if subject else None
    origin = target.center if target else 0.0
    total = OutcomeSketch.empty(len(schema.classes)) if schema.classes else ErrorSketch.empty(origin)
    for segment in segments:
        rows = load_rows(run.store, segment) if segment.labelled else None
        if rows is not None:
            total.add(sketch_outcomes(rows, load_outcomes(run.store, segment), schema, origin))  # type: ignore[arg-type]  # of one task, both are of one kind
    return total


def _measure(run: Run, record: QualityRecord) -> QualityRecord:
    """Measure a window, again when more of its outcomes have come."""
    keys = set(record.segments)
    segments = [segment for segment in run.state.segments if segment.key in keys]
    outcomes = sum(segment.labelled for segment in segments)
    measured = measure_outcomes(_sum_outcomes(run, segments))
    wanted = run.spec.monitoring.live_quality.metric or run.spec.primary_metric
    metric = choose_metric(run.watched.schema.task, wanted, measured)
    if metric is None:
        return replace(record, outcomes=outcomes)
    estimate = measured[metric.name]
    low, high = estimate.interval()
    return replace(record, outcomes=outcomes, metric=metric.name, value=estimate.value, low=low, high=high)
