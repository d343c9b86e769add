"""Entities with sensible values, for tests that care about one field only."""

from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.entities import Approval, Cause, DatasetRecord, LedgerEntry, ModelVersion, Run, Source, Trial
from millrace.names import make_cause_id, make_run_id
from millrace.registry.ledger import timestamp_after
from millrace.registry.store import Registry
from millrace.registry.transactions import MoveAlias, RegistryTransaction, VersionChange

NOW = datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
MODEL = "churn"


def later(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def make_source(name: str = "a.csv", model: str = MODEL, at: datetime = NOW) -> Source:
    return Source("data", f"incoming/{model}/{name}", "v1", at)


def make_cause(name: str = "a.csv", model: str = MODEL, kind: str = "upload", at: datetime = NOW) -> Cause:
    source = make_source(name, model, at) if kind == "upload" else None
    return Cause(make_cause_id(kind, model, name), model, kind, at, source, f"{name} was uploaded")


def make_run(*causes: Cause, at: datetime = NOW, **changes: Any) -> Run:
    return Run(
        model=causes[0].model,
        run_id=make_run_id(causes[0].cause_id, causes[0].occurred_at),
        cause_ids=tuple(cause.cause_id for cause in causes),
        kind=causes[0].kind,
        requested_at=at,
        sources=tuple(cause.source for cause in causes if cause.source),
        **changes,
    )


def make_entry(entry_id: str, model: str = MODEL, at: datetime = NOW, **details: Any) -> LedgerEntry:
    return LedgerEntry(model, entry_id, at, "tester", "test", f"because of {entry_id}", details)


def make_dataset(dataset_id: str, model: str = MODEL, at: datetime = NOW) -> DatasetRecord:
    return DatasetRecord(model, dataset_id, 100, 5, 2, 1, make_source(model=model), at)


def make_trial(trial_id: str, run_id: str = "20260503T141500-0f3a9c2b7d1e", **changes: Any) -> Trial:
    return Trial(MODEL, run_id, trial_id, "logistic_regression", {"C": 0.1, "penalty": "l2"}, seed=7, **changes)


def make_version(version: int, model: str = MODEL, run_id: str = "20260503T141500-0f3a9c2b7d1e") -> ModelVersion:
    return ModelVersion(
        model=model,
        version=version,
        semantic_version=f"1.0.{version}",
        run_id=run_id,
        trial_id="t1",
        candidate="logistic_regression",
        task="binary",
        metrics={"roc_auc": 0.91},
        dataset_ids=("d1", "d2"),
        schema_version=1,
        manifest_sha256="0" * 64,
        created_at=NOW,
    )


def make_evaluation(run_id: str, **parts: Any) -> dict[str, Any]:
    """Return ``evaluation.json`` as a run writes it, with those parts of it."""
    return {
        "format_version": 2,
        "run_id": run_id,
        "model": MODEL,
        "evaluated_at": NOW.isoformat(),
        "task": "binary",
        "target": "churned",
        "classes": ["false", "true"],
        "decision": "promote",
        "trial_id": "t1",
        "seed": 7,
        "search": None,
        "reasons": [],
        "primary_metric": "roc_auc",
        "greater_is_better": True,
        "confidence": 0.95,
        "leaderboard": [],
        "gate_spec": {},
        **parts,
    }


def make_transaction(
    entry_id: str, revision: int, *changes: VersionChange, at: datetime = NOW, model: str = MODEL
) -> RegistryTransaction:
    return RegistryTransaction(make_entry(entry_id, model, at), revision, changes)


def point_alias(registry: Registry, alias: str, version: int | None, model: str = MODEL, at: datetime = NOW) -> None:
    """Move an alias, from wherever it points."""
    state = registry.get_state(model)
    move = MoveAlias(alias, state.aliases.get(alias), version)
    at = timestamp_after(state, at)
    registry.commit(make_transaction(f"{alias}-{state.revision + 1}", state.revision, move, at=at, model=model))


def make_approval(run_id: str, version: int = 1, **changes: Any) -> Approval:
    return Approval(MODEL, run_id, version, NOW, later(60), "t1", **changes)
