"""The page of one model: what served when, how well, and why."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from millrace.reports import charts, monitoring_report
from millrace.reports.charts import Chart, Line
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.console.pages.home import describe_health
from millrace_cli.output import Document
from millrace_cli.timeline import build_timeline

_WIDTH = 1000.0
_LEAST_LABEL = 34.0
#: Entries of the timeline that the page shows.
_EVENTS = 12
_DAY_HOURS = 24.0


def show_model(context: PageContext, model: str) -> Response:
    """Return the page of a model."""
    document = context.get("models", model, "overview")
    state, report = document["state"], document["report"]
    champion = state["aliases"].get("champion")
    served = next((one for one in document["versions"] if one["version"] == champion), None)
    release = next((one for one in document["releases"] if one["release_id"] == state["release_id"]), None)
    return context.show(
        "model.html",
        model=model,
        state=state,
        champion=champion,
        since=document["moves"][0]["occurred_at"] if document["moves"] else None,
        served=served,
        health=describe_health(_known_health(document), has_champion=champion is not None),
        periods=describe_periods(document["moves"], context.now),
        begin=min((move["occurred_at"] for move in document["moves"]), default=None),
        versions=document["versions"],
        release=release,
        pending=document["pending_candidate"],
        report=report,
        quality=_draw_quality(report),
        last_quality=next(iter(reversed(report["quality"])), None) if report else None,
        traffic=_draw_traffic(document["hours"], context.now),
        requests=sum(hour["requests"] for hour in document["hours"]),
        errors=sum(hour["errors"] for hour in document["hours"]),
        refused=sum(hour["refused"] for hour in document["hours"]),
        incidents=[one for one in report["incidents"] if one["resolved_at"] is None] if report else [],
        events=build_timeline(document["entries"], document["runs"], _incidents(model, report))[:_EVENTS],
        awaiting=[run for run in document["runs"] if run["stage"] == "awaiting_approval"],
        active_run=state["active_run_id"],
        actions=_actions(model, state),
    )


def _actions(model: str, state: Document) -> list[tuple[str, str]]:
    found = [("Train now", link("models", model, "actions", "train"))]
    if state["aliases"].get("champion"):
        found.append(("Check now", link("models", model, "actions", "monitor")))
        found.append(("Roll back", link("models", model, "actions", "rollback")))
    return found


def describe_periods(moves: Sequence[Document], now: datetime) -> list[dict[str, Any]]:
    """Return the times at which versions were the champion, oldest first, with their places on a strip 1,000 wide."""
    ordered = sorted(moves, key=lambda move: str(move["occurred_at"]))
    if not ordered:
        return []
    times = [datetime.fromisoformat(move["occurred_at"]) for move in ordered]
    length = max((now - times[0]).total_seconds(), 1.0)
    periods = []
    for place, (move, begin) in enumerate(zip(ordered, times, strict=True)):
        end = times[place + 1] if place + 1 < len(times) else None
        left = _WIDTH * (begin - times[0]).total_seconds() / length
        right = _WIDTH * ((end or now) - times[0]).total_seconds() / length
        periods.append(
            {
                "version": move["to_version"],
                "begin": move["occurred_at"],
                "end": end,
                "left": round(left, 1),
                "width": round(max(right - left, 2.0), 1),
                "is_labelled": right - left > _LEAST_LABEL,
                "action": move["action"],
                "actor": move["actor"],
                "reason": move["reason"],
            }
        )
    return periods


def _draw_traffic(hours: Sequence[Document], now: datetime) -> Chart | None:
    """Draw the requests of each hour of seven days; None without any."""
    if not hours:
        return None
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=7)
    counts = {datetime.fromisoformat(hour["hour"]): hour["requests"] for hour in hours}
    points = [
        (place / _DAY_HOURS - 7.0, float(counts.get(first + timedelta(hours=place), 0)))
        for place in range(7 * int(_DAY_HOURS) + 1)
    ]
    most = max(amount for _, amount in points)
    return charts.line_chart(
        [Line("requests an hour", points)],
        description=f"Requests an hour in the last seven days, {most:,.0f} at most",
        x_range=(-7.0, 0.0),
        y_range=(0.0, 1.05 * most or 1.0),
        x_title="days before now",
        y_title="requests an hour",
        x_write=lambda place: f"{abs(place):g}",
    )


def _known_health(document: Document) -> Document:
    """Return the health; where the last run of an earlier release left no count, the report's."""
    health: Document = document["health"]
    report = document["report"]
    if health["open_incidents"] is not None or report is None:
        return health
    return {**health, "open_incidents": sum(one["resolved_at"] is None for one in report["incidents"])}


def _incidents(model: str, report: Document | None) -> list[Document]:
    return [{**one, "model": model} for one in report["incidents"]] if report else []


def _draw_quality(report: Document | None) -> Chart | None:
    return monitoring_report.quality_timeline(report["quality"]) if report else None
