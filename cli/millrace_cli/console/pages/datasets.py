"""Pages of datasets: the list, one with its profile and findings, and the difference of two."""

from typing import Any

from millrace.reports import charts
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.output import Document

#: Most frequent values that are drawn.
_TOP = 6


def list_datasets(context: PageContext, model: str) -> Response:
    """Return the page of a model's datasets and its refused uploads."""
    document, entries = context.gather(
        lambda: context.get("models", model, "datasets", after=context.query.get("after")),
        lambda: context.get("models", model, "ledger"),
    )
    rejected = [entry for entry in entries["entries"] if entry["action"] in ("upload_rejected", "dataset_rejected")]
    return context.show(
        "datasets.html",
        model=model,
        datasets=document["datasets"],
        next_page=document["next"],
        rejected=rejected,
        actions=[("Upload a table", link("upload", model=model))],
    )


def show_dataset(context: PageContext, model: str, dataset_id: str) -> Response:
    """Return the page of a dataset, with its difference to the query's ``other``."""
    other = context.query.get("other")
    calls = [
        lambda: context.get("models", model, "datasets", dataset_id),
        lambda: context.get("models", model, "datasets"),
    ]
    if other:
        calls.append(lambda: context.get("models", model, "datasets", other, "diff", dataset_id))
    document, listed, *difference = context.gather(*calls)
    return context.show(
        "dataset.html",
        model=model,
        dataset=document["dataset"],
        manifest=document["manifest"],
        findings=document["findings"],
        findings_in_all=document["findings_in_all"],
        columns=[_describe_column(column, document["profile"]["rows"]) for column in document["profile"]["columns"]],
        target=document["profile"].get("target"),
        others=[one for one in listed["datasets"] if one["dataset_id"] != document["dataset"]["dataset_id"]],
        difference=difference[0] if difference else None,
        other=other,
        trail=[("Data", link("models", model, "data"))],
    )


def _describe_column(column: Document, rows: int) -> dict[str, Any]:
    """Return a column with its most frequent values as bars, or the quantiles of its numbers."""
    top = column.get("top") or ()
    bars = [charts.Bar(str(one["value"]), one["count"] / max(rows, 1), f"{one['count']:,}") for one in top[:_TOP]]
    return {**column, "bars": bars, "quantiles": column.get("quantiles") or {}}
