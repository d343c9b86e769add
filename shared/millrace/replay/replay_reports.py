"""The report of a replay: built from its rows and their ground truth, and written as JSON, page and evidence."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from millrace.documents import to_plain
from millrace.layout import replay_key
from millrace.ports import ObjectStore
from millrace.releases.replay_evidence import EVIDENCE_NAME, ReplayEvidence
from millrace.replay.paired_labels import (
    LabelledRows,
    QualityTest,
    estimate_versions,
    find_estimated_loss,
    join_labels,
    measure_pairs,
)
from millrace.replay.replay_context import ReplayContext
from millrace.replay.replay_documents import (
    PAGE_NAME,
    REPORT_NAME,
    ReplayReport,
    ReplaySelfTest,
    ReplayState,
    is_of_release,
)
from millrace.replay.replay_summary import (
    Comparison,
    describe_deviations,
    describe_slices,
    list_changes,
    list_days,
    measure_output_shifts,
)
from millrace.replay.replayed_rows import ReplayedRows
from millrace.reports import render_replay_report


def describe_void(test: ReplaySelfTest) -> str:
    """Return the reason for which a replay is void, with predictions to check."""
    examples = ", ".join(test.examples)
    return (
        f"the champion's replay is not what it answered for {test.different:,} of {test.compared:,} rows, by up to "
        f"{test.largest:.3g} (predictions {examples}): the captures, the schema or the code that scores are not those "
        "of then, so this says nothing about the candidate"
    )


def report_replay(context: ReplayContext, state: ReplayState, parts: Sequence[ReplayedRows]) -> ReplayReport:
    """Return the report of a replay whose captures are scored."""
    request, spec, schema = context.request, context.spec, context.versions.baseline.schema
    report = replace(
        ReplayReport.of(request, context.now),
        status="succeeded",
        progress=1.0,
        task=schema.task,
        counts=state.counts,
        self_test=state.self_test,
        not_finite=state.not_finite,
    )
    if not parts or not sum(map(len, parts)):
        return _explain_nothing(report)
    compared = Comparison.of(ReplayedRows.join(parts), context.versions)
    labels = join_labels(
        compared,
        context.stores.data,
        request.model,
        since=request.since,
        until=request.until,
        now=context.now,
        exclude_callers=spec.feedback.exclude_callers,
    )
    test = QualityTest.of(request, compared, context.baseline)
    metrics, metric_rows = measure_pairs(compared, labels, spec)
    estimates = estimate_versions(
        compared,
        spec,
        [
            (request.baseline, context.baseline, state.baseline_features),
            (request.candidate, context.candidate, state.candidate_features),
        ],
    )
    return replace(
        report,
        agreement=compared.agreement,
        days=list_days(compared, labels.labelled),
        changes=list_changes(compared),
        slices=describe_slices(compared, spec),
        deviations=describe_deviations(compared),
        shifts=measure_output_shifts(compared),
        labelled=int(np.sum(labels.labelled)),
        metrics=metrics,
        metric_rows=metric_rows,
        quality=None if isinstance(test, str) else test.apply(compared, labels),
        estimates=estimates,
        notes=tuple(_notes(report, labels, test, metric_rows)),
    )


def _explain_nothing(report: ReplayReport) -> ReplayReport:
    counts = report.counts
    if counts.refused:
        reason = "no captured row can be replayed: " + "; ".join(
            f"version {one.version}: {one.reason} ({one.rows:,} rows)" for one in counts.refused
        )
        return replace(report, status="refused", reason=reason)
    span = f"from {report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    if counts.omitted:
        return replace(report, reason=f"the {counts.omitted:,} rows captured {span} are without features: too large")
    return replace(report, reason=f"there are no captured rows {span}")


def _notes(report: ReplayReport, labels: LabelledRows, test: QualityTest | str, metric_rows: int) -> list[str]:
    counts, notes = report.counts, []
    if counts.sample_share < 1.0:
        notes.append(f"a sample: at least {counts.sample_share:.2%} of the captured rows of an hour were replayed")
    if counts.sampling_rate < 1.0:
        notes.append(f"captured at a rate of {counts.sampling_rate:.2%}: a row stands for others, and counts once here")
    if not report.self_test.compared:
        notes.append("no row was answered by the champion itself: the self-test had nothing to compare")
    elif report.self_test.rounded:
        notes.append(
            f"{report.self_test.rounded:,} rows of the self-test differ in the last digits, as processors round: by up "
            f"to {report.self_test.largest:.1e}"
        )
    if isinstance(test, str):
        notes.append(test)
    if metric_rows < int(np.sum(labels.labelled)):
        notes.append(f"metrics and their intervals are of {metric_rows:,} of the labelled rows")
    if labels.unusable:
        notes.append(f"{labels.unusable:,} reports of ground truth are no class or number of the model")
    return notes


def write_report(report: ReplayReport, store: ObjectStore) -> None:
    """Write the report as JSON and as a page; of a release also the evidence."""
    model, replay_id = report.model, report.replay_id
    if is_of_release(replay_id) and report.status != "failed":  # a fault says nothing: the evidence before stays
        evidence = make_evidence(report)
        store.put(replay_key(model, replay_id, EVIDENCE_NAME), evidence.write(), "application/json")
    page = render_replay_report(to_plain(report))
    store.put(replay_key(model, replay_id, PAGE_NAME), page.encode(), "text/html; charset=utf-8")
    store.put(replay_key(model, replay_id, REPORT_NAME), report.write(), "application/json")


def announce_replay(report: ReplayReport, store: ObjectStore) -> None:
    """Write, where a release has no evidence yet, that its replay has begun: evaluations request no second one then."""
    if is_of_release(report.replay_id):
        key = replay_key(report.model, report.replay_id, EVIDENCE_NAME)
        store.put_if_unchanged(key, make_evidence(report).write(), None, "application/json")


def make_evidence(report: ReplayReport) -> ReplayEvidence:
    """Return what a release's guards read of a report."""
    return ReplayEvidence(
        model=report.model,
        replay_id=report.replay_id,
        baseline=report.baseline,
        candidate=report.candidate,
        status=report.status if report.status in ("void", "refused") else "running",
        reason=report.reason,
        since=report.since,
        until=None if report.status == "running" else report.until,  # rows without their comparison pass no stage
        checked_at=report.updated_at,
        rows=report.counts.replayed,
        refused_rows=sum(one.rows for one in report.counts.refused if one.version == report.candidate),
        not_finite_rows=report.not_finite,
        compared_rows=report.self_test.compared,
        equal_rows=report.self_test.equal,
        agreement=report.agreement,
        output_shift=max((one.excess for one in report.shifts), default=None),
        estimated_drop=find_estimated_loss(report.estimates) if report.estimates else None,
        labelled_rows=report.labelled,
        quality=report.quality,
    )
