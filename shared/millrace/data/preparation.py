"""Preparing a run's data: the model's datasets combined, split, and written for training."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.findings import Finding, error
from millrace.data.observing import observe
from millrace.data.partitioning import Partition, partition
from millrace.data.prepared import PreparedSplit, dump_columns, dump_split
from millrace.data.reference import describe_reference
from millrace.data.splitting import hash_copies, hash_rows, row_identities
from millrace.data.targets import MIN_CLASS_ROWS
from millrace.data.typed_table import TypedTable
from millrace.features import MISSING_STRING, FeatureMatrix
from millrace.layout import SPLITS, SplitName
from millrace.registry.entities import DatasetRecord
from millrace.schema import TableSchema
from millrace.serving.background import BACKGROUND, choose_background, dump_background
from millrace.spec import ModelSpec

#: Rows below which no split can be drawn.
MIN_ROWS = 10


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one dataset gives to a training set.

    Parameters
    ----------
    read : int
        Its rows.
    superseded : int
        Rows whose identifier a newer dataset has.
    repeated : int
        Rows whose identifier, or content, it or an older dataset has already.
    """

    read: int
    superseded: int = 0
    repeated: int = 0

    @property
    def used(self) -> int:
        """Rows that are left."""
        return self.read - self.superseded - self.repeated

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON."""
        return {"rows": self.read, "used": self.used, "superseded": self.superseded, "repeated": self.repeated}


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What a run trains on.

    Parameters
    ----------
    schema : TableSchema
        The model's schema with the values that these rows have.
    splits : dict of str to PreparedSplit
        By name.
    contributions : tuple of Contribution
        By dataset, oldest first.
    partition : Partition
        How the rows were divided.
    holdout_columns : mapping of str to array of shape (n_test_rows,)
        The test split's typed values of the columns that evaluation tells of apart, features or not.
    reference : mapping
        Statistics of the training split, for monitoring; see :func:`millrace.data.reference.describe_reference`.
    background : FeatureMatrix
        Rows of the training split that explanations compare with.
    findings : tuple of Finding
        Errors, when nothing can be learnt from the rows together.
    """

    schema: TableSchema
    splits: dict[SplitName, PreparedSplit]
    contributions: tuple[Contribution, ...]
    partition: Partition
    holdout_columns: Mapping[str, npt.NDArray[Any]]
    reference: Mapping[str, Any]
    background: FeatureMatrix
    findings: tuple[Finding, ...]

    @property
    def dropped_rows(self) -> int:
        """Rows that repeat others."""
        return sum(part.read - part.used for part in self.contributions)

    def manifest(self) -> dict[str, Any]:
        """Return what can be said of the training set without naming its datasets."""
        return {
            "schema_version": self.schema.version,
            "schema_revision": self.schema.revision,
            "split": dict(self.partition.description),
            "rows": {name: len(split) for name, split in self.splits.items()},
            "bytes": {name: split.nbytes for name, split in self.splits.items()},
            "repeated_rows_left_out": self.dropped_rows,
            "rows_without_time_left_out": self.partition.without_time,
            "findings": [finding.to_dict() for finding in self.findings],
            "class_counts": {name: self._class_counts(split) for name, split in self.splits.items()},
        }

    def documents(self) -> dict[str, bytes]:
        """Return what is stored beside the manifest, by name."""
        documents = {f"{name}.npz": dump_split(split) for name, split in self.splits.items()}
        documents["schema.json"] = json_bytes(self.schema.to_dict())
        documents["holdout_columns.npz"] = dump_columns(self.holdout_columns)
        documents["reference.json"] = json_bytes(self.reference)
        documents[BACKGROUND] = dump_background(self.background)
        return documents

    def _class_counts(self, split: PreparedSplit) -> dict[str, int]:
        return {name: int(np.sum(split.target == index)) for index, name in enumerate(self.schema.classes)}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a model's datasets a run trains on.

    Parameters
    ----------
    chosen : tuple of DatasetRecord
        Oldest upload first.
    left_out : tuple of tuple of DatasetRecord, str
        The others, with the reason.
    """

    chosen: tuple[DatasetRecord, ...]
    left_out: tuple[tuple[DatasetRecord, str], ...] = ()


def json_bytes(document: Any) -> bytes:
    """Write a document as readable JSON; NaN is an error, not a value."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def choose_datasets(
    datasets: Sequence[DatasetRecord], spec: ModelSpec, schema_version: int, now: datetime
) -> Selection:
    """Choose the datasets to train on: of this schema, inside the window, all or the latest."""
    since = now - timedelta(days=spec.window_days) if spec.window_days else None
    chosen: list[DatasetRecord] = []
    left_out: list[tuple[DatasetRecord, str]] = []
    for dataset in sorted(datasets, key=lambda dataset: (dataset.source.uploaded_at, dataset.dataset_id)):
        if dataset.schema_version != schema_version:
            left_out.append((dataset, f"schema version {dataset.schema_version}, and {schema_version} is the current"))
        elif since is not None and dataset.source.uploaded_at < since:
            left_out.append((dataset, f"older than the window of {spec.window_days} days"))
        else:
            chosen.append(dataset)
    if spec.combine == "latest":
        left_out.extend((dataset, "only the latest dataset is combined") for dataset in chosen[:-1])
        chosen = chosen[-1:]
    return Selection(tuple(chosen), tuple(left_out))


def prepare(schema: TableSchema, tables: Sequence[TypedTable], spec: ModelSpec) -> PreparedData:
    """Combine datasets and split the rows.

    Where rows have an identifier, the newest row of each is kept. Where they have none, a row is kept as often as the
    dataset holds it that holds it most often: repetitions within one dataset are the data's own and stay, and a table
    that is uploaded again with more rows adds only those.

    Parameters
    ----------
    schema : TableSchema
        The model's.
    tables : sequence of TypedTable
        Oldest upload first.
    spec : ModelSpec
        Says how rows are split, and the seed.
    """
    tables, contributions = _without_repetitions(schema, tables)
    schema = observe(schema, tables)
    columns = {
        column.name: np.concatenate([table.columns[column.name] for table in tables]) for column in schema.columns
    }
    table = TypedTable(schema, columns, sum(len(part) for part in tables))
    features, target = table.features(), table.target()
    identifiers = table.columns[schema.identifier.name] if schema.identifier else None
    row_ids = row_identities(features, target, identifiers)
    classes = np.zeros(len(table), dtype=np.int64) if schema.task == "regression" else target
    whole = PreparedSplit(features, target, row_ids)
    found = _unlearnable(schema, row_ids, target)
    parts = partition(table, row_ids, classes, spec.split, spec.seed)
    splits = {name: whole.take(parts.sides[name]) for name in SPLITS}
    train = parts.sides["train"]
    reference = describe_reference(schema, table.take(train).columns, target[train])
    parts = replace(parts, description={**parts.description, "fingerprint": split_fingerprint(schema, spec)})
    told_apart = _columns_told_apart(schema, table.take(parts.sides["test"]), spec)
    background = choose_background(schema, splits["train"].features, spec.seed)
    findings = (*found, *parts.findings)
    return PreparedData(schema, splits, contributions, parts, told_apart, reference, background, findings)


def split_fingerprint(schema: TableSchema, spec: ModelSpec) -> str:
    """Return what two runs have in common that put every row on the same side, as 16 hexadecimal digits.

    Beside the spec's split and seed that is what a row's hash is made of: its identifier, or else its content.
    """
    made_of: dict[str, Any] = {**spec.split.model_dump(), "seed": spec.seed}
    if spec.split.by == "random":
        identifier = schema.identifier
        made_of["row"] = identifier.name if identifier else [*schema.number_names, "", *schema.string_names]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _columns_told_apart(schema: TableSchema, holdout: TypedTable, spec: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """Return the holdout's values of sensitive groups and declared slices; what no column holds is left out."""
    named = [*spec.sensitive_groups, *(name for declared in spec.evaluation.slices for name in declared.columns)]
    known = {column.name for column in schema.columns}
    return {name: holdout.columns[name] for name in dict.fromkeys(named) if name in known}


def _without_repetitions(
    schema: TableSchema, tables: Sequence[TypedTable]
) -> tuple[list[TypedTable], tuple[Contribution, ...]]:
    if schema.identifier:
        return _newest_of_each(schema.identifier.name, tables)
    seen: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
    kept, contributions = [], []
    for table in tables:
        hashes = hash_copies(hash_rows(table.features(), table.target()))
        new = ~np.isin(hashes, seen)
        kept.append(table.take(new))
        contributions.append(Contribution(len(table), repeated=int((~new).sum())))
        seen = np.union1d(seen, hashes)
    return kept, tuple(contributions)


def _newest_of_each(identifier: str, tables: Sequence[TypedTable]) -> tuple[list[TypedTable], tuple[Contribution, ...]]:
    """Keep each identifier's last row of its newest dataset; rows without one are all kept."""
    values = [table.columns[identifier] for table in tables]
    owners = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    ids = pd.Series(np.concatenate(values), dtype=object)
    older = (ids.duplicated(keep="last") & (ids != MISSING_STRING)).to_numpy()
    newest = pd.Series(owners).groupby(ids).transform("max").to_numpy() if len(ids) else owners
    kept, contributions = [], []
    for position, table in enumerate(tables):
        rows = owners == position
        dropped = older[rows]
        superseded = int((dropped & (newest[rows] > position)).sum())
        kept.append(table.take(~dropped))
        contributions.append(Contribution(len(table), superseded, int(dropped.sum()) - superseded))
    return kept, tuple(contributions)


def _unlearnable(schema: TableSchema, row_ids: npt.NDArray[np.uint64], target: npt.NDArray[Any]) -> list[Finding]:
    ids = len(np.unique(row_ids))
    if ids < MIN_ROWS:
        return [error("too_few_rows", f"only {ids} rows or entities in all; at least {MIN_ROWS} are needed")]
    findings = []
    for index, name in enumerate(schema.classes):
        rows = len(np.unique(row_ids[target == index]))
        if rows < MIN_CLASS_ROWS:
            message = (
                f"class {name!r} of the target {schema.target.name!r} has {rows} rows or entities in the data to train "
                f"on; at least {MIN_CLASS_ROWS} are needed"
            )
            findings.append(error("small_class", message, schema.target.name, rows))
    return findings
