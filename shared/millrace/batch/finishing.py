"""Finish a batch job: receipts decide whether every row was scored; ``_SUCCESS`` is written last, or not at all."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from msgspec.structs import replace

import millrace
from millrace.batch.job import (
    BatchJob,
    JobManifest,
    JobOutcome,
    OutputFile,
    Plan,
    Receipt,
    add_summaries,
    load_plan,
    sum_counts,
)
from millrace.captures.job_windows import JobWindow
from millrace.cost.arithmetic import BatchUsage, calculate_batch
from millrace.cost.prices import US_EAST_1, PriceList
from millrace.documents import dump, to_plain
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.predictions import Traffic
from millrace.layout import SUCCESS_MARKER, receipt_key
from millrace.ports import ObjectStore

#: Errors of rows that ``errors.jsonl`` lists.
MAX_ERRORS = 10_000
#: Faults of parts, and parts without a receipt, that a manifest lists.
_MAX_REASONS, _MAX_MISSING = 20, 100
_THREADS, _AT_ONCE = 16, 64

_JSON, _JSON_LINES = "application/json", "application/x-ndjson"


def finish_job(
    job: BatchJob, store: ObjectStore, *, now: datetime, memory_mb: int = 0, prices: PriceList = US_EAST_1
) -> JobManifest:
    """Decide whether a job is complete, and write its errors and its manifest.

    Parameters
    ----------
    store : ObjectStore
        The data bucket.
    memory_mb : int, default=0
        Of the function that scores, for the arithmetic of costs.

    Returns
    -------
    JobManifest
        ``complete`` when every part has a receipt, ``incomplete`` when some lack one and scoring them again may help,
        ``failed`` when a part cannot be scored or too many rows were refused. Finishing again gives the same.
    """
    plan = load_plan(job.job_id, store)
    receipts, captured = _receipts(job, plan, store)
    known = [receipt for receipt in receipts if receipt is not None and not receipt.fault]
    outcome, reasons = _decide(job, plan, receipts, known)
    usage = BatchUsage.of(plan.parts, plan.lanes, sum(one.seconds for one in receipts if one), memory_mb)
    manifest = JobManifest(
        job_id=job.job_id,
        model=job.model,
        version=job.version,
        alias=job.alias,
        outcome=outcome,
        reasons=tuple(reasons),
        missing_parts=tuple(number for number, one in enumerate(receipts) if one is None)[:_MAX_MISSING],
        parts=plan.parts,
        rows=sum(receipt.rows for receipt in known),
        refused=sum(receipt.refused for receipt in known),
        refused_by_reason=sum_counts([receipt.refused_by_reason for receipt in known]),
        predictions=add_summaries([receipt.predictions for receipt in known]),
        missing=sum_counts([receipt.missing for receipt in known]),
        captured=captured.features.rows if captured is not None and outcome == "complete" else 0,
        sources=plan.objects,
        source_bytes=plan.size,
        files=tuple(
            OutputFile(name=one.key.removeprefix(job.destination), rows=one.rows, size=one.size, sha256=one.sha256)
            for one in known
            if one.key
        ),
        warnings=plan.warnings,
        seconds=sum(receipt.seconds for receipt in known),
        cost=to_plain(calculate_batch(usage, prices)),
        created_at=job.created_at,
        finished_at=now,
        code_version=millrace.__version__,
    )
    errors = [error for receipt in known for error in receipt.errors][:MAX_ERRORS]
    lines = b"".join(dump(to_plain(error)) + b"\n" for error in errors)
    store.put(f"{job.destination}errors.jsonl", lines, _JSON_LINES)
    store.put(f"{job.destination}manifest.json", manifest.write(), _JSON)
    if outcome == "complete":
        if captured is not None:
            span = {"begin": manifest.created_at, "end": manifest.finished_at}
            JobWindow(job_id=job.job_id, version=job.version, traffic=captured, **span).store(job.model, store)
        store.put(f"{job.destination}{SUCCESS_MARKER}", b"")
    return manifest


def _receipts(job: BatchJob, plan: Plan, store: ObjectStore) -> tuple[list[Receipt | None], Traffic | None]:
    """Return the receipt of each part, and the sum of the histograms that they held; a few are in memory at once."""

    def read(number: int) -> Receipt | None:
        try:
            return Receipt.read(store.get(receipt_key(job.job_id, number)))
        except ArtifactNotFoundError:
            return None

    found: list[Receipt | None] = []
    captured: Traffic | None = None
    with ThreadPoolExecutor(_THREADS) as pool:
        for begin in range(0, plan.parts, _AT_ONCE):
            for one in pool.map(read, range(begin, min(begin + _AT_ONCE, plan.parts))):
                if one is None or one.captured is None:
                    found.append(one)
                    continue
                captured = one.captured if captured is None else captured + one.captured
                found.append(replace(one, captured=None))
    return found, captured


def _decide(
    job: BatchJob, plan: Plan, receipts: Sequence[Receipt | None], known: Sequence[Receipt]
) -> tuple[JobOutcome, list[str]]:
    faults = [f"part {one.part}: {one.fault}" for one in receipts if one is not None and one.fault]
    if faults:
        rest = [f"{len(faults) - _MAX_REASONS} more parts"] if len(faults) > _MAX_REASONS else []
        return "failed", [*faults[:_MAX_REASONS], *rest]
    missing = sum(one is None for one in receipts)
    if missing:
        return "incomplete", [f"{missing:,} of {plan.parts:,} parts were not scored: score the job again"]
    rows, refused = sum(one.rows for one in known), sum(one.refused for one in known)
    if plan.rows is not None and rows != plan.rows:
        return "failed", [f"the results have {rows:,} rows, and the files {plan.rows:,}"]
    if not rows:
        return "failed", ["no file has rows: upload files with a header and rows"]
    if refused > job.max_refused_share * rows:
        share, most = refused / rows, job.max_refused_share
        counts = f"{refused:,} of {rows:,} rows were refused ({share:.1%})"
        return "failed", [f"{counts}, and max_refused_share allows {most:.1%}: errors.jsonl has the reasons"]
    return "complete", []
