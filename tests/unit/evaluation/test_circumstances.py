"""Reasons to replace a champion with a model that is as good, and earlier decisions on the same holdout."""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from millrace.causes import LOGGED_MODEL
from millrace.data.dataset_documents import PreparedManifest
from millrace.data.prepared import dump_split
from millrace.entities import Cause, LedgerEntry, Run
from millrace.evaluation.champion import Champion
from millrace.evaluation.circumstances import find_holdout_use, find_reasons
from millrace.evaluation.gate import decide
from millrace.evaluation_results import ChampionComparison, HoldoutUse
from millrace.layout import split_key
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.spec.training import GateSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.prepared_data import make_dataset, manifest
from tests.training_run import MODEL, NOW
from tests.unit.evaluation.test_gate import EVIDENCE

DATASET = make_dataset("binary", rows=40)
IDS = np.arange(100, dtype=np.uint64)


def claimed(registry: MemoryRegistry, number: int, *causes: Cause, **changes: Any) -> Run:
    causes = causes or (Cause(f"c{number}", MODEL, "upload", NOW),)
    run = Run(MODEL, f"20260503T1415{number:02}-0f3a9c2b7d1e", tuple(c.cause_id for c in causes), "upload", NOW)
    run = replace(run, **changes)
    for cause in causes:
        registry.claim_cause(cause, run, LedgerEntry(MODEL, cause.cause_id, NOW, "test", "run_requested", ""))
    registry.release_run(MODEL, run.run_id, None, None)
    return run


def reasons(
    *causes: Cause,
    uploaded: int = 0,
    captured: bool = False,
    schema_version: int = 1,
    refresh_days: float = 30,
    **changes,
):
    """The champion was trained at NOW; data arrived ``uploaded`` days after it, and the run was prepared then."""
    arrived = (NOW + timedelta(days=uploaded)).isoformat()
    datasets = [{"uploaded_at": (NOW - timedelta(days=1)).isoformat()}, {"uploaded_at": arrived}]
    prepared = manifest(DATASET) | {"datasets": datasets, "prepared_at": (NOW + timedelta(days=50)).isoformat()}
    prepared["captured_rows"] = {"trained_on": 5} if captured else {}
    registry = MemoryRegistry()
    model: Any = SimpleNamespace(schema=DATASET.schema)
    trained: Any = SimpleNamespace(created_at=NOW)
    return find_reasons(
        claimed(registry, 1, *causes, **changes),
        Champion(3, model, trained),
        DATASET.schema.with_version(schema_version),
        PreparedManifest.read(json.dumps(prepared)),
        spec=GateSpec(refresh_days=refresh_days),
        registry=registry,
    )


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({}, []),
        ({"uploaded": 29}, []),
        ({"uploaded": 30}, ["its data is 30 days newer than version 3 (gate.refresh_days is 30)"]),
        ({"uploaded": 1, "refresh_days": 0}, ["its data is 24 hours newer than version 3 (gate.refresh_days is 0)"]),
        ({"uploaded": 0, "refresh_days": 0}, []),
        ({"uploaded": -3, "refresh_days": 0}, []),
        ({"captured": True}, ["its data is 50 days newer than version 3 (gate.refresh_days is 30)"]),
        ({"schema_version": 2}, ["the schema is version 2, and version 3's is version 1"]),
        ({"summary": {"forced": True}}, ["a new version was requested (--force)"]),
    ],
)
def test_newer_data_another_schema_and_force_are_reasons(case, expected):
    assert list(reasons(**case)) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("upload", None),
        ("schedule", None),
        ("manual", "it was requested by hand (age 3.1)"),
        ("drift", "the run follows a finding of monitoring: drift (age 3.1)"),
        ("quality", "the run follows a finding of monitoring: model quality (age 3.1)"),
        ("staleness", "the run follows a finding of monitoring: stale model (age 3.1)"),
        ("latency", "the run follows a finding of monitoring: prediction latency (age 3.1)"),
    ],
)
def test_a_finding_and_a_request_by_hand_are_reasons(kind, expected):
    found = reasons(Cause("c1", MODEL, kind, NOW, reason="age 3.1"))
    assert list(found) == ([expected] if expected else [])


def test_a_manual_request_that_was_forced_is_one_reason():
    by_hand = Cause("c1", MODEL, "manual", NOW, reason="requested by hand")
    assert reasons(by_hand, summary={"forced": True}) == ("it was requested by hand",)
    upload = Cause("c1", MODEL, "upload", NOW)
    assert reasons(upload, summary={"forced": True}) == ("a new version was requested (--force)",)
    logged = Cause("c1", MODEL, LOGGED_MODEL, NOW, reason="fraud logged")
    assert "--force" not in str(reasons(logged, summary={"forced": True}))


def test_every_reason_stands_in_the_gates_decision():
    champion = ChampionComparison(
        3, ConfidenceInterval(-0.01, 0.01), rows=500, reasons=reasons(uploaded=40, schema_version=2)
    )
    result = decide(replace(EVIDENCE, champion=champion), GateSpec())
    assert result.decision == "promote"
    assert result.reasons[-1].endswith(
        "may replace it because its data is 40 days newer than version 3 (gate.refresh_days is 30); and the schema is "
        "version 2, and version 3's is version 1"
    )
    (check,) = [check for check in result.checks if check.name == "reason"]
    assert check.explanation == result.reasons[-1]


# --------------------------------------------------------------------------------------------------- use of a holdout
def use(registry, store, number, *, fingerprint="f", ids=IDS, moves=False):
    """The use that a run finds; it is recorded as evaluation records it."""
    run = claimed(registry, number)
    found = find_holdout_use(run, fingerprint, ids, moves=moves, registry=registry, data_store=store)
    if found:
        summary = {"holdout": {"fingerprint": found.fingerprint, "decisions": found.decisions}}
        registry.update_run(MODEL, run.run_id, summary=summary)
    rows = DATASET.splits["test"].take(np.zeros(len(ids), dtype=np.int64))
    store.put(split_key(MODEL, run.run_id, "test"), dump_split(replace(rows, row_ids=ids)))
    return found


def test_each_decision_on_a_holdout_is_counted():
    registry, store = MemoryRegistry(), MemoryObjectStore("data")
    more = np.arange(150, dtype=np.uint64)
    assert use(registry, store, 1) == HoldoutUse("f", 0, 0)
    assert use(registry, store, 2) == HoldoutUse("f", 1, 100)
    assert use(registry, store, 3, fingerprint="g") == HoldoutUse("g", 0, 0)  # another seed or split
    assert use(registry, store, 4, fingerprint=None) is None
    assert use(registry, store, 5, ids=more) == HoldoutUse("f", 2, 100)
    for number in range(1, 6):
        store.delete([split_key(MODEL, f"20260503T1415{number:02}-0f3a9c2b7d1e", "test")])
    assert use(registry, store, 6, ids=more) == HoldoutUse("f", 3, None)


def test_a_holdout_that_moved_on_has_not_decided():
    registry, store = MemoryRegistry(), MemoryObjectStore("data")
    for number, (begins, expected) in enumerate([(0, (0, 0)), (50, (1, 50)), (200, (0, 0)), (200, (1, 100))], start=1):
        found = use(registry, store, number, ids=np.arange(begins, begins + 100, dtype=np.uint64), moves=True)
        assert (found.decisions, found.used_rows) == expected


def test_a_repeated_evaluation_does_not_count_itself():
    registry, store = MemoryRegistry(), MemoryObjectStore("data")
    use(registry, store, 1)
    run = registry.get_run(MODEL, "20260503T141501-0f3a9c2b7d1e")
    again = find_holdout_use(run, "f", IDS, moves=False, registry=registry, data_store=store)
    assert again.decisions == 0


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, None),
        (HoldoutUse("f", 0, 0), None),
        (HoldoutUse("f", 1, 90), "this holdout has decided once before (90 of its 500 rows the last time)"),
        (HoldoutUse("f", 1200), "this holdout has decided 1,200 times before"),
    ],
)
@pytest.mark.parametrize("metrics", [{"roc_auc": 0.9}, {"roc_auc": 0.4}], ids=["promoted", "rejected"])
def test_the_use_of_the_holdout_stands_in_the_decision(found, text, metrics):
    evidence = replace(EVIDENCE, metrics=metrics, rows=500, holdout_use=found)
    result = decide(evidence, GateSpec(floors={"roc_auc": 0.8}))
    checks = [check.explanation for check in result.checks if check.name == "holdout"]
    assert checks == ([text] if text else [])
    assert (result.reasons[-1] == text) == bool(text)
