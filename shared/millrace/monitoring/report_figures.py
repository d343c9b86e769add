"""The figures of a report: what moved most, beside training, and how far it was from training in the last windows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from millrace.reporting.blocks import badge
from millrace.reporting.figures import bar_list
from millrace.reporting.html import Html, element
from millrace.reporting.lines import Line, line_chart
from millrace.reporting.page import Section
from millrace.reporting.wording import number, share, short_number

Document = Mapping[str, Any]

#: The course over windows is drawn from so many on.
_FEWEST_WINDOWS = 3
#: Longer than this the course is told in days.
_LONG_HOURS = 72.0


def figures(document: Document, names: Mapping[str, str]) -> list[Section]:
    """Return the section of figures, when there is anything to draw.

    Parameters
    ----------
    names : mapping of str to str
        Of the verdicts.
    """
    panels = [_panel(picture, document, names) for picture in document.get("pictures") or ()]
    if not panels:
        return []
    lead = "The latest window beside training (answers: beside the holdout), and how far it was from it before."
    return [Section("moved", "What moved most", element("div", panels, class_="figures"), lead)]


def _panel(picture: Document, document: Document, names: Mapping[str, str]) -> Html:
    tone, words = ("warn", "past threshold") if picture["status"] == "breach" else ("good", "in order")
    head = element("div", element("h3", picture["subject"]), badge(words, tone), class_="card-head")  # type: ignore[arg-type]  # one of the tones
    said = f"{names[picture['verdict']]}: {number(picture['value'])}, and {number(picture['threshold'])} matters"
    drawn = _distribution(picture) if "edges" in picture else _values(picture)
    return element("div", head, element("p", said, class_="quiet"), drawn, _course(picture, document), class_="panel")


def _distribution(picture: Document) -> Html:
    edges, before, now = picture["edges"], picture["before"], picture["now"]
    top = max(*before, *now)
    wording = _written_moment if picture.get("is_moment") else short_number
    return line_chart(
        [
            Line("before", _steps(edges, before), kind="reference"),
            Line("latest window", _steps(edges, now)),
        ],
        description=f"Share of the rows by {picture['subject']}, before and in the latest window",
        x_range=(edges[0], edges[-1]),
        y_range=(0.0, 1.05 * top if top else 1.0),
        x_title="value",
        y_title="share of the rows",
        x_wording=wording,
        y_wording=_percent,
    )


def _steps(edges: Sequence[float], shares: Sequence[float]) -> list[tuple[float, float]]:
    """Return the outline of bars."""
    ends = list(pairwise(edges))
    outline = [
        point for (left, right), part in zip(ends, shares, strict=True) for point in ((left, part), (right, part))
    ]
    return [(edges[0], 0.0), *outline, (edges[-1], 0.0)]


def _values(picture: Document) -> Html:
    rows: list[tuple[Html | str, float, str, str]] = [
        (value, now, share(now), share(before))
        for value, before, now in zip(picture["values"], picture["before"], picture["now"], strict=True)
    ]
    return bar_list(rows, caption=f"Values of {picture['subject']}", heads=("Value", "Now", "Was"))


def _course(picture: Document, document: Document) -> Html | None:
    windows = [window for window in document["windows"] if "effects" in window]
    if len(windows) < _FEWEST_WINDOWS:
        return None
    last = datetime.fromisoformat(windows[-1]["end"])
    since = [(datetime.fromisoformat(window["end"]) - last) / timedelta(hours=1) for window in windows]
    sizes = [float(window["effects"].get(picture["subject"], 0.0)) for window in windows]
    long = -since[0] > _LONG_HOURS
    places = [hours / 24.0 if long else hours for hours in since]
    threshold = float(picture["threshold"])
    span = (min(places[0], -1.0), 0.0)
    return line_chart(
        [
            Line("matters", [(span[0], threshold), (0.0, threshold)], kind="reference"),
            Line("how far", list(zip(places, sizes, strict=True)), dots=True, tips=_tips(windows, sizes)),
        ],
        description=f"How far {picture['subject']} was from before in the last {len(windows)} windows",
        x_range=span,
        y_range=(0.0, 1.1 * max(threshold, *sizes)),
        x_title="days before the latest window" if long else "hours before the latest window",
        y_title="distance beyond chance",
        x_wording=lambda place: short_number(abs(place)),
    )


def quality_course(records: Sequence[Document]) -> Html | None:
    """Draw the latest metric over the windows that have it, with its intervals; None when there are too few."""
    metric = records[-1]["metric"]
    known = [record for record in records if record["metric"] == metric and record["value"] is not None]
    if len(known) < _FEWEST_WINDOWS:
        return None
    last = datetime.fromisoformat(known[-1]["end"])
    days = [(datetime.fromisoformat(record["end"]) - last) / timedelta(days=1) for record in known]
    low, high = min(record["low"] for record in known), max(record["high"] for record in known)
    room = 0.05 * (high - low) or 0.05
    bounds = [
        Line(name, [(day, record[side]) for day, record in zip(days, known, strict=True)], kind="bound")
        for side, name in (("low", "95 % interval"), ("high", ""))
    ]
    values = [record["value"] for record in known]
    tips = [f"{number(record['value'])}, {record['outcomes']:,} outcomes" for record in known]
    course = line_chart(
        [*bounds, Line(metric, list(zip(days, values, strict=True)), dots=True, tips=tips)],
        description=f"{metric} in the last {len(known)} windows, {number(values[0])} to {number(values[-1])}",
        x_range=(min(days[0], -1 / 24), 0.0),
        y_range=(low - room, high + room),
        x_title="days before the latest window",
        y_title=metric,
        x_wording=lambda day: short_number(abs(day)),
    )
    return element("div", course, class_="panel")


def _tips(windows: Sequence[Document], sizes: Sequence[float]) -> list[str]:
    return [
        f"{datetime.fromisoformat(window['end']):%Y-%m-%d %H:%M}: {number(size)}, {window['rows']:,} rows"
        for window, size in zip(windows, sizes, strict=True)
    ]


def _written_moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _percent(part: float) -> str:
    return f"{100.0 * part:g} %"
