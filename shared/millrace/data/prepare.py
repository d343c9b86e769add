"""Prepare a run's training data: combine the model's datasets, choose rows, split them, and write the matrices."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

import millrace
from millrace.data.findings import Finding, error
from millrace.data.leakage import find_leakage
from millrace.data.prepared import PreparedSplit, dump_columns, dump_split
from millrace.data.read import DEFAULT_LIMITS, UploadLimits
from millrace.data.reference import describe_reference
from millrace.data.splits import Partition, partition, sample_places
from millrace.data.target import MIN_TARGET_CLASS_ROWS
from millrace.data.typed_table import TypedTable, row_parts, stored_parts
from millrace.documents import dump
from millrace.entities import DatasetRecord
from millrace.features import EXACT_FLOAT32, MISSING_STRING, FeatureMatrix, float32_centre, missing_mask
from millrace.hashing import UInt64Array, combine_hashes, hash_copies, hash_rows, hash_strings
from millrace.histograms.tables import ReferenceDocument
from millrace.layout import SPLITS, SplitName
from millrace.schema import Column, TableSchema
from millrace.serving.explain import BACKGROUND, choose_background, dump_background
from millrace.spec import ModelSpec

Int64Array = npt.NDArray[np.int64]

#: Rows that numbers which grow with time need, their steps in another order, and those upward.
_MIN_ASCENDING_ROWS, _STEPS_BACK, _MIN_GROWN = 50, 0.001, 3
#: Names and values of calendar years.
_YEAR_NAME, _YEARS = re.compile(r"year|yr", re.IGNORECASE), (1800, 2200)


def observe_schema(schema: TableSchema, tables: Sequence[TypedTable]) -> TableSchema:
    """Return the schema with the categories, ranges and missing values of these tables."""
    schema = replace(schema, columns=tuple(_observe_column(column, tables) for column in schema.columns))
    orders = [None, *_orders_in_time(schema, tables)]
    columns = [replace(one, ascends=_ascends(one, tables, orders)) for one in schema.columns]
    return replace(schema, columns=tuple(columns))


def _orders_in_time(schema: TableSchema, tables: Sequence[TypedTable]) -> list[Int64Array]:
    """Return the orders of the rows by each date that every row has."""
    numeric = any(column.type in ("integer", "number") for column in schema.features)
    dates = [column.name for column in schema.columns if column.type == "datetime" and numeric]
    times = [np.concatenate([table.columns[name] for table in tables]) for name in dates]
    return [np.argsort(each, kind="stable") for each in times if not missing_mask(each).any()]


def _ascends(column: Column, tables: Sequence[TypedTable], orders: Sequence[Int64Array | None]) -> bool:
    """Return whether whole numbers grow with the dates of a table, or as counters and years with its rows."""
    if column.role != "feature" or column.type not in ("integer", "number"):
        return False
    parts = [table.columns[column.name] for table in tables]
    values = np.concatenate(parts)
    if len(values) < _MIN_ASCENDING_ROWS or not values.min() < values.max() or bool((values % 1 != 0).any()):
        return False
    years = bool(_YEAR_NAME.fullmatch(column.name)) or bool(_YEARS[0] <= values.min() and values.max() <= _YEARS[1])
    for order in orders:
        # Equal dates are in no order, so that a few steps back are none in time.
        steps = np.concatenate([np.diff(part) for part in (parts if order is None else [values[order]])])
        if np.count_nonzero(steps < 0) > _STEPS_BACK * len(steps):
            continue
        grown = np.count_nonzero(steps > 0)
        # Rows may be sorted by any column: without dates only counters and years go on for certain.
        certain = grown == len(steps) if order is None else grown >= _MIN_GROWN
        if certain or (years and (order is not None or bool(_YEAR_NAME.fullmatch(column.name)))):
            return True
    return False


def _observe_column(column: Column, tables: Sequence[TypedTable]) -> Column:
    override = column.rules.nullable_override
    if column.role == "identifier" or column.type == "text":
        gaps = any(part.null_count for table in tables for part in stored_parts(table, column))
        return replace(column, nullable=gaps if override is None else override)
    values = np.concatenate([table.columns[column.name] for table in tables])
    missing = missing_mask(values)
    known = values[~missing]
    nullable = bool(missing.any()) if override is None else override
    if not len(known):
        return replace(column, nullable=nullable)
    if column.type == "category":
        return replace(column, nullable=nullable, categories=tuple(sorted(set(known.tolist()))))
    if column.type in ("integer", "number"):
        centre = float32_centre(known) if column.role == "feature" else None
        low, high = float(known.min()), float(known.max())
        return replace(column, nullable=nullable, minimum=low, maximum=high, centre=centre)
    if column.type == "datetime":
        seconds = known.astype("datetime64[us]").astype(np.int64) / 1e6
        return replace(column, nullable=nullable, minimum=float(seconds.min()), maximum=float(seconds.max()))
    return replace(column, nullable=nullable)


_LARGEST = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Contribution:
    """Rows that one dataset contributes to a training set.

    Superseded rows have an identifier of a newer dataset; repeated ones an identifier or content that it or an older
    one has already; left-out ones are not in the sample.
    """

    read: int
    superseded: int = 0
    repeated: int = 0
    left_out: int = 0

    @property
    def used(self) -> int:
        """Rows that are left."""
        return self.read - self.superseded - self.repeated - self.left_out

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON."""
        counts = {"rows": self.read, "used": self.used, "superseded": self.superseded, "repeated": self.repeated}
        return counts | {"left_out_of_sample": self.left_out}


@dataclass(slots=True)
class _Part:
    """Chosen rows of one dataset so far; ``exact`` are the ids by which they are compared with other datasets'."""

    read: int
    rows: Int64Array
    identities: UInt64Array
    exact: UInt64Array
    places: UInt64Array
    superseded: int
    repeated: int

    def cut(self, threshold: np.uint64) -> None:
        kept = self.places <= threshold
        self.rows, self.places = self.rows[kept], self.places[kept]
        self.identities, self.exact = self.identities[kept], self.exact[kept]


@dataclass(slots=True)
class ChosenRows:
    """The rows to train on, by dataset; oldest dataset first."""

    parts: list[_Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def rows(self) -> list[Int64Array]:
        """Positions by dataset, in order."""
        return [part.rows for part in self.parts]

    @property
    def identities(self) -> UInt64Array:
        """Ids that determine each row's split, in the order of the datasets."""
        return _joined([part.identities for part in self.parts])

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """Contribution of each dataset."""
        return tuple(
            Contribution(
                part.read, part.superseded, part.repeated, part.read - part.superseded - part.repeated - len(part.rows)
            )
            for part in self.parts
        )

    def cut(self, limit: int) -> np.uint64:
        """Keep at most ``limit`` rows; return the threshold of their places."""
        places = np.concatenate([part.places for part in self.parts])
        if len(places) <= limit:
            return _LARGEST
        threshold = np.uint64(np.partition(places, limit - 1)[limit - 1])
        for part in self.parts:
            part.cut(threshold)
        return threshold


def choose_rows(schema: TableSchema, tables: Sequence[TypedTable], limit: int, seed: int) -> ChosenRows:
    """Choose at most ``limit`` rows to train on from tables, oldest upload first; each is read once.

    With an identifier, the newest row of each is kept. Without one, a row is kept as often as the dataset holds it that
    holds it most often: repetitions within a dataset are its own and stay, and a table that is uploaded again with more
    rows adds only those. Memory is that of one dataset's hashes.
    """
    parts: dict[int, _Part] = {}
    seen: UInt64Array = np.empty(0, dtype=np.uint64)
    threshold = _LARGEST
    order = range(len(tables))
    for index in reversed(order) if schema.identifier else order:
        ids = _identify(schema, tables[index])
        part = _without_known(ids, seen, sample_places(ids.identities, seed), threshold)
        parts[index] = part
        threshold = min(threshold, ChosenRows(list(parts.values())).cut(limit))
        if ids.named is None:
            seen = np.unique(_joined([each.exact for each in parts.values()]))
        else:
            seen = np.union1d(seen, part.identities[ids.named[part.rows]])
            seen = seen[sample_places(seen, seed) <= threshold]
    return ChosenRows([parts[index] for index in order])


@dataclass(frozen=True, slots=True)
class _RowIds:
    """Ids of a dataset's rows, and the mask of those with an identifier; None when there is no such column.

    Ids are made of float32 numbers and decide the split, so they never change. Exact ids tell large numbers apart that
    are one in float32.
    """

    identities: UInt64Array
    exact: UInt64Array
    named: npt.NDArray[np.bool_] | None = None


def _identify(schema: TableSchema, table: TypedTable) -> _RowIds:
    contents: list[UInt64Array] = []
    exact: list[UInt64Array] = []
    if schema.identifier is None:
        for part in row_parts(table):
            contents.append(hash_rows(part.contents(), part.target()))
            exact.append(_add_lost_digits(schema, part, contents[-1]))
        identities = hash_copies(_joined(contents))
        is_same = all(map(np.array_equal, contents, exact))
        return _RowIds(identities, identities if is_same else hash_copies(_joined(exact)))
    hashes, named = [], []
    for part in row_parts(table):
        identifiers = part.columns[schema.identifier.name]
        hashes.append(hash_strings(identifiers))
        named.append(identifiers != MISSING_STRING)
        if not named[-1].all():
            contents.append(hash_rows(part.contents(), part.target())[~named[-1]])
    identities = _joined(hashes)
    has_name = np.concatenate([np.empty(0, dtype=np.bool_), *named])
    identities[~has_name] = hash_copies(_joined(contents))
    return _RowIds(identities, identities, has_name)


def _add_lost_digits(schema: TableSchema, table: TypedTable, hashes: UInt64Array) -> UInt64Array:
    exact = hashes.copy()
    for column in schema.features:
        if column.type in ("integer", "number"):
            values = np.asarray(table.columns[column.name], dtype=np.float64)
            rest = values - values.astype(np.float32)
            lost = np.flatnonzero((np.abs(values) >= EXACT_FLOAT32) & (rest != 0.0))
            exact[lost] = combine_hashes(exact[lost], rest[lost].view(np.uint64))
    return exact


def _without_known(ids: _RowIds, seen: UInt64Array, places: UInt64Array, threshold: np.uint64) -> _Part:
    """Leave out a dataset's rows that are known already, and of each identifier all but the last."""
    identities, exact, named = ids.identities, ids.exact, ids.named
    rows = np.flatnonzero(places <= threshold)
    known = np.isin(exact[rows], seen)
    if named is None:
        new = rows[~known]
        return _Part(len(identities), new, identities[new], exact[new], places[new], 0, int(known.sum()))
    known &= named[rows]
    fresh = rows[~known]
    kept = fresh[~pd.Series(identities[fresh]).duplicated(keep="last").to_numpy() | ~named[fresh]]
    repeated = len(fresh) - len(kept)
    return _Part(len(identities), kept, identities[kept], exact[kept], places[kept], int(known.sum()), repeated)


def _joined(parts: list[UInt64Array]) -> UInt64Array:
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])


#: Rows below which no split can be drawn.
MIN_SPLIT_ROWS = 10


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Training data of a run.

    The schema has the values of these rows; contributions are by dataset, oldest first. ``holdout_columns`` are the
    test split's typed columns that evaluation groups by, features or not.
    """

    schema: TableSchema
    splits: dict[SplitName, PreparedSplit]
    contributions: tuple[Contribution, ...]
    partition: Partition
    holdout_columns: Mapping[str, npt.NDArray[Any]]
    reference: ReferenceDocument
    background: FeatureMatrix
    findings: tuple[Finding, ...]

    def sample(self) -> dict[str, int] | None:
        """Return the rows of a sample, and of how many; None when every distinct row is used."""
        left_out = sum(part.left_out for part in self.contributions)
        if not left_out:
            return None
        read = sum(part.read for part in self.contributions)
        return {"rows": sum(part.used for part in self.contributions), "of_rows": read}

    def summary(self) -> dict[str, Any]:
        """Return the fields of :class:`PreparedManifest` that do not depend on the datasets' names."""
        return {
            "schema_version": self.schema.version,
            "schema_revision": self.schema.revision,
            "split": dict(self.partition.description),
            "rows": {name: len(split) for name, split in self.splits.items()},
            "bytes": {name: split.nbytes for name, split in self.splits.items()},
            "repeated_rows_left_out": sum(part.superseded + part.repeated for part in self.contributions),
            "sample": self.sample(),
            "rows_without_time_left_out": self.partition.without_time,
            "findings": [finding.to_dict() for finding in self.findings],
            "class_counts": {
                name: {label: int(np.sum(split.target == index)) for index, label in enumerate(self.schema.class_names)}
                for name, split in self.splits.items()
            },
        }

    def fingerprint(self, spec: ModelSpec) -> str:
        """Return the SHA-256 of all that training depends on: the rows in any order, their schema, spec and release."""
        made_of = {
            "release": millrace.__version__,
            "spec": spec.model_dump(mode="json"),
            "schema": self.schema.to_dict(),
        }
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
        for name in SPLITS:
            split = self.splits[name]
            rows = combine_hashes(hash_rows(split.features, split.target), split.row_ids)
            if name == "test":
                for values in self.holdout_columns.values():
                    rows = combine_hashes(rows, hash_strings(values.astype(np.str_)))
            digest.update(np.sort(rows).tobytes())
        return digest.hexdigest()

    def documents(self) -> dict[str, bytes]:
        """Return the documents beside the manifest, by name."""
        documents = {f"{name}.npz": dump_split(split) for name, split in self.splits.items()}
        documents["schema.json"] = dump(self.schema.to_dict(), indent=True)
        documents["holdout_columns.npz"] = dump_columns(self.holdout_columns)
        documents["reference.json"] = self.reference.write(indent=False)
        documents[BACKGROUND] = dump_background(self.background)
        return documents


@dataclass(frozen=True, slots=True)
class DatasetSelection:
    """Datasets that a run trains on, oldest upload first, and the others with the reason."""

    chosen: tuple[DatasetRecord, ...]
    left_out: tuple[tuple[DatasetRecord, str], ...] = ()


def choose_datasets(
    datasets: Sequence[DatasetRecord], spec: ModelSpec, schema_version: int, now: datetime
) -> DatasetSelection:
    """Choose the datasets to train on: of this schema, inside the window, all or the latest."""
    since = now - timedelta(days=spec.window_days) if spec.window_days else None
    chosen: list[DatasetRecord] = []
    left_out: list[tuple[DatasetRecord, str]] = []
    for dataset in sorted(datasets, key=lambda dataset: (dataset.uploaded_at, dataset.dataset_id)):
        if dataset.schema_version != schema_version:
            left_out.append((dataset, f"schema version {dataset.schema_version}, and {schema_version} is the current"))
        elif since is not None and dataset.uploaded_at < since:
            left_out.append((dataset, f"older than the window of {spec.window_days} days"))
        else:
            chosen.append(dataset)
    if spec.combine == "latest":
        left_out.extend((dataset, "only the latest dataset is combined") for dataset in chosen[:-1])
        chosen = chosen[-1:]
    return DatasetSelection(tuple(chosen), tuple(left_out))


def prepare(
    schema: TableSchema, tables: Sequence[TypedTable], spec: ModelSpec, limits: UploadLimits = DEFAULT_LIMITS
) -> PreparedData:
    """Combine datasets, oldest upload first, and split their rows; each is read twice, one after the other."""
    choice = choose_rows(schema, tables, spec.max_training_rows, spec.seed)
    taken = [tables[position].take(rows) for position, rows in enumerate(choice.rows)]
    schema = observe_schema(schema, taken)
    most = limits.max_prepared_bytes // _row_bytes(schema, taken)
    if len(choice) > most:
        choice.cut(most)
        taken = [tables[position].take(rows) for position, rows in enumerate(choice.rows)]
        schema = observe_schema(schema, taken)
    columns = {
        column.name: np.concatenate([table.columns[column.name] for table in taken]) for column in schema.columns
    }
    table = TypedTable(schema, columns, len(choice))
    features, target, row_ids = table.features(), table.target(), choice.identities
    classes = np.zeros(len(table), dtype=np.int64) if schema.task == "regression" else target
    whole = PreparedSplit(features, target, row_ids)
    found = _unlearnable(schema, row_ids, target)
    parts = partition(table, row_ids, classes, spec.split, spec.seed)
    splits = {name: whole.take(parts.splits[name]) for name in SPLITS}
    train = parts.splits["train"]
    reference = describe_reference(schema, table.take(train).columns, target[train])
    parts = replace(parts, description={**parts.description, "fingerprint": split_fingerprint(schema, spec)})
    group_columns = _group_columns(schema, table.take(parts.splits["test"]), spec)
    background = choose_background(schema, splits["train"].features, spec.seed)
    leaks = find_leakage(table, spec.checks.leakage_threshold, spec.columns)
    findings = (*found, *parts.findings, *leaks)
    return PreparedData(schema, splits, choice.contributions, parts, group_columns, reference, background, findings)


def split_fingerprint(schema: TableSchema, spec: ModelSpec) -> str:
    """Return 16 hexadecimal digits that two runs share when they assign every row to the same split.

    Beside the spec's split and seed, that depends on what a row's hash is made of: its identifier, or else its content.
    """
    made_of: dict[str, Any] = {**spec.split.model_dump(), "seed": spec.seed}
    if spec.split.by == "random":
        identifier, whole = schema.identifier, schema.with_whole_texts()
        made_of["row"] = identifier.name if identifier else [*whole.number_names, "", *whole.string_names]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _group_columns(schema: TableSchema, holdout: TypedTable, spec: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """Return the holdout's values of sensitive groups and declared slices."""
    named = [*spec.sensitive_groups, *(name for declared in spec.evaluation.slices for name in declared.columns)]
    known = {column.name for column in schema.columns}
    return {name: holdout.columns[name] for name in dict.fromkeys(named) if name in known}


def _row_bytes(schema: TableSchema, tables: Sequence[TypedTable]) -> int:
    """Return the size of a row in the matrices, and before them as text.

    Four bytes a number, and a letter; categories are as wide as the longest, texts as long as they are on average.
    """
    categories = [column for column in schema.features if column.type == "category"]
    longest = max((len(category) for column in categories for category in column.categories), default=0)
    width = sum(schema.number_width(column) for column in schema.features)
    texts = [column for column in schema.features if column.type == "text"]
    letters: int = sum(part.nbytes for table in tables for column in texts for part in stored_parts(table, column))
    return 4 * (width + longest * len(categories)) + 16 + letters // max(1, sum(map(len, tables)))


def _unlearnable(schema: TableSchema, row_ids: npt.NDArray[np.uint64], target: npt.NDArray[Any]) -> list[Finding]:
    ids = len(np.unique(row_ids))
    if ids < MIN_SPLIT_ROWS:
        return [error("too_few_rows", f"only {ids} rows or entities in all; at least {MIN_SPLIT_ROWS} are needed")]
    findings = []
    for index in range(len(schema.classes)):
        rows = len(np.unique(row_ids[target == index]))
        if rows < MIN_TARGET_CLASS_ROWS:
            message = (
                f"class {schema.quote_class(index)} of the target {schema.target.name!r} has {rows} rows or "
                f"entities in the data to train on; at least {MIN_TARGET_CLASS_ROWS} are needed"
            )
            findings.append(error("small_class", message, schema.target.name, rows))
    return findings
