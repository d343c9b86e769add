"""Real tables, read from a folder of files; none of them is part of the repository.

``hour.csv``: Bike Sharing (UCI). ``diamonds.csv``, ``taxis.csv``: github.com/mwaskom/seaborn-data. ``adults.parquet``:
the test data of github.com/evidentlyai/evidently. ``telco.csv``: github.com/IBM/telco-customer-churn-on-icp4d.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from millrace.data.prepared import PreparedSplit
from millrace.features import build_features
from millrace.schema import Column, TableSchema, Task


@dataclass(frozen=True)
class RealTable:
    """A file's task: the column to predict, and those that would give it away."""

    name: str
    file: str
    target: str
    task: Task
    ignored: tuple[str, ...] = ()


REAL_TABLES = (
    RealTable("bike: rentals an hour", "hour.csv", "cnt", "regression", ("instant", "dteday", "casual", "registered")),
    RealTable("diamonds: price", "diamonds.csv", "price", "regression"),
    RealTable("taxis: fare", "taxis.csv", "fare", "regression", ("pickup", "dropoff", "tip", "total")),
    RealTable("adults: income", "adults.parquet", "class", "binary"),
    RealTable("telco: churn", "telco.csv", "Churn", "binary", ("customerID",)),
    RealTable("diamonds: cut", "diamonds.csv", "cut", "multiclass"),
)


def read_table(table: RealTable, folder: Path) -> tuple[TableSchema, PreparedSplit]:
    """Return a table's schema and rows."""
    path = folder / table.file
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    frame = frame.dropna(subset=[table.target]).drop(columns=list(table.ignored))
    columns, values = [], {}
    for name in frame.columns.drop(table.target):
        if pd.api.types.is_numeric_dtype(frame[name]):
            columns.append(Column(name, "number", nullable=True))
            values[name] = frame[name].to_numpy(np.float64)
        else:
            columns.append(Column(name, "category", nullable=True))
            values[name] = frame[name].astype(object).where(frame[name].notna(), "").to_numpy().astype(np.str_)
    if table.task == "regression":
        classes, target = [], frame[table.target].to_numpy(np.float64)
    else:
        classes, target = np.unique(frame[table.target].astype(str).to_numpy(), return_inverse=True)
    kind = "number" if table.task == "regression" else "category"
    schema = TableSchema((*columns, Column("target", kind, role="target")), table.task, tuple(map(str, classes)))
    features = build_features(schema, values, len(frame))
    return schema, PreparedSplit(features, target, np.arange(len(frame), dtype=np.uint64))
