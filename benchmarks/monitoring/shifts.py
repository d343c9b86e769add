"""Models of real tables, and windows of rows that are not as those in training.

The files are those of public repositories: ``adults.parquet`` and ``hour.csv`` of evidentlyai/evidently (test data),
``diamonds.csv`` and ``taxis.csv`` of mwaskom/seaborn-data, ``telco.csv`` of IBM/telco-customer-churn-on-icp4d.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from millrace.data.reference import describe_reference
from millrace.evaluation.analysis import profile_predictions
from millrace.histograms.outcomes import PredictionProfile
from millrace.histograms.predictions import ClassPredictions
from millrace.histograms.tables import Reference
from millrace.schema import Column, TableSchema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

Shift = Literal["none", "mix", "subgroup", "other part"]
MAX_TABLE, MAX_TRAINING, MAX_HOLDOUT, MAX_WINDOW = 16_000, 4_000, 2_000, 3_000
#: Rows that a window of live traffic has, beside all rows of a shift.
LIVE_WINDOW = 250
#: Values of a column that are a subgroup each, and rows of one.
_MAX_VALUES, _MIN_SUBGROUP = 8, 400
#: Subgroups, nearest to a half of the table first, of which one part trains and the other is served.
_PARTED, _MIN_PART, _TWO = 6, 1_000, 2
TABLES = ("adults", "telco", "taxis", "diamonds", "bike", "cuts")


@dataclass(frozen=True)
class Table:
    """Features by column, strings as objects, and class indices."""

    name: str
    columns: dict[str, np.ndarray]
    target: np.ndarray


def read_table(folder: Path, name: str, seed: int) -> Table:
    """Read a table, at most 16,000 rows of it."""
    match name:
        case "adults":
            frame = pd.read_parquet(folder / "adults.parquet").drop(columns="fnlwgt")
            target = frame.pop("class").astype(str).str.contains(">50K")
        case "telco":
            frame = pd.read_csv(folder / "telco.csv").drop(columns="customerID")
            target = frame.pop("Churn") == "Yes"
            frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
        case "taxis":  # tips of more than a fifth, of those who pay by card
            frame = pd.read_csv(folder / "taxis.csv").query("payment == 'credit card'")
            target, hour = frame["tip"] > frame["fare"] / 5, pd.to_datetime(frame["pickup"]).dt.hour
            frame = frame[["passengers", "distance", "fare", "tolls", "color", "pickup_borough", "dropoff_borough"]]
            frame = frame.assign(hour=hour)
        case "diamonds":  # dearer than most, without the weight, which decides nearly everything
            frame = pd.read_csv(folder / "diamonds.csv").drop(columns=["x", "y", "z", "carat"])
            price = frame.pop("price")
            target = price > price.median()
        case "bike":  # hours with more rentals than most
            frame = pd.read_csv(folder / "hour.csv").drop(columns=["instant", "dteday", "casual", "registered"])
            count = frame.pop("cnt")
            target = count > count.median()
        case _:  # the cut of a diamond, five classes
            frame = pd.read_csv(folder / "diamonds.csv")
            target = frame.pop("cut").astype("category").cat.codes
    rows = np.random.default_rng((seed, 0)).permutation(len(frame))[:MAX_TABLE]
    columns = {name: _values(frame[name])[rows] for name in frame}
    return Table(name, columns, np.asarray(target, dtype=np.int64)[rows])


def _values(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64)
    return np.array([None if pd.isna(value) else str(value) for value in column], dtype=object)


def _frame(table: Table, rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(values[rows], dtype=values.dtype) for name, values in table.columns.items()})


def _pipeline(algorithm: str, table: Table) -> Pipeline:
    strings = [name for name, values in table.columns.items() if values.dtype == object]
    numbers = [name for name in table.columns if name not in strings]
    if algorithm == "boosting":
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan)
        encoder = make_column_transformer((codes, strings), remainder="passthrough")
        return make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=50, random_state=0))
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    encoder = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), strings), (scaled, numbers))
    return make_pipeline(encoder, LogisticRegression(max_iter=500))


def _schema(table: Table, rows: np.ndarray) -> TableSchema:
    """Return the schema that an upload of these rows would have."""
    columns = []
    for name, every in table.columns.items():
        values = every[rows]
        if values.dtype == object:
            categories = tuple(sorted({value for value in values if value is not None}))
            columns.append(Column(name, "category", categories=categories))
            continue
        known = values[np.isfinite(values)]
        kind = "integer" if (known == np.round(known)).all() else "number"
        columns.append(Column(name, kind, minimum=float(known.min()), maximum=float(known.max())))
    classes = tuple(map(str, np.unique(table.target).tolist()))
    target = Column("target", "category", role="target", categories=classes)
    return TableSchema(columns=(*columns, target), task="multiclass" if len(classes) > _TWO else "binary")


@dataclass(frozen=True)
class Version:
    """A model with its reference, the profile of its holdout, and its probabilities of every row of the table."""

    table: Table
    schema: TableSchema
    reference: Reference
    profile: PredictionProfile
    probabilities: np.ndarray
    holdout: np.ndarray
    rest: np.ndarray

    def predictions(self, rows: np.ndarray) -> ClassPredictions:
        """Return the predictions of rows."""
        probabilities = self.probabilities[rows]
        return ClassPredictions(probabilities.argmax(axis=1).astype(np.int64), probabilities)


def train(table: Table, algorithm: str, rows: np.ndarray, seed: int) -> Version:
    """Train on some of the rows; a fifth is the holdout, at most 2,000, and what remains may be served."""
    rows = np.random.default_rng((seed, 1)).permutation(rows)
    cut = min(MAX_TRAINING, len(rows) * 3 // 5)
    end = cut + min(MAX_HOLDOUT, len(rows) // 5)
    training, holdout, rest = rows[:cut], rows[cut:end], rows[end:]
    pipeline = _pipeline(algorithm, table).fit(_frame(table, training), table.target[training])
    probabilities = pipeline.predict_proba(_frame(table, np.arange(len(table.target))))
    schema = _schema(table, training)
    typed = {name: _as_read(values[training]) for name, values in table.columns.items()}
    reference = Reference.build(describe_reference(schema, typed, table.target[training]), schema)
    profile = profile_predictions(
        schema,
        probabilities[holdout],
        table.target[holdout],
        train_target=table.target[training],
        threshold=None,
        groups={},
        columns={name: _as_read(values[holdout]) for name, values in table.columns.items()},
        seed=seed,
    )
    assert profile is not None
    return Version(table, schema, reference, profile, probabilities, holdout, rest)


def _as_read(values: np.ndarray) -> np.ndarray:
    return np.array(["" if value is None else value for value in values]) if values.dtype == object else values


def find_subgroups(table: Table) -> dict[str, np.ndarray]:
    """Return the masks of subgroups: common values, or the lowest and highest fifth of a number."""
    found: dict[str, np.ndarray] = {}
    for name, values in table.columns.items():
        if values.dtype == object:
            distinct, counts = np.unique(values[values != None], return_counts=True)  # noqa: E711  # of each value
            for value in distinct[np.argsort(-counts)][:_MAX_VALUES]:
                found[f"{name} = {value}"] = values == value
        elif len(distinct := np.unique(values[np.isfinite(values)])) <= _MAX_VALUES:
            found |= {f"{name} = {value:g}": values == value for value in distinct}
        else:
            low, high = np.nanquantile(values, [0.2, 0.8])
            found |= {f"{name} < {low:g}": values < low, f"{name} >= {high:g}": values >= high}
    return {name: mask for name, mask in found.items() if _MIN_SUBGROUP <= mask.sum() <= len(mask) - _MIN_SUBGROUP}


@dataclass(frozen=True)
class Shifted:
    """Rows that a version serves."""

    version: Version
    shift: Shift
    name: str
    rows: np.ndarray


def find_shifts(table: Table, algorithm: str, seed: int) -> Iterator[Shifted]:
    """Yield the shifts of a table: none, a subgroup alone, twice as near to it, and a part that training never had."""
    generator = np.random.default_rng((seed, 2))
    version, subgroups = train(table, algorithm, np.arange(len(table.target)), seed), find_subgroups(table)
    served = np.zeros(len(table.target), dtype=bool)
    served[version.rest] = True
    for number in range(10):
        yield Shifted(version, "none", str(number), generator.choice(version.rest, min(2_000, len(version.rest))))
    for name, mask in subgroups.items():
        inside, outside = np.flatnonzero(mask & served), np.flatnonzero(~mask & served)
        if len(inside) < LIVE_WINDOW:
            continue
        yield Shifted(version, "subgroup", name, inside)
        share = (1.0 + mask.mean()) / 2.0
        n_outside = min(len(outside), int(len(inside) * (1.0 - share) / share))
        yield Shifted(version, "mix", name, np.append(inside, generator.choice(outside, n_outside, replace=False)))
    for name in sorted(subgroups, key=lambda name: abs(subgroups[name].mean() - 0.5))[:_PARTED]:
        for part, label in ((subgroups[name], f"trained on {name}"), (~subgroups[name], f"trained without {name}")):
            if part.sum() >= _MIN_PART and len(np.unique(table.target[part])) == len(np.unique(table.target)):
                trained = train(table, algorithm, np.flatnonzero(part), seed)
                yield Shifted(trained, "other part", label, np.flatnonzero(~part))
