"""The profile of a dataset: what each column holds, as plain JSON.

Later datasets and what a model is asked are compared with it, so it holds distributions and not only their averages.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from millrace.data.association import TargetValues, associate, sample_rows
from millrace.data.distributions import distribution_of_numbers, distribution_of_text, distribution_of_words
from millrace.data.typed_table import TypedTable, class_texts, is_text, missing_cells, stored_parts
from millrace.features import MISSING_STRING
from millrace.schema import Column, TableSchema

PROFILE_VERSION = 2


def profile_table(table: TypedTable, sensitive: Collection[str] = ()) -> dict[str, Any]:
    """Describe a dataset's columns and its target.

    Parameters
    ----------
    table : TypedTable
        The accepted rows.
    sensitive : collection of str, default=()
        Columns whose values no report may show; the profile holds them, as the data beside it does, and says so.

    Returns
    -------
    dict
        ``profile_version``, ``rows``, ``complete_rows`` (without a missing value), ``missing_cells``, ``columns`` (see
        below), ``target`` (``name``, ``task``, ``classes`` with their counts, ``positive`` class of a binary one) and
        ``association_rows``. What is not known is null, never NaN.

    Notes
    -----
    Each column has ``name``, ``type``, ``role``, ``nullable``, ``reason``, ``sensitive``, ``missing``,
    ``missing_share``, ``distinct``, and ``association`` with the target (null when there is none). Numbers have what
    :func:`distribution_of_numbers` returns, words and booleans what :func:`distribution_of_words` returns, and dates
    ``minimum``, ``maximum`` and ``quantiles`` as ISO 8601, with ``histogram`` and ``bins`` in seconds since 1970.
    """
    schema = table.schema
    target = TargetValues.of(table)
    rows = sample_rows(len(table))
    sampled = target.take(rows)
    complete = np.ones(len(table), dtype=np.bool_)
    columns = []
    for column in schema.columns:
        described, missing = _describe_text(column, table, target) if _is_long(column) else (None, None)
        measured = None
        if described is None or missing is None:
            values = table.columns[column.name]
            missing = missing_cells(values)
            described = _describe(column, values, missing, target.averaged)
            measured = associate(column, values[rows], sampled) if column.role == "feature" else None
        complete &= ~missing
        described["sensitive"] = column.sensitive or column.name in sensitive
        described["association"] = measured.to_dict() if measured else None
        columns.append(described)
    return {
        "profile_version": PROFILE_VERSION,
        "rows": len(table),
        "complete_rows": int(complete.sum()),
        "missing_cells": sum(column["missing"] for column in columns),
        "columns": columns,
        "target": _describe_target(table),
        "association_rows": len(rows),
    }


def profile_features(schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, Any]:
    """Describe features alone, without a target, as :func:`profile_table` does.

    Parameters
    ----------
    schema : TableSchema
        The model's.
    columns : mapping of str to array of shape (n_rows,)
        Typed as in :mod:`millrace.features`; features that are not among them are left out.
    rows : int
        How many there are.
    """
    described = [
        _describe(column, columns[column.name], missing_cells(columns[column.name]), None)
        for column in schema.features
        if column.name in columns
    ]
    return {"profile_version": PROFILE_VERSION, "rows": rows, "columns": described}


def _describe_target(table: TypedTable) -> dict[str, Any]:
    schema = table.schema
    classes: dict[str, int] = {}
    if schema.task != "regression":
        names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
        classes = {name: int(np.sum(names == name)) for name in schema.classes}
    positive = schema.classes[1] if schema.task == "binary" and len(schema.classes) > 1 else None
    return {"name": schema.target.name, "task": schema.task, "classes": classes, "positive": positive}


def _describe(
    column: Column,
    values: npt.NDArray[Any],
    missing: npt.NDArray[np.bool_],
    averaged: npt.NDArray[np.float64] | None,
) -> dict[str, Any]:
    known = values[~missing]
    averaged = None if column.role == "target" or averaged is None else averaged[~missing]
    described = _describe_gaps(column, missing)
    if is_text(column):
        return described | distribution_of_words(known, averaged)
    if column.type == "boolean":
        words = class_texts(column, boolean_words(column), known)
        return described | distribution_of_words(words, averaged)
    if not len(known):
        return described | {"distinct": 0, "minimum": None, "maximum": None, "mean": None, "quantiles": {}}
    if column.type == "datetime":
        seconds = known.astype("datetime64[us]").astype(np.int64) / 1e6
        return described | _moments(distribution_of_numbers(seconds, averaged, whole=False))
    return described | distribution_of_numbers(known, averaged, whole=column.type == "integer")


def _is_long(column: Column) -> bool:
    """Tell whether a column's words may differ in every row."""
    return column.role == "identifier" or (column.type == "text" and column.role != "target")


def _describe_text(
    column: Column, table: TypedTable, target: TargetValues
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Describe words without holding them; also tell which are missing."""
    gaps = [pc.fill_null(pc.equal(part, MISSING_STRING), True) for part in stored_parts(table, column)]
    missing = np.concatenate([np.empty(0, dtype=np.bool_), *(gap.to_numpy(zero_copy_only=False) for gap in gaps)])
    averaged = target.averaged
    if averaged is not None:
        averaged = averaged[~missing]
    text = distribution_of_text(lambda: stored_parts(table, column), averaged)
    return _describe_gaps(column, missing) | text, missing


def _describe_gaps(column: Column, missing: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "role": column.role,
        "nullable": column.nullable,
        "reason": column.reason,
        "missing": int(missing.sum()),
        "missing_share": float(missing.mean()) if len(missing) else 0.0,
    }


def boolean_words(column: Column) -> tuple[str, ...]:
    """Return a boolean column's words, the false one first, as they are written in the data."""
    written = {word.lower(): word for word in column.categories}
    if not column.true_values or not column.false_values:
        return "false", "true"
    return tuple(written.get(words[0], words[0]) for words in (column.false_values, column.true_values))


def _moments(numbers: dict[str, Any]) -> dict[str, Any]:
    """Keep what says something about dates, and write moments as ISO 8601."""
    return {
        "distinct": numbers["distinct"],
        "minimum": _moment(numbers["minimum"]),
        "maximum": _moment(numbers["maximum"]),
        "quantiles": {level: _moment(value) for level, value in numbers["quantiles"].items()},
        "histogram": numbers["histogram"],
        "bins": numbers["bins"],
    }


def _moment(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))
