"""The protocol of an incident: timeline, cause, effect and what was done, as Markdown for people to complete.

Everything in it is read from the model's ledger, monitoring report and hourly traffic.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from millrace.quantities import format_duration

from millrace_cli.output import Document, format_timestamp

#: Time before the first window of an incident in which its cause is looked for.
_BEFORE = timedelta(days=1)
#: Time behind its end.
_AFTER = timedelta(hours=6)
_MAX_FINDINGS = 10


def list_incidents(overview: Document) -> list[Document]:
    """Return the incidents of a model's report, the open ones first, then the newest."""
    report = overview["report"]
    found = list(report["incidents"]) if report else []
    return sorted(found, key=lambda one: (one["resolved_at"] is None, one["opened_at"]), reverse=True)


def find_incident(overview: Document, incident_id: str) -> Document | None:
    """Return the incident whose id begins so; None when there is none, or more than one."""
    found = [one for one in list_incidents(overview) if str(one["incident_id"]).startswith(incident_id)]
    return found[0] if len(found) == 1 else None


def write_protocol(overview: Document, incident: Document, now: datetime) -> str:
    """Return the protocol of an incident.

    Parameters
    ----------
    overview : mapping
        ``GET /models/{model}/overview``.
    incident : mapping
        One of its report's incidents.
    now : datetime
        End of an incident that is open.
    """
    begin = datetime.fromisoformat(incident["since"])
    end = datetime.fromisoformat(incident["resolved_at"]) if incident["resolved_at"] else now
    state = f"resolved {format_timestamp(incident['resolved_at'])}" if incident["resolved_at"] else "open"
    findings = [active["finding"] for active in incident["troubles"].values()]
    lines = [
        f"# {overview['model']}: {incident['event']}, {begin:%Y-%m-%d}",
        "",
        (
            f"Incident `{incident['incident_id']}`, version {incident['version']}, {state}, "
            f"lasted {format_duration((end - begin).total_seconds())}. Written {format_timestamp(now.isoformat())}."
        ),
        "",
        "## Summary",
        "",
        "To complete: what happened, for whom, in two sentences.",
        "",
        "## Effect",
        "",
        *_bullets(_describe_effect(overview, begin, end)),
        "- To complete: who noticed, and what it cost them.",
        "",
        "## Detection",
        "",
        f"- First window in breach: {format_timestamp(incident['since'])}.",
        (
            f"- Opened: {format_timestamp(incident['opened_at'])}, "
            f"{format_duration((datetime.fromisoformat(incident['opened_at']) - begin).total_seconds())} later."
        ),
        *_bullets(_one_line(finding["message"]) for finding in findings[:_MAX_FINDINGS]),
        *([f"- and {len(findings) - _MAX_FINDINGS} more findings"] if len(findings) > _MAX_FINDINGS else []),
        "",
        "## Timeline (UTC)",
        "",
        "| time | what | who |",
        "|---|---|---|",
        *(
            f"| {when} | {_escape(what)} | {_escape(who)} |"
            for when, what, who in _timeline(overview, incident, begin, end)
        ),
        "",
        "## Cause",
        "",
        *_bullets(_possible_causes(overview, begin)),
        "- To complete: the cause, and how it is known.",
        "",
        "## What was done",
        "",
        *_bullets(_one_line(action) for action in incident["actions"] or [incident.get("no_action") or "nothing yet"]),
        "- To complete: what people did.",
        "",
        "## What follows",
        "",
        "- To complete: what keeps this kind of incident away, who does it, until when.",
        "",
    ]
    return "\n".join(lines)


def _describe_effect(overview: Document, begin: datetime, end: datetime) -> Iterable[str]:
    hours = [one for one in overview["hours"] if begin - timedelta(hours=1) < _at(one["hour"]) < end]
    if not hours:
        yield "No requests are recorded for this time in the last seven days."
        return
    total = {name: sum(one[name] for one in hours) for name in ("requests", "errors", "refused", "rows")}
    yield (
        f"{total['requests']:,} requests with {total['rows']:,} rows in {len(hours):,} hours: "
        f"{total['errors']:,} failed, {total['refused']:,} refused."
    )
    versions: dict[str, int] = {}
    for one in hours:
        for version, count in one["versions"].items():
            versions[version] = versions.get(version, 0) + count
    yield "Answered by " + ", ".join(f"version {name} ({count:,})" for name, count in sorted(versions.items())) + "."


def _possible_causes(overview: Document, begin: datetime) -> Iterable[str]:
    """Yield what changed in the day before: a version, a spec, a release."""
    changes = ("model_promoted", "model_rolled_back", "spec_changed", "release_started", "release_advanced")
    near = [
        entry
        for entry in overview["entries"]
        if entry["action"] in changes and begin - _BEFORE <= _at(entry["occurred_at"]) <= begin
    ]
    for entry in near:
        yield f"{format_timestamp(entry['occurred_at'])}: {_name(entry['action'])}: {_one_line(entry['reason'])}"
    if not near:
        yield "Neither champion, release nor spec changed in the day before the first window: the data did."


def _timeline(overview: Document, incident: Document, begin: datetime, end: datetime) -> Sequence[tuple[str, str, str]]:
    found: list[tuple[datetime, str, str]] = [
        (begin, "first window in breach", "monitoring"),
        (_at(incident["opened_at"]), f"incident opened: {incident['event']}", "monitoring"),
    ]
    if incident["resolved_at"]:
        found.append((end, "incident resolved", "monitoring"))
    found += [
        (_at(entry["occurred_at"]), f"{_name(entry['action'])}: {entry['reason']}", entry["actor"])
        for entry in overview["entries"]
        if begin - _BEFORE <= _at(entry["occurred_at"]) <= end + _AFTER and entry["action"] != "incident_resolved"
    ]
    return [(f"{at:%Y-%m-%d %H:%M}", what, who) for at, what, who in sorted(found, key=lambda one: one[0])]


def _at(timestamp: str) -> datetime:
    return datetime.fromisoformat(timestamp)


def _name(action: str) -> str:
    return action.replace("_", " ")


def _bullets(points: Iterable[str]) -> list[str]:
    return [f"- {point}" for point in points]


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())


def _escape(text: Any) -> str:
    return _one_line(text).replace("|", "\\|")
