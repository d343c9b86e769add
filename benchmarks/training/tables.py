"""Tables to measure on: scikit-learn's bundled ones, and generated ones whose optimum is known.

A table is split as the product splits one: training, validation and an untouched holdout.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from millrace.data.prepared import PreparedSplit
from millrace.features import FeatureMatrix
from millrace.schema import Column, TableSchema, Task
from sklearn import datasets

SHARES = (0.6, 0.8)


@dataclass(frozen=True)
class Table:
    """A table, split.

    Parameters
    ----------
    optimum : float or None
        What the best possible model reaches on this very holdout, by the primary metric; None where nobody knows.
    """

    name: str
    schema: TableSchema
    splits: dict[str, PreparedSplit]
    optimum: float | None = None


def _split(name: str, task: Task, numbers: Any, target: Any, *, classes: int = 0, seed: int = 0) -> Table:
    rows = len(target)
    order = np.random.default_rng(seed).permutation(rows)
    bounds = [0, int(SHARES[0] * rows), int(SHARES[1] * rows), rows]
    features = FeatureMatrix(np.asarray(numbers, dtype=np.float32)[order], np.empty((rows, 0), dtype=np.str_))
    whole = PreparedSplit(features, np.asarray(target)[order], np.arange(rows, dtype=np.uint64))
    splits = {
        part: whole.take(np.arange(bounds[position], bounds[position + 1]))
        for position, part in enumerate(("train", "validation", "test"))
    }
    columns = [Column(f"n{position}", "number") for position in range(features.numbers.shape[1])]
    kind = "number" if task == "regression" else "integer"
    schema = TableSchema(
        (*columns, Column("target", kind, role="target")), task, tuple(str(name) for name in range(classes))
    )
    return Table(name, schema, splits)


def _bundled(name: str, load: Callable[..., Any], task: Task, classes: int = 0) -> Table:
    numbers, target = load(return_X_y=True)
    kind = np.float64 if task == "regression" else np.int64
    return _split(name, task, numbers, target.astype(kind), classes=classes)


def generated_binary(rows: int = 2_000, seed: int = 1) -> Table:
    """Draw from a logistic model: the best possible ROC AUC is that of the true probabilities."""
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, 8))
    chance = 1 / (1 + np.exp(-(1.5 * numbers[:, 0] - numbers[:, 1] + 0.5 * numbers[:, 2])))
    target = (random.random(rows) < chance).astype(np.int64)
    table = _split("generated, logistic", "binary", np.column_stack([numbers, chance]), target, classes=2, seed=seed)
    test = table.splits["test"]
    optimum = float(roc_auc_score(test.target, test.features.numbers[:, -1]))
    return _without_last(table, optimum)


def generated_regression(rows: int = 2_000, seed: int = 2) -> Table:
    """Draw from Friedman's first function (Annals of Statistics 19, 1991): the least error is that of the noise."""
    numbers, target = datasets.make_friedman1(rows, n_features=8, noise=1.0, random_state=seed)
    truth = 10 * np.sin(np.pi * numbers[:, 0] * numbers[:, 1]) + 20 * (numbers[:, 2] - 0.5) ** 2
    truth += 10 * numbers[:, 3] + 5 * numbers[:, 4]
    table = _split("generated, Friedman 1", "regression", np.column_stack([numbers, truth]), target, seed=seed)
    test = table.splits["test"]
    optimum = float(np.sqrt(np.mean((test.target - test.features.numbers[:, -1]) ** 2)))
    return _without_last(table, optimum)


def _without_last(table: Table, optimum: float) -> Table:
    """Take away the column that holds the truth."""
    splits = {
        name: PreparedSplit(
            FeatureMatrix(np.ascontiguousarray(split.features.numbers[:, :-1]), split.features.strings),
            split.target,
            split.row_ids,
        )
        for name, split in table.splits.items()
    }
    columns = (*table.schema.columns[:-2], table.schema.columns[-1])
    schema = TableSchema(columns, table.schema.task, table.schema.classes)
    return Table(table.name, schema, splits, optimum)


def make_tables() -> list[Table]:
    """Return every table."""
    return [
        _bundled("breast cancer", datasets.load_breast_cancer, "binary", 2),
        _bundled("wine", datasets.load_wine, "multiclass", 3),
        _bundled("iris", datasets.load_iris, "multiclass", 3),
        _bundled("digits", datasets.load_digits, "multiclass", 10),
        _bundled("diabetes", datasets.load_diabetes, "regression"),
        generated_binary(),
        generated_regression(),
    ]
