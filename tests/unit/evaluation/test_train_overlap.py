"""A champion is compared on rows that it has not learnt from, or it is said that it may have."""

import json
from dataclasses import replace

import numpy as np
import pytest
from millrace.data.prepared import dump_split
from millrace.evaluation.champion import MIN_UNSEEN_ROWS, find_train_overlap
from millrace.layout import evaluation_key, prepared_key, split_key
from millrace.manifest import Manifest

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.prepared_data import make_dataset, manifest
from tests.training_run import MODEL, NOW, RUN_ID, TrainingRun
from tests.unit.evaluation.test_evaluate import ONE, onnx_of, register_champion

OLD_RUN = "20260101T000000-0f3a9c2b7d1e"
IDS = np.arange(1_000, dtype=np.uint64)
RANDOM = {"by": "random", "fingerprint": "f1"}


def store_with(train_ids: np.ndarray, validation_ids: np.ndarray) -> MemoryObjectStore:
    store = MemoryObjectStore("data")
    split = make_dataset("binary", rows=4).splits["test"]
    for name, ids in (("train", train_ids), ("validation", validation_ids)):
        rows = split.take(np.zeros(len(ids), dtype=np.int64))
        store.put(split_key(MODEL, OLD_RUN, name), dump_split(replace(rows, row_ids=ids.astype(np.uint64))))
    return store


def overlap(split, fingerprint, store=None, run=OLD_RUN):
    store = store or MemoryObjectStore("data")
    champion = Manifest(
        model=MODEL,
        version=1,
        semantic_version="1.0.0",
        run_id=run,
        trial_id="01-ridge",
        candidate="ridge",
        task="regression",
        metrics={},
        dataset_ids=(),
        schema_version=1,
        created_at=NOW,
        split_fingerprint=fingerprint,
        artifacts={},
    )
    return find_train_overlap(champion, split, IDS, store)


def test_an_unchanged_split_needs_no_look():
    found = overlap(RANDOM, "f1")
    assert (found.unseen, found.note, found.biased) == (None, "", False)


@pytest.mark.parametrize(
    ("split", "fingerprint", "why"),
    [
        (RANDOM, "f2", "rows are not split as they were"),
        (RANDOM, None, "rows are not split as they were"),
        ({}, None, "rows are not split as they were"),
        ({"by": "time", "fingerprint": "f1"}, "f1", "the holdout moves with time"),
    ],
)
def test_what_the_champion_learnt_from_is_left_out(split, fingerprint, why):
    found = overlap(split, fingerprint, store_with(np.arange(100), np.arange(900, 2_000)))
    assert found.unseen.tolist() == [100 <= row < 900 for row in range(1_000)]
    assert found.note.startswith(why)
    assert "the 200 rows that the champion was trained on are left out" in found.note
    assert not found.biased


def test_nothing_seen_leaves_every_row():
    found = overlap(
        {"by": "time", "fingerprint": "f1"}, "f1", store_with(np.arange(5_000, 5_100), np.arange(6_000, 6_010))
    )
    assert found.unseen is None
    assert "none of these rows" in found.note
    assert not found.biased


@pytest.mark.parametrize(
    ("store", "run"),
    [
        (None, OLD_RUN),
        (store_with(np.arange(10), np.arange(10)), "20250101T000000-0f3a9c2b7d1e"),
        (store_with(np.arange(1_000 - MIN_UNSEEN_ROWS + 1), np.arange(0)), OLD_RUN),
    ],
    ids=["expired", "unknown run", "too few left"],
)
def test_where_that_is_not_possible_it_is_said(store, run):
    found = overlap(RANDOM, "f2", store, run)
    assert found.biased
    assert found.unseen is None
    assert "to its advantage" in found.note


def test_the_evaluation_compares_on_unseen_rows_only():
    dataset = make_dataset("binary", rows=1_600)
    world = TrainingRun.prepared(dataset, candidates=ONE)
    outcomes = world.train_all()
    register_champion(world, onnx_of(dataset), dataset.schema)
    changed = manifest(dataset) | {"split": {"by": "random", "fingerprint": "changed"}}
    world.data_store.put(prepared_key(MODEL, RUN_ID, "manifest.json"), json.dumps(changed).encode())
    holdout = dataset.splits["test"]
    seen = holdout.take(np.arange(100))
    for name in ("train", "validation"):
        world.data_store.put(split_key(MODEL, OLD_RUN, name), dump_split(seen))

    verdict = world.evaluate(outcomes)

    champion = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))["champion"]
    assert champion["rows"] == len(holdout) - 100
    assert "the 100 rows that the champion was trained on are left out" in champion["note"]
    assert champion["note"] in verdict.reasons[0]
    assert not champion["may_have_seen_rows"]
