"""A monitoring report for a terminal. Pure: from plain JSON to Rich renderables."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from millrace_cli.render import Document, format_moment, format_value, make_table

_STYLES = {"alarm": "red", "breach": "yellow", "ok": "green", "unknown": "dim"}
_MAX_FINDINGS = 15


def verdicts_table(report: Document) -> Table:
    """Return every verdict with its status: how much of what it judges is out of order, and what it needs."""
    rows = [
        (
            verdict["verdict"].replace("_", " "),
            _styled(verdict["status"]),
            f"{verdict['breaches']} of {verdict['judged']}" if verdict["judged"] else "",
            format_value(verdict["threshold"]),
            format_value(verdict["min_rows"]),
        )
        for verdict in report["verdicts"]
    ]
    title = f"{report['model']} version {report['version']}, looked at {format_moment(report['made_at'])}"
    return make_table(title, ("verdict", "status", "out of order", "limit", "rows needed"), rows)


def findings_table(report: Document) -> Table | None:
    """Return what is out of order; None when nothing is."""
    found = [finding for finding in report["findings"] if finding["status"] == "breach"]
    if not found:
        return None
    rows = [
        (
            finding["verdict"].replace("_", " "),
            finding["subject"],
            format_value(finding["value"]),
            format_value(finding["threshold"]),
            finding["rows"],
            finding["message"],
        )
        for finding in found[:_MAX_FINDINGS]
    ]
    more = len(found) - _MAX_FINDINGS
    title = "Out of order" + (f" (and {more} more in the report)" if more > 0 else "")
    return make_table(title, ("verdict", "what", "value", "limit", "rows", "finding"), rows)


def incident_lines(report: Document) -> Iterator[str]:
    """Yield a line for each incident, open ones first, and beneath it what was done about it."""
    for incident in sorted(report["incidents"], key=lambda incident: incident["resolved_at"] is not None):
        since = format_moment(incident["since"])
        if incident["resolved_at"]:
            yield f"{incident['event']}: since {since}, over since {format_moment(incident['resolved_at'])}"
        else:
            subjects = ", ".join(_subject(key) for key in list(incident["troubles"])[:_MAX_FINDINGS])
            yield f"{incident['event']}: open since {since} ({subjects}); millrace why {report['model']}"
        for action in incident.get("actions", ()):
            yield f"  {action}"


def _subject(key: str) -> str:
    verdict, _, subject = key.partition(":")
    return subject or verdict.replace("_", " ")


def _styled(status: Any) -> Text:
    return Text(str(status), style=_STYLES.get(str(status), ""))
