"""The first state of the training pipeline: a run's uploads become datasets, and its data is prepared."""

import hashlib
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import millrace
from millrace.contracts import ValidationVerdict
from millrace.data.captured import CapturedRows, find_captured_rows
from millrace.data.dataset import JSON, StoredTables
from millrace.data.examination import count_types
from millrace.data.findings import errors_among, shorten
from millrace.data.ingest import Intake, SourceIntake
from millrace.data.prepare import Contribution, PreparedData, Selection, choose_datasets, json_bytes, prepare
from millrace.data.read import DEFAULT_LIMITS, Limits
from millrace.data.schema_changes import load_schema
from millrace.entities import DatasetRecord, Run
from millrace.layout import prepared_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.lifecycle import insist_on_living
from millrace.schema import TableSchema

MAX_RUN_REASONS = 20
MAX_VERDICT_REASONS = 5
MAX_REASON_LENGTH = 300


def validate_run(
    run: Run, *, registry: Registry, data_store: ObjectStore, now: datetime, limits: Limits = DEFAULT_LIMITS
) -> ValidationVerdict:
    """Validate a run's uploads and prepare what it trains on.

    A rejected upload is an outcome, not an error: its verdict is stored beside it, and the run goes on when another
    one was accepted. Validating the same run again gives the same result.

    Parameters
    ----------
    run : Run
        Its sources are validated; a run without sources trains on the datasets there are.
    registry : Registry
        Knows the model's spec, schema version and datasets.
    data_store : ObjectStore
        The data bucket.
    now : datetime
        In UTC; the first attempt's is kept for the attempts that follow.
    limits : Limits, default=DEFAULT_LIMITS
        How much data is taken.

    Raises
    ------
    ModelDeletedError
        When the model was deleted since the run was asked for.
    MillraceError
        When the bucket or the registry fails.
    """
    insist_on_living(registry.get_state(run.model), run.requested_at)
    started_at = run.started_at or now
    registry.update_run(run.model, run.run_id, status="running", stage="validating", started_at=started_at)
    spec = registry.get_spec(run.model)
    taker = SourceIntake(run.model, run.run_id, spec, registry, data_store, started_at, limits)
    intakes = [taker.take_in(source) for source in sorted(run.sources, key=lambda source: source.uploaded_at)]
    reasons = [reason for intake in intakes for reason in intake.reasons]
    accepted = [intake for intake in intakes if intake.dataset]
    if run.sources and not accepted:
        return _reject(run, registry, reasons, now)
    combination = _combine(taker, intakes)
    if combination is None:
        return _reject(run, registry, [*reasons, "the model has no accepted dataset to train on: upload one"], now)
    faults = [finding.message for finding in errors_among(combination.prepared.findings)]
    if faults:
        return _reject(run, registry, [*reasons, *faults], now)
    _store(run, combination, taker, data_store)
    summary = _summary(combination, intakes)
    registry.update_run(
        run.model,
        run.run_id,
        dataset_ids=tuple(combination.dataset_ids),
        reasons=tuple(reasons[:MAX_RUN_REASONS]),
        summary={**run.summary, **summary},
    )
    return ValidationVerdict(
        outcome="accepted",
        dataset_ids=combination.dataset_ids[-100:],
        rows=summary["rows"],
        reasons=_brief(reasons),
    )


@dataclass(frozen=True, slots=True)
class _Combination:
    selection: Selection
    prepared: PreparedData
    captured: CapturedRows

    @property
    def datasets(self) -> tuple[DatasetRecord, ...]:
        return self.selection.chosen

    @property
    def dataset_ids(self) -> list[str]:
        return [dataset.dataset_id for dataset in self.datasets]

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What each dataset gave."""
        return self.prepared.contributions[-len(self.datasets) :]

    def describe_captured(self) -> dict[str, Any]:
        """Return what served rows gave, in numbers, or why they gave nothing."""
        gave = self.prepared.contributions[: -len(self.datasets)]
        return {
            **self.captured.counts,
            **({"obstacle": self.captured.obstacle} if self.captured.obstacle else {}),
            **({"trained_on": gave[0].used} if gave else {}),
        }


def _combine(taker: SourceIntake, intakes: Sequence[Intake]) -> _Combination | None:
    """Bring the model's datasets together; one that was uploaded again counts as uploaded then."""
    schema = load_schema(taker.model, taker.registry, taker.data_store)
    if schema is None:
        return None
    # A retry of a run must see what its first attempt saw, also where a later upload renewed a dataset meanwhile.
    known = {intake.dataset.dataset_id: intake.dataset for intake in intakes if intake.dataset}
    datasets = [known.get(dataset.dataset_id, dataset) for dataset in taker.registry.list_datasets(taker.model)]
    selection = choose_datasets(datasets, taker.spec, schema.version, taker.now)
    if not selection.chosen:
        return None
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        since = taker.registry.get_state(taker.model).begun_after
        captured = find_captured_rows(taker.model, schema, taker.spec, taker.data_store, taker.now, since=since)
        before = [captured.table] if captured.table else []
        tables = StoredTables(taker.model, selection.chosen, schema, taker.data_store, Path(folder), before)
        return _Combination(selection, prepare(schema, tables, taker.spec, taker.limits), captured)


def _store(run: Run, combination: _Combination, taker: SourceIntake, data_store: ObjectStore) -> None:
    documents = combination.prepared.documents()
    documents["manifest.json"] = json_bytes(_manifest(run, combination, taker, documents))
    for name, body in documents.items():
        content_type = JSON if name.endswith(".json") else "application/octet-stream"
        data_store.put(prepared_key(run.model, run.run_id, name), body, content_type)


def _manifest(
    run: Run, combination: _Combination, taker: SourceIntake, documents: Mapping[str, bytes]
) -> dict[str, Any]:
    """Return the training set: a manifest of datasets, with what each gave to it and what was left out and why."""
    return {
        "manifest_version": 1,
        "model": run.model,
        "run_id": run.run_id,
        "prepared_at": taker.now.isoformat(),
        "code_version": millrace.__version__,
        "combine": taker.spec.combine,
        "window_days": taker.spec.window_days,
        "max_training_rows": taker.spec.max_training_rows,
        "seed": taker.spec.seed,
        "dataset_ids": combination.dataset_ids,
        "datasets": [
            {
                "dataset_id": dataset.dataset_id,
                "uploaded_at": dataset.uploaded_at.isoformat(),
                "schema_revision": dataset.schema_revision,
                **contribution.to_dict(),
            }
            for dataset, contribution in zip(combination.datasets, combination.contributions, strict=True)
        ],
        "datasets_left_out": [
            {"dataset_id": dataset.dataset_id, "rows": dataset.rows, "reason": reason}
            for dataset, reason in combination.selection.left_out
        ],
        "captured_rows": combination.describe_captured(),
        **combination.prepared.manifest(),
        "sha256": {name: hashlib.sha256(body).hexdigest() for name, body in documents.items()},
    }


def _summary(combination: _Combination, intakes: Sequence[Intake]) -> dict[str, Any]:
    schema: TableSchema = combination.prepared.schema
    sample = combination.prepared.sample()
    return {
        "rows": sum(len(split) for split in combination.prepared.splits.values()),
        "rows_by_split": {name: len(split) for name, split in combination.prepared.splits.items()},
        **({"sample": sample} if sample else {}),
        **({"captured_rows": captured} if (captured := combination.describe_captured()) else {}),
        "columns": len(schema.columns),
        "quarantined_rows": sum(dataset.quarantined_rows for dataset in combination.datasets),
        "rejected_files": sum(intake.dataset is None for intake in intakes),
        "task": schema.task,
        "target": schema.target.name,
        "features": count_types(schema),
    }


def _reject(run: Run, registry: Registry, reasons: Sequence[str], now: datetime) -> ValidationVerdict:
    registry.update_run(
        run.model,
        run.run_id,
        status="rejected",
        stage="finished",
        finished_at=now,
        reasons=tuple(shorten(reason, 1_000) for reason in reasons[:MAX_RUN_REASONS]),
    )
    return ValidationVerdict(outcome="rejected", reasons=_brief(reasons))


def _brief(reasons: Sequence[str]) -> list[str]:
    return [shorten(reason, MAX_REASON_LENGTH) for reason in itertools.islice(reasons, MAX_VERDICT_REASONS)]
