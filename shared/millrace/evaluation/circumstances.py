"""The circumstances of a decision: reasons to replace a champion, and earlier decisions on the same holdout."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import numpy.typing as npt

from millrace.causes import CAUSES, REQUESTED_CAUSES
from millrace.data.dataset_documents import PreparedManifest
from millrace.data.prepared import load_row_ids
from millrace.documents import parse_timestamp
from millrace.entities import Run
from millrace.errors import ArtifactNotFoundError
from millrace.evaluation.champion import Champion
from millrace.evaluation_results import HoldoutUse
from millrace.layout import split_key
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.spec.training import GateSpec

#: Entry of a run's summary: the fingerprint of its holdout's split, and the decisions before its own.
HOLDOUT_SUMMARY = "holdout"
#: Key of the summary of a run that somebody forced.
FORCED_SUMMARY = "forced"
#: Newest runs among which the last decision on a holdout is looked for.
_RUNS = 50


def find_reasons(
    run: Run,
    champion: Champion,
    schema: TableSchema,
    prepared: PreparedManifest,
    *,
    spec: GateSpec,
    registry: Registry,
) -> tuple[str, ...]:
    """Return the reasons to replace the champion with a model that is as good: clauses after "because"."""
    return (
        *_reasons_of_causes(run, registry),
        *_newer_data(champion, prepared, spec.refresh_days),
        *_changed_schema(champion, schema),
    )


def _reasons_of_causes(run: Run, registry: Registry) -> Iterator[str]:
    """Yield a reason for each finding of monitoring and each request by hand that the run follows."""
    causes = [registry.get_cause(run.model, cause_id).cause for cause_id in run.cause_ids]
    for cause in causes:
        kind = CAUSES[cause.kind]
        if cause.logged_model:
            yield f"{cause.logged_model.proposed_by} proposed it"
        elif kind.is_finding or cause.kind == "manual":
            stated = f" ({cause.reason})" if cause.reason and cause.reason != "requested by hand" else ""
            yield (
                f"the run follows a finding of monitoring: {kind.label}{stated}"
                if kind.is_finding
                else f"it was requested by hand{stated}"
            )
    if run.summary.get(FORCED_SUMMARY) and REQUESTED_CAUSES.isdisjoint(cause.kind for cause in causes):
        yield "a new version was requested (--force)"


def _newer_data(champion: Champion, prepared: PreparedManifest, refresh_days: float) -> Iterator[str]:
    if champion.manifest is None:
        return
    arrivals = [parse_timestamp(str(dataset["uploaded_at"])) for dataset in prepared.datasets]
    if prepared.captured_rows.get("trained_on"):
        arrivals.append(prepared.prepared_at)
    newer_by = max(arrivals, default=champion.manifest.created_at) - champion.manifest.created_at
    if newer_by > timedelta() and newer_by >= timedelta(days=refresh_days):
        age = f"{newer_by.days} days" if newer_by.days > 1 else f"{newer_by / timedelta(hours=1):.0f} hours"
        yield f"its data is {age} newer than version {champion.version} (gate.refresh_days is {refresh_days:g})"


def _changed_schema(champion: Champion, schema: TableSchema) -> Iterator[str]:
    before = champion.model.schema.version if champion.model else schema.version
    if before < schema.version:
        yield f"the schema is version {schema.version}, and version {champion.version}'s is version {before}"


def find_holdout_use(
    run: Run,
    fingerprint: str | None,
    row_ids: npt.NDArray[np.uint64],
    *,
    moves: bool,
    registry: Registry,
    data_store: ObjectStore,
) -> HoldoutUse | None:
    """Count the model's earlier decisions on a holdout with this fingerprint; None where the split has none.

    Each decision records the number of those before it, so only the last one is looked for. A holdout that ``moves``
    with time is a new one when none of its rows was used before.
    """
    if not fingerprint:
        return None
    state = registry.get_state(run.model)
    for earlier in registry.list_runs(run.model, limit=_RUNS):
        used = earlier.summary.get(HOLDOUT_SUMMARY) or {}
        is_other = earlier.run_id != run.run_id and not state.deletion_of(earlier.requested_at)
        if not is_other or used.get("fingerprint") != fingerprint:
            continue
        try:
            ids = load_row_ids(data_store.get(split_key(run.model, earlier.run_id, "test")))
        except ArtifactNotFoundError:
            return HoldoutUse(fingerprint, int(used["decisions"]) + 1)
        shared = int(np.isin(row_ids, ids).sum())
        is_new = moves and not shared
        return HoldoutUse(fingerprint, 0 if is_new else int(used["decisions"]) + 1, shared)
    return HoldoutUse(fingerprint, 0, 0)
