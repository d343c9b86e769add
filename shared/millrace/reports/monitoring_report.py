"""The monitoring report as an HTML page."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from millrace.reports import charts
from millrace.reports.charts import Bar, Chart, Line
from millrace.reports.formatting import epoch_day, metric_label, number, percent, share, short_number
from millrace.reports.render import Render, render

Document = Mapping[str, Any]

#: Text and tone of each status, the most urgent first.
STATUSES = {
    "alarm": ("alarm", "bad"),
    "breach": ("past threshold", "warn"),
    "ok": ("ok", "good"),
    "unknown": ("not known", "plain"),
    "off": ("off", "plain"),
}
_RANK = {status: rank for rank, status in enumerate(STATUSES)}

#: The timeline over windows is drawn from so many windows on.
_FEWEST_WINDOWS = 3
#: A longer timeline than this is labelled in days.
_LONG_HOURS = 72.0
#: Columns and rows of the heat map.
_HEAT_WINDOWS, _HEAT_SUBJECTS = 24, 20
#: Of a distance whose rule is not in the report any more.
_DEFAULT_THRESHOLD = 0.1


def render_monitoring_report(document: Document, write: Render = render) -> str:
    """Return the HTML page of a report, a :class:`millrace.monitoring.report.MonitoringReport` as plain JSON values."""
    # Ages are known at once, and say nothing about traffic.
    known = {one["status"] for one in document["verdicts"] if one["min_rows"] or one["status"] == "breach"}
    labels = {one["verdict"]: one["label"] for one in document["verdicts"] if "label" in one}
    incidents = sorted(document["incidents"], key=lambda one: (one["resolved_at"] is not None, one["since"]))
    return write(
        "monitoring_report.html",
        report=document,
        too_few_rows=document.get("too_few_rows", ""),
        verdicts=sorted(document["verdicts"], key=lambda one: _RANK[one["status"]]),
        findings=sorted(document["findings"], key=lambda one: (_RANK[one["status"]], -(one["value"] or 0.0))),
        incidents=incidents,
        tone="warn" if "breach" in known else "good" if "ok" in known else "plain",
        open_incidents=[incident for incident in incidents if incident["resolved_at"] is None],
        panels=[chart_panel(data, document["windows"]) for data in document.get("pictures") or ()],
        timeline=quality_timeline(document["quality"]),
        heat=heat_map(document["windows"], document["findings"]),
        label_of=lambda verdict: labels.get(verdict) or verdict.replace("_", " ").capitalize(),
        statuses=STATUSES,
    )


def chart_panel(data: Document, windows: Sequence[Document]) -> dict[str, Any]:
    """Return the charts of a subject: its distribution beside the baseline, and its distance over the windows."""
    return {
        "data": data,
        "distribution": _distribution(data) if "edges" in data else None,
        "bars": None if "edges" in data else _bars(data),
        "timeline": _distance_timeline(data, windows),
    }


def _distribution(data: Document) -> Chart:
    edges, top = data["edges"], max(*data["before"], *data["now"])
    return charts.line_chart(
        [
            Line("baseline", _outline(edges, data["before"]), kind="reference"),
            Line("latest window", _outline(edges, data["now"])),
        ],
        description=f"Share of the rows by {data['subject']}, in the baseline and in the latest window",
        x_range=(edges[0], edges[-1]),
        y_range=(0.0, 1.05 * top if top else 1.0),
        x_title="value",
        y_title="share of the rows",
        x_write=epoch_day if data.get("is_moment") else short_number,
        y_write=percent,
    )


def _outline(edges: Sequence[float], shares: Sequence[float]) -> list[tuple[float, float]]:
    """Return the outline of bars."""
    ends = zip(pairwise(edges), shares, strict=True)
    corners = [point for (left, right), part in ends for point in ((left, part), (right, part))]
    return [(edges[0], 0.0), *corners, (edges[-1], 0.0)]


def _bars(data: Document) -> list[Bar]:
    rows = zip(data["values"], data["before"], data["now"], strict=True)
    return [Bar(str(value), now, share(now), share(before)) for value, before, now in rows]


def _distance_timeline(data: Document, windows: Sequence[Document]) -> Chart | None:
    """Draw a subject's distance from the baseline over the windows; None when there are too few."""
    known = [window for window in windows if "effects" in window]
    if len(known) < _FEWEST_WINDOWS:
        return None
    hours = _since_last(known, timedelta(hours=1))
    sizes = [float(window["effects"].get(data["subject"], 0.0)) for window in known]
    is_long = -hours[0] > _LONG_HOURS
    places = [hour / 24.0 if is_long else hour for hour in hours]
    first, threshold = min(places[0], -1.0), float(data["threshold"])
    tips = [
        f"{datetime.fromisoformat(window['end']):%Y-%m-%d %H:%M}: {number(size)}, {window['rows']:,} rows"
        for window, size in zip(known, sizes, strict=True)
    ]
    return charts.line_chart(
        [
            Line("threshold", [(first, threshold), (0.0, threshold)], kind="reference"),
            Line("distance", list(zip(places, sizes, strict=True)), dots=True, tips=tips),
        ],
        description=f"Distance of {data['subject']} from the baseline in the last {len(known)} windows",
        x_range=(first, 0.0),
        y_range=(0.0, 1.1 * max(threshold, *sizes)),
        x_title="days before the latest window" if is_long else "hours before the latest window",
        y_title="distance beyond chance",
        x_write=_before,
    )


def heat_map(windows: Sequence[Document], findings: Sequence[Document]) -> dict[str, Any] | None:
    """Return the distances of what moved most, a row for each subject and a column for each of the newest windows.

    Each cell has its distance and one of ten shades, by its share of twice the threshold; None where no window has
    distances.
    """
    shown = [window for window in windows if window.get("effects")][-_HEAT_WINDOWS:]
    if not shown:
        return None
    thresholds = {one["subject"]: float(one["threshold"]) for one in findings if one.get("threshold")}
    subjects = dict.fromkeys(subject for window in reversed(shown) for subject in window["effects"])
    rows = []
    for subject in list(subjects)[:_HEAT_SUBJECTS]:
        threshold = thresholds.get(subject) or _DEFAULT_THRESHOLD
        sizes = [window["effects"].get(subject) for window in shown]
        values = [None if size is None else (float(size), _shade(float(size) / threshold)) for size in sizes]
        rows.append({"subject": subject, "threshold": threshold, "values": values})
    rows.sort(key=lambda row: -max(value[0] / row["threshold"] for value in row["values"] if value))
    return {"windows": shown, "rows": rows, "left_out": max(0, len(subjects) - len(rows))}


def _shade(share: float) -> int:
    """Return a shade from 0 to 9; twice the threshold has the darkest."""
    return max(0, min(9, round(4.5 * share)))


def quality_timeline(records: Sequence[Document]) -> Chart | None:
    """Draw the latest metric over the windows that have it, with its intervals; None when there are too few."""
    metric = records[-1]["metric"] if records else None
    known = [record for record in records if record["metric"] == metric and record["value"] is not None]
    if len(known) < _FEWEST_WINDOWS:
        return None
    days, label = _since_last(known, timedelta(days=1)), metric_label(str(metric))
    low, high = min(record["low"] for record in known), max(record["high"] for record in known)
    room = 0.05 * (high - low) or 0.05
    bounds = [
        Line(name, [(day, record[end]) for day, record in zip(days, known, strict=True)], kind="bound")
        for end, name in (("low", "95 % interval"), ("high", ""))
    ]
    values = [record["value"] for record in known]
    tips = [f"{number(record['value'])}, {record['outcomes']:,} rows with ground truth" for record in known]
    return charts.line_chart(
        [*bounds, Line(label, list(zip(days, values, strict=True)), dots=True, tips=tips)],
        description=f"{label} in the last {len(known)} windows, {number(values[0])} to {number(values[-1])}",
        x_range=(min(days[0], -1 / 24), 0.0),
        y_range=(low - room, high + room),
        x_title="days before the latest window",
        y_title=label,
        x_write=_before,
    )


def _since_last(windows: Sequence[Document], unit: timedelta) -> list[float]:
    ends = [datetime.fromisoformat(window["end"]) for window in windows]
    return [(end - ends[-1]) / unit for end in ends]


def _before(place: float) -> str:
    return short_number(abs(place))
