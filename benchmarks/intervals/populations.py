"""Populations of real predictions: a model of some rows of a real table, and its predictions for all the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from millrace.schema import Task
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Population:
    """Targets of shape (n_rows,) and predictions of shape (n_rows, n_classes) or (n_rows,) of rows no model saw."""

    name: str
    task: Task
    target: Array
    predictions: Array


@dataclass(frozen=True)
class Source:
    """A table and its task; ``positives`` is the share that the second class is reduced to."""

    file: str
    task: Task
    target: str
    ignored: tuple[str, ...] = ()
    train_rows: int = 6_000
    positives: float | None = None
    logarithm: bool = False


SOURCES: Mapping[str, Source] = {
    "adults": Source("adults.parquet", "binary", "class"),
    "adults-5%": Source("adults.parquet", "binary", "class", positives=0.05),
    "telco": Source("telco.csv", "binary", "Churn", ("customerID",), train_rows=2_000),
    "telco-5%": Source("telco.csv", "binary", "Churn", ("customerID",), train_rows=2_000, positives=0.05),
    "cut": Source("diamonds.csv", "multiclass", "cut"),
    "borough": Source("taxis.csv", "multiclass", "pickup_borough", ("pickup_zone", "pickup", "dropoff"), 2_000),
    "price": Source("diamonds.csv", "regression", "price"),
    "log-price": Source("diamonds.csv", "regression", "price", logarithm=True),
    "bike": Source("hour.csv", "regression", "cnt", ("casual", "registered", "instant", "dteday")),
    "log-bike": Source("hour.csv", "regression", "cnt", ("casual", "registered", "instant", "dteday"), logarithm=True),
    "fare": Source("taxis.csv", "regression", "fare", ("total", "pickup", "dropoff"), train_rows=2_000),
    "hours": Source("adults.parquet", "regression", "hours-per-week"),
}


def load_population(name: str, folder: Path, seed: int = 0) -> Population:
    """Fit gradient boosting to some rows of a table, and predict the others."""
    source, generator = SOURCES[name], np.random.default_rng(seed)
    path = folder / source.file
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    target, classes = table[source.target], pd.Index([])
    features = table.drop(columns=[source.target, *source.ignored])
    coded = pd.DataFrame(
        {
            column: values if pd.api.types.is_numeric_dtype(values) else pd.factorize(values)[0]
            for column, values in features.items()
        }
    ).to_numpy(dtype=np.float64)
    known = target.notna().to_numpy(copy=True)
    if source.task == "regression":
        wanted = target.to_numpy(dtype=np.float64)
        wanted = np.log1p(wanted) if source.logarithm else wanted
    else:
        wanted, classes = pd.factorize(target, sort=True)
    if source.positives:
        positives = np.flatnonzero(wanted == 1)
        kept = round(source.positives / (1 - source.positives) * np.sum(wanted == 0))
        known[generator.permutation(positives)[kept:]] = False
    order = generator.permutation(np.flatnonzero(known))
    train, rest = order[: source.train_rows], order[source.train_rows :]
    if source.task == "regression":
        model = HistGradientBoostingRegressor(random_state=0).fit(coded[train], wanted[train])
        return Population(name, source.task, wanted[rest], model.predict(coded[rest]))
    classifier = HistGradientBoostingClassifier(random_state=0).fit(coded[train], wanted[train])
    predictions = np.zeros((len(rest), len(classes)))
    predictions[:, classifier.classes_] = classifier.predict_proba(coded[rest])
    return Population(name, source.task, wanted[rest], predictions)
