"""Comparing two runs: which of data, search, parameters and library versions differ, and the metrics side by side."""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def compare_runs(one: Document, other: Document, records: tuple[Document | None, Document | None]) -> dict[str, Any]:
    """Compare two runs as ``GET /models/{model}/runs/{run_id}`` describes them.

    Parameters
    ----------
    one, other : mapping
        ``run``, ``trials``, ``evaluation``.
    records : tuple of mapping or None
        ``trial.json`` of each one's winner; None where there is none.

    Returns
    -------
    dict
        ``data``, ``search``, ``winner``, ``parameters``, ``versions``: what differs, as ``{name: [one, other]}``;
        ``metrics``: every metric of the winners on their holdouts; ``same_holdout``: whether those can be compared.
    """
    first, second = (record or {} for record in records)
    data: dict[str, list[Any]] = {
        "dataset_ids": [list(run["run"].get("dataset_ids") or ()) for run in (one, other)],
        "prepared": [dict(record.get("prepared") or {}) for record in (first, second)],
        **_side_by_side(_rows(one), _rows(other)),
    }
    return {
        "runs": [run["run"]["run_id"] for run in (one, other)],
        "data": _different(data),
        "search": _different(_side_by_side(_search(one), _search(other))),
        "winner": _different(_side_by_side(_winner(one, first), _winner(other, second))),
        "parameters": _different(_side_by_side(first.get("parameters") or {}, second.get("parameters") or {})),
        "versions": _different(_side_by_side(first.get("libraries") or {}, second.get("libraries") or {})),
        "metrics": _side_by_side(_metrics(one), _metrics(other)),
        "same_holdout": bool(_rows(one)) and data["dataset_ids"][0] == data["dataset_ids"][1],
    }


def _rows(run: Document) -> dict[str, Any]:
    rows = (run["run"].get("summary") or {}).get("rows_by_split") or {}
    return {f"{name}_rows": count for name, count in rows.items()}


def _search(run: Document) -> dict[str, Any]:
    search = dict((run["run"].get("summary") or {}).get("search") or {})
    # A moment always differs, and says nothing.
    search.pop("deadline", None)
    return search


def _winner(run: Document, record: Document) -> dict[str, Any]:
    evaluation = run.get("evaluation") or {}
    facts = {"trial": evaluation.get("trial_id"), "decision": evaluation.get("decision")}
    return facts | {name: record.get(name) for name in ("seed", "schema_version", "rows", "folds", "artifacts")}


def _metrics(run: Document) -> dict[str, Any]:
    holdout = (run.get("evaluation") or {}).get("holdout") or {}
    return {name: measured.get("value") for name, measured in (holdout.get("metrics") or {}).items()}


def _side_by_side(one: Document, other: Document) -> dict[str, list[Any]]:
    return {name: [one.get(name), other.get(name)] for name in {**one, **other}}


def _different(pairs: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
