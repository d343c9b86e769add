"""Small prepared datasets for the tests of training and evaluation."""

import json
from dataclasses import dataclass

import numpy as np
from millrace.data.prepared import PreparedSplit, dump_split
from millrace.features import FeatureMatrix, build_features
from millrace.layout import SPLITS, prepared_key, split_key
from millrace.ports import ObjectStore
from millrace.schema import Column, TableSchema, Task

CLASSES = {"binary": ("no", "yes"), "multiclass": ("blue", "green", "red"), "regression": ()}
CITIES = np.array(["", "Lima", "Oslo", "Ulan Bator", "Zürich"])
TEXTS = np.array(
    [
        "",
        "good",
        "Good service",
        "late, late again",
        "zu spät und noch ein Wort",
        "\x01\x0b\x1f",
        "💩 好 ok",
        "word " * 2_000,
    ],
    dtype=object,
)
RARE_CITIES = np.array([f"village {number}" for number in range(80)])


@dataclass(frozen=True)
class Dataset:
    schema: TableSchema
    splits: dict[str, PreparedSplit]


def make_schema(task: Task, numbers: int, strings: int, version: int = 1, texts: int = 0) -> TableSchema:
    columns = [Column(f"n{position}", "number", nullable=True) for position in range(numbers)]
    columns += [Column(f"t{position}", "text", nullable=True) for position in range(texts)]
    columns += [Column(f"s{position}", "category") for position in range(strings)]
    target = Column("target", "number" if task == "regression" else "category", role="target")
    return TableSchema((*columns, target), task, CLASSES[task], version)


def make_features(rows: int, mix: str, seed: int = 0) -> FeatureMatrix:
    """``mix`` is one of :data:`MIXES`."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 3)).astype(np.float32)
    numbers[:, 1] = rng.integers(0, 6, rows)
    strings = np.stack([rng.choice(CITIES, rows), rng.choice(RARE_CITIES, rows)], axis=1)
    if mix == "missing values":
        numbers[rng.random(numbers.shape) < 0.2] = np.nan
        strings[rng.random(strings.shape) < 0.2] = ""
    if mix == "integers":
        numbers = rng.integers(-3, 4, size=(rows, 3)).astype(np.float32)
    if mix == "extreme numbers":
        numbers[:, 0] = 1.7e9 + rng.normal(size=rows) * 1e7
        numbers[:, 2] = 10.0 ** rng.uniform(-8, 12, rows)
    if mix == "neighbours in float32":
        numbers[:, :2] = np.float32(1.7e9) + 128 * rng.integers(0, 6, (rows, 2))
    if mix == "never known and constant":
        numbers[:, 0], numbers[:, 2] = np.nan, 7.0
        strings[:, 0] = ""
    if mix == "text":
        schema = TableSchema((Column("t0", "text"),), "regression")
        words = build_features(schema, {"t0": rng.choice(TEXTS, rows)}, rows).numbers
        return FeatureMatrix(np.concatenate([numbers, words], axis=1), strings)
    if mix == "numbers only":
        strings = strings[:, :0]
    if mix in ("strings only", "no number ever known"):
        numbers = numbers[:, :0] if mix == "strings only" else np.full_like(numbers, np.nan)
    return FeatureMatrix(numbers, strings)


MIXES = (
    "both",
    "numbers only",
    "strings only",
    "missing values",
    "integers",
    "extreme numbers",
    "neighbours in float32",
    "never known and constant",
    "no number ever known",
    "text",
)


def make_dataset(task: Task, mix: str = "both", rows: int = 400, seed: int = 0, noise: float = 0.7) -> Dataset:
    rng = np.random.default_rng(seed + 1)
    features = make_features(rows, mix, seed)
    signal = noise * rng.normal(size=rows)
    if features.numbers.shape[1]:
        column = np.nan_to_num(features.numbers[:, 1], nan=2.0)
        signal += (column - column.mean()) / (column.std() or 1.0)
    if features.strings.shape[1]:
        signal += features.strings[:, 0] == "Oslo"
    target = signal.astype(np.float64)
    if task != "regression":
        cuts = np.quantile(signal, [0.6] if task == "binary" else [0.3, 0.7])
        target = np.digitize(signal, cuts).astype(np.int64)
    split = PreparedSplit(features, target, np.arange(rows, dtype=np.uint64))
    bounds = {"train": (0, rows // 2), "validation": (rows // 2, rows * 3 // 4), "test": (rows * 3 // 4, rows)}
    splits = {name: split.take(np.arange(*bounds[name])) for name in SPLITS}
    texts = int(mix == "text")
    schema = make_schema(task, 3 if texts else features.numbers.shape[1], features.strings.shape[1], texts=texts)
    return Dataset(schema, splits)


def store_dataset(dataset: Dataset, store: ObjectStore, model: str, run_id: str) -> None:
    for name in SPLITS:
        store.put(split_key(model, run_id, name), dump_split(dataset.splits[name]))
    store.put(prepared_key(model, run_id, "schema.json"), json.dumps(dataset.schema.to_dict()).encode())
    store.put(prepared_key(model, run_id, "manifest.json"), json.dumps(manifest(dataset)).encode())


def manifest(dataset: Dataset) -> dict[str, object]:
    """What ``validate_dataset`` records of the splits."""
    classes = range(len(dataset.schema.classes))
    return {
        "format_version": 2,
        "model": "churn",
        "run_id": "r1",
        "prepared_at": "2026-05-03T14:15:00+00:00",
        "code_version": "0.1.0",
        "combine": "all",
        "window_days": None,
        "max_training_rows": 1_000_000,
        "seed": 0,
        "dataset_ids": ["d1"],
        "datasets": [],
        "datasets_left_out": [],
        "captured_rows": {},
        "schema_version": dataset.schema.version,
        "schema_revision": dataset.schema.revision,
        "split": {},
        "repeated_rows_left_out": 0,
        "sample": None,
        "rows_without_time_left_out": 0,
        "findings": [],
        "sha256": {},
        "rows": {name: len(split) for name, split in dataset.splits.items()},
        "bytes": {name: split.nbytes for name, split in dataset.splits.items()},
        "class_counts": {
            name: {dataset.schema.classes[i]: int((split.target == i).sum()) for i in classes}
            for name, split in dataset.splits.items()
        },
    }
