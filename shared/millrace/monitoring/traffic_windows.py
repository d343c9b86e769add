"""Windows of traffic: filled as rows come, judged once they hold enough of them."""

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from millrace.captures.window import CapturedWindow
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.predictions import AnswerSketch, Traffic, ValueSketch
from millrace.histograms.tables import ColumnSketch, sketch_rows
from millrace.layout import monitoring_key
from millrace.monitoring.baselines import Background
from millrace.monitoring.chart_data import draw_columns, effects_of
from millrace.monitoring.findings import Finding
from millrace.monitoring.judging import INPUT_VERDICTS, judge_traffic
from millrace.monitoring.run import Run
from millrace.monitoring.seasons import Seasons, find_seasons, learn_usual
from millrace.monitoring.segments import SegmentRows, extract_rows, store_segment
from millrace.monitoring.state import WindowRecord, traffic_from_dict, traffic_to_dict
from millrace.ports import ObjectStore


def take_batch(run: Run, batch: CapturedWindow, name: str, known_versions: set[int]) -> int:
    """Add captured rows to the open window, and keep their answers; return how many were the watched version's."""
    fresh = ~_read_before(run, batch)
    run.notes.read.duplicates += int(np.count_nonzero(~fresh))
    watched = fresh & (batch.versions == run.watched.version)
    _count_versions(run, batch.versions[fresh & ~watched], known_versions)
    rows = int(np.count_nonzero(watched))
    if not rows:
        return 0
    state = run.state
    moments = np.minimum(batch.predicted_at[watched], np.datetime64(run.now.astimezone(UTC).replace(tzinfo=None), "us"))
    begin, end = (_aware(moment) for moment in (moments.min(), moments.max()))
    state.last_row_at = max(state.last_row_at or end, end)
    answered = extract_rows(batch, watched, run.watched.schema, run.spec.sensitive_groups, run.notes)
    if len(answered):
        state.segments.append(store_segment(run.store, run.model, name, answered))
    subject = run.watched.subject
    if subject is None:
        return rows
    columns = {key: values[watched] for key, values in batch.typed_features(run.watched.schema).items()}
    traffic = Traffic(
        sketch_rows(columns, rows, subject.reference.cells, subject.reference.plan), _sketch_answers(run, answered)
    )
    if state.open is None:
        state.open, state.open_begin, state.open_end = traffic, begin, end
    else:
        state.open.add(traffic)
        state.open_begin, state.open_end = min(state.open_begin or begin, begin), max(state.open_end or end, end)
    return rows


def _read_before(run: Run, batch: CapturedWindow) -> npt.NDArray[np.bool_]:
    """Tell which rows were read in an earlier run, from another object."""
    if not len(batch):
        return np.zeros(0, dtype=np.bool_)
    earliest = _aware(batch.predicted_at.min())
    known: set[str] = set()
    for segment in run.state.segments:
        if segment.end < earliest:
            continue
        try:
            known.update(SegmentRows.from_bytes(run.store.get(segment.key)).prediction_ids.tolist())
        except ArtifactNotFoundError:
            continue
    return np.fromiter((name in known for name in batch.prediction_ids.tolist()), dtype=np.bool_, count=len(batch))


def _count_versions(run: Run, versions: npt.NDArray[np.int64], known_versions: set[int]) -> None:
    for version, count in Counter(versions.tolist()).items():
        told = run.notes.other_versions if version in known_versions else run.notes.unknown_versions
        told[version] = told.get(version, 0) + count


def _sketch_answers(run: Run, rows: SegmentRows) -> AnswerSketch | ColumnSketch | None:
    subject = run.watched.subject
    if not len(rows):
        return None
    if run.watched.schema.classes:
        return AnswerSketch.of(rows.answers())
    target = subject.reference.target if subject else None
    if target is None:
        return None
    groups = {name: values.tolist() for name, values in rows.groups.items()}
    return ValueSketch.of(rows.values.astype(np.float64), target, groups)


def judge_open_window(run: Run) -> int:
    """Judge the open window once it is full or old; return how many were judged."""
    state, subject = run.state, run.watched.subject
    if subject is None:
        if run.watched.obstacle and state.last_row_at is not None:
            nothing = Finding("feature_drift", "every feature", "unknown", run.watched.obstacle)
            run.advance("traffic", [nothing], run.now)
        return 0
    opened, needed = state.open, run.spec.monitoring.rows_needed
    if opened is None or state.open_begin is None or state.open_end is None:
        return 0
    old = run.now - state.open_begin >= timedelta(hours=run.spec.monitoring.max_window_hours)
    if opened.features.rows < needed and not old:
        return 0
    first = not any(record.rows >= needed for record in state.windows)
    background = Background(
        previous=_last_quiet(run),
        seasons=_seasons(run, opened),
        usual=state.usual,
        now=run.now,
        skewed=state.skewed,
        first=first,
        answers=state.first_answers,
    )
    findings = judge_traffic(opened, subject, run.spec.monitoring, background)
    _remember(run, opened, findings, full=opened.features.rows >= needed, first=first)
    run.advance("traffic", findings, state.windows[-1].begin)
    return 1


def _remember(run: Run, traffic: Traffic, findings: Sequence[Finding], *, full: bool, first: bool) -> None:
    state = run.state
    begin, end = state.open_begin or run.now, state.open_end or run.now
    breaching = [finding for finding in findings if finding.status == "breach"]
    key = monitoring_key(run.model, f"windows/{end:%Y%m%dT%H%M%S}-{run.token}.json.gz")
    run.store.put(key, gzip.compress(json.dumps(traffic_to_dict(traffic)).encode(), mtime=0), "application/gzip")
    quiet = full and not breaching
    state.windows.append(WindowRecord(begin, end, traffic.features.rows, quiet, key))
    skewed = [finding.subject for finding in breaching if finding.verdict == "skew"]
    state.usual = learn_usual(state.usual, findings, end)
    state.skewed = skewed if first else [name for name in state.skewed if name in skewed]
    if full and state.first_answers is None:
        state.first_answers = traffic.answers
    state.inputs = [finding for finding in findings if finding.verdict in INPUT_VERDICTS]
    state.history.append(
        {
            "begin": begin.isoformat(),
            "end": end.isoformat(),
            "version": run.watched.version,
            "rows": traffic.features.rows,
            "breaches": sorted({finding.key for finding in breaching}),
            "effects": effects_of(findings),
        }
    )
    state.pictures = draw_columns(traffic, run.watched.subject, findings) if run.watched.subject else []
    state.open = state.open_begin = state.open_end = None


def _last_quiet(run: Run) -> Traffic | None:
    record = next((record for record in reversed(run.state.windows) if record.quiet), None)
    return _load(run.store, record) if record else None


def _seasons(run: Run, opened: Traffic) -> Seasons | None:
    state = run.state
    if state.open_begin is None or state.open_end is None:
        return None
    found = find_seasons(state.windows, state.open_begin, state.open_end)
    if not found:
        return None
    return Seasons(found, lambda record: _load(run.store, record), lambda: traffic_from_dict(traffic_to_dict(opened)))


def _load(store: ObjectStore, record: WindowRecord) -> Traffic | None:
    try:
        return traffic_from_dict(json.loads(gzip.decompress(store.get(record.key))))
    except ArtifactNotFoundError:
        return None


def _aware(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(moment.astype("datetime64[us]").astype(np.int64) / 1e6, UTC)
