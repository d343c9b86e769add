"""The report of a replay as an HTML page."""

from collections.abc import Mapping
from typing import Any

from millrace.reports import charts
from millrace.reports.charts import Bar, Line, Series
from millrace.reports.formatting import number, percent, share, short_number, three_digits
from millrace.reports.render import Render, render

Document = Mapping[str, Any]

#: Text and tone of each status.
_STATUSES = {
    "requested": ("requested", "plain"),
    "running": ("running", "plain"),
    "succeeded": ("replayed", "good"),
    "void": ("void", "bad"),
    "refused": ("cannot be replayed", "warn"),
    "failed": ("failed", "bad"),
}
_FEWEST_DAYS = 3


def render_replay_report(document: Document, write: Render = render) -> str:
    """Return the HTML page of a report, a :class:`millrace.replay.replay_documents.ReplayReport` as plain values."""
    deviations, is_regression = document["deviations"], document["task"] == "regression"
    amount = three_digits if is_regression else share
    return write(
        "replay_report.html",
        replay=document,
        verdict=describe_replay_verdict(document),
        is_regression=is_regression,
        histogram=_histogram(deviations, is_regression=is_regression) if deviations else None,
        slices=[
            Bar(
                one["name"],
                one["changed"],
                amount(one["changed"]),
                number(one["difference"], 3),
            )
            for one in document["slices"]
        ],
        timeline=_timeline(document) if len(document["days"]) >= _FEWEST_DAYS and not is_regression else None,
    )


def describe_replay_verdict(document: Document) -> tuple[str, str]:
    """Return the state of a replay in a few terms, and its tone."""
    text, tone = _STATUSES[document["status"]]
    quality = document["quality"]
    if document["status"] != "succeeded" or quality is None or not quality["pairs"]:
        return text, tone
    if quality["low"] > 0.0:
        return "better on the labelled rows", "good"
    if quality["high"] < -quality["margin"]:
        return "worse on the labelled rows", "bad"
    if quality["low"] >= -quality["margin"]:
        return "no worse on the labelled rows", "good"
    return "not decided by the labelled rows", "warn"


def _histogram(deviations: Document, *, is_regression: bool) -> charts.Chart:
    return charts.histogram(
        deviations["edges"],
        [Series("", deviations["counts"])],
        description=f"Rows by the absolute change of their {'value' if is_regression else 'probability'}",
        write=short_number,
    )


def _timeline(document: Document) -> charts.Chart:
    days = document["days"]
    shares = [day["changed"] / day["rows"] if day["rows"] else 0.0 for day in days]
    places = [float(place - len(days) + 1) for place in range(len(days))]
    tips = [f"{day['day']}: {day['changed']:,} of {day['rows']:,} rows" for day in days]
    return charts.line_chart(
        [Line("changed decisions", list(zip(places, shares, strict=True)), dots=True, tips=tips)],
        description=f"Share of the rows whose decision changes on {len(days)} days",
        x_range=(min(places[0], -1.0), 0.0),
        y_range=(0.0, 1.1 * max(shares) or 1.0),
        x_title="days before the last",
        y_title="changed decisions",
        x_write=lambda place: short_number(abs(place)),
        y_write=percent,
    )
