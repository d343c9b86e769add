"""The page that compares two versions: only what differs, curves over one another, slices side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.reports import charts
from millrace.reports.charts import Chart, Line
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.output import Document

#: Names of the two lines of a chart.
_KINDS: tuple[charts.LineKind, charts.LineKind] = ("main", "other")


def compare_versions(context: PageContext, model: str) -> Response:
    """Return the comparison of two versions; by default the right one with the champion."""
    versions = context.get("models", model, "versions")["versions"]
    numbers = [one["version"] for one in versions]
    right = context.query.get("right") or str(numbers[0] if numbers else 1)
    left = context.query.get("left") or str(next((one for one in numbers if str(one) != right), right))
    cards = context.gather(
        lambda: context.get("models", model, "versions", left, "card"),
        lambda: context.get("models", model, "versions", right, "card"),
    )
    evaluations = [card["evaluation"] for card in cards]
    names = [f"version {card['version']['version']}" for card in cards]
    return context.show(
        "comparison.html",
        model=model,
        numbers=numbers,
        left=left,
        right=right,
        names=names,
        same_task=evaluations[0]["task"] == evaluations[1]["task"],
        differences=list(find_differences(*cards)),
        metrics=list(_compare_metrics(*evaluations)),
        roc=_draw_curves(evaluations, names, "roc", "false positive rate", "true positive rate"),
        calibration=_draw_calibration(evaluations, names),
        slices=list(_compare_slices(*evaluations)),
        trail=[("Versions", link("models", model, "versions"))],
    )


def find_differences(left: Document, right: Document) -> Iterable[tuple[str, Any, Any]]:
    """Yield what differs between two cards, beside their metrics: name, left and right value."""
    described = [_describe(card) for card in (left, right)]
    for name in dict.fromkeys([*described[0], *described[1]]):
        one, other = (facts.get(name) for facts in described)
        if one != other:
            yield name, one, other


def _describe(card: Document) -> dict[str, Any]:
    evaluation, data = card["evaluation"], card["data"]
    columns = (card["schema"] or {}).get("columns", ())
    facts = {
        "candidate": evaluation["candidate"],
        "cause": card["run"]["kind"],
        "datasets": ", ".join(one["dataset_id"][:12] for one in data["datasets"]),
        "features": ", ".join(column["name"] for column in columns if column["role"] == "feature"),
        "schema version": card["version"]["schema_version"] if card["version"] else None,
        "threshold": (evaluation.get("threshold") or {}).get("value"),
        "size of the model (bytes)": (card["artifacts"].get("model.onnx") or {}).get("bytes"),
    }
    rows = {f"{split} rows": count for split, count in data["rows"].items()}
    parameters = {f"parameter {name}": value for name, value in (evaluation["parameters"] or {}).items()}
    libraries = {f"library {name}": value for name, value in card["trial"].get("libraries", {}).items()}
    return facts | rows | parameters | libraries


def _compare_metrics(left: Document, right: Document) -> Iterable[dict[str, Any]]:
    measured = [(one.get("holdout") or {}).get("metrics", {}) for one in (left, right)]
    for name in dict.fromkeys([*measured[0], *measured[1]]):
        pair = [one.get(name) for one in measured]
        metric, better = METRICS_BY_NAME.get(name), None
        if metric and all(pair):
            gain = (pair[1]["value"] - pair[0]["value"]) * (1 if metric.greater_is_better else -1)
            better = "right" if gain > 0 else "left" if gain < 0 else None
            better = "not clear" if better and _overlap(*pair) else better
        yield {"name": name, "left": pair[0], "right": pair[1], "better": better}


def _overlap(one: Document, other: Document) -> bool:
    """Return True unless both intervals are known and apart."""
    if None in (one.get("low"), one.get("high"), other.get("low"), other.get("high")):
        return True
    return bool(one["low"] <= other["high"] and other["low"] <= one["high"])


def _draw_curves(evaluations: Sequence[Document], names: Sequence[str], curve: str, x: str, y: str) -> Chart | None:
    found = [((one.get("curves") or {}).get(curve) or (), name) for one, name in zip(evaluations, names, strict=True)]
    if not any(points for points, _ in found):
        return None
    lines = [
        Line(name, [(point[0], point[1]) for point in points], kind=kind)
        for (points, name), kind in zip(found, _KINDS, strict=True)
        if points
    ]
    diagonal = Line("chance", [(0.0, 0.0), (1.0, 1.0)], kind="reference")
    return charts.line_chart(
        [diagonal, *lines],
        description=f"ROC curves of {' and '.join(names)}",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        x_title=x,
        y_title=y,
    )


def _draw_calibration(evaluations: Sequence[Document], names: Sequence[str]) -> Chart | None:
    lines = []
    for one, name, kind in zip(evaluations, names, _KINDS, strict=True):
        bins = ((one.get("curves") or {}).get("calibration") or {}).get("cells") or ()
        points = [(found["predicted"], found["observed"]) for found in bins]
        if points:
            lines.append(Line(name, points, kind=kind, dots=True))
    if not lines:
        return None
    return charts.line_chart(
        [Line("perfect", [(0.0, 0.0), (1.0, 1.0)], kind="reference"), *lines],
        description=f"Calibration of {' and '.join(names)}",
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        x_title="predicted probability",
        y_title="observed share",
    )


def _compare_slices(left: Document, right: Document) -> Iterable[dict[str, Any]]:
    """Yield the slices of either version with the primary metric of both."""
    metric = right.get("primary_metric") or left.get("primary_metric")
    by_name = [{one["name"]: one for one in evaluation.get("slices") or ()} for evaluation in (left, right)]
    for name in dict.fromkeys([*by_name[0], *by_name[1]]):
        pair = [one.get(name) for one in by_name]
        values = [_slice_value(one, metric) for one in pair]
        yield {"name": name, "metric": metric, "rows": [one["rows"] if one else None for one in pair], "values": values}


def _slice_value(one: Document | None, metric: str | None) -> float | None:
    value: Any = (one or {}).get("metrics", {}).get(metric)
    return float(value["value"]) if isinstance(value, Mapping) else value
