"""The profile of a dataset: what each column holds, as plain JSON."""

from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.typed_table import TypedTable, class_texts, is_text, missing_cells
from millrace.schema import Column

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP_VALUES = 20


def profile_table(table: TypedTable) -> dict[str, Any]:
    """Describe a dataset's columns and its target.

    Returns
    -------
    dict
        ``rows``, ``columns`` (each with ``name``, ``type``, ``role``, ``missing``, ``distinct``, and ``minimum``,
        ``maximum``, ``mean``, ``quantiles`` or ``top``) and ``target``. What is not known is null, never NaN.
    """
    schema = table.schema
    columns = [_profile_column(column, table.columns[column.name]) for column in schema.columns]
    target = table.columns[schema.target.name]
    distribution: dict[str, int] = {}
    if schema.task != "regression":
        names = class_texts(schema.target, schema.classes, target)
        distribution = {name: int(np.sum(names == name)) for name in schema.classes}
    return {
        "rows": len(table),
        "columns": columns,
        "target": {"name": schema.target.name, "task": schema.task, "classes": distribution},
    }


def _profile_column(column: Column, values: npt.NDArray[Any]) -> dict[str, Any]:
    known = values[~missing_cells(values)]
    described: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "role": column.role,
        "missing": len(values) - len(known),
    }
    if is_text(column):
        return described | _profile_words(known)
    if column.type == "datetime":
        return described | _profile_moments(known)
    return described | _profile_numbers(known)


def _profile_words(known: npt.NDArray[Any]) -> dict[str, Any]:
    words, counts = np.unique(known.astype(np.str_), return_counts=True)
    order = np.lexsort((words, -counts))[:TOP_VALUES]
    top = [{"value": str(words[i]), "count": int(counts[i])} for i in order]
    return {"distinct": len(words), "top": top}


def _profile_moments(known: npt.NDArray[np.datetime64]) -> dict[str, Any]:
    if not len(known):
        return {"distinct": 0, "minimum": None, "maximum": None}
    earliest, latest = np.datetime_as_string(np.array([known.min(), known.max()]), unit="s")
    return {"distinct": len(np.unique(known)), "minimum": str(earliest), "maximum": str(latest)}


def _profile_numbers(known: npt.NDArray[np.float64]) -> dict[str, Any]:
    if not len(known):
        return {"distinct": 0, "minimum": None, "maximum": None, "mean": None, "quantiles": {}}
    quantiles = np.quantile(known, QUANTILES)
    return {
        "distinct": len(np.unique(known)),
        "minimum": float(known.min()),
        "maximum": float(known.max()),
        "mean": float(known.mean()),
        "quantiles": {str(level): float(value) for level, value in zip(QUANTILES, quantiles, strict=True)},
    }
