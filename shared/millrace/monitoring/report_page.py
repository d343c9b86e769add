"""The report as one HTML page that needs nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.monitoring.alerts import nothing_yet
from millrace.monitoring.report_figures import figures, quality_course
from millrace.reporting.blocks import TableColumn, Tone, badge, bullets, callout, filter_box, table, tiles
from millrace.reporting.html import Html, element, join
from millrace.reporting.page import Section, render_page
from millrace.reporting.wording import count, moment, number, share

Document = Mapping[str, Any]

VERDICT_NAMES = {
    "data_quality": "Data quality",
    "skew": "Training/serving skew",
    "feature_drift": "Feature drift",
    "feature_change": "Change since the window before",
    "dependence": "Dependence between features",
    "prediction_drift": "Prediction drift",
    "calibration": "Calibration",
    "live_quality": "Live quality",
    "estimated_quality": "Estimated quality",
    "concept_drift": "Concept drift",
    "bias": "Bias",
    "staleness": "Staleness",
    "serving_health": "Serving health",
}
_TONES: Mapping[str, Tone] = {"alarm": "bad", "breach": "warn", "ok": "good", "unknown": "plain", "off": "plain"}
_WORDS = {"alarm": "alarm", "breach": "past threshold", "ok": "in order", "unknown": "not known", "off": "off"}
#: Subjects of an incident that are told in words, at the top and in its own section.
_MOST_IN_SHORT, _MOST_IN_FULL = 3, 12
_RANK = {"alarm": 0, "breach": 1, "ok": 2, "unknown": 3, "off": 4}


def render(document: Document) -> str:
    """Return the page of a report."""
    alarms = [incident for incident in document["incidents"] if incident["resolved_at"] is None]
    verdict = badge("incident open", "bad", large=True) if alarms else badge("no incident", "good", large=True)
    sections = [
        Section("verdicts", "Verdicts", _verdicts(document), "Each with a threshold and a least sample of its own."),
        *_incidents(document),
        *figures(document, VERDICT_NAMES),
        Section("findings", "Findings", _findings(document), "What the latest window of each kind showed."),
        *_quality(document),
        *_windows(document),
        Section("intake", "What was read", _intake(document), "Nothing is left out in silence."),
    ]
    return render_page(
        title=document["model"],
        kicker="Monitoring report",
        badge=verdict,
        subtitle=f"Version {document['version']}, looked at {moment(document['made_at'])}",
        summary=join(_tiles(document), _alarm_callouts(alarms), _obstacle(document)),
        sections=sections,
        footer="A window is judged once it holds enough rows; what stays past its threshold is an incident.",
    )


def _tiles(document: Document) -> Html:
    statuses = [verdict["status"] for verdict in document["verdicts"]]
    open_rows = f"{document['open_window_rows']:,} of {document['rows_needed']:,}"
    return tiles(
        [
            ("Last asked", moment(document["last_row_at"]), ""),
            ("Windows judged", count(len(document["windows"])), "lately"),
            ("In the open window", open_rows, "rows"),
            ("Verdicts in alarm", count(statuses.count("alarm")), ""),
            ("Verdicts in order", count(statuses.count("ok")), f"of {len(statuses)}"),
        ]
    )


def _alarm_callouts(alarms: Sequence[Document]) -> list[Html]:
    return [
        callout(
            f"{incident['event']} since {moment(incident['since'])}",
            _said(incident, _MOST_IN_SHORT),
            "bad",
        )
        for incident in alarms
    ]


def _obstacle(document: Document) -> Html | None:
    return callout(document["obstacle"], [], "warn") if document["obstacle"] else None


def _verdicts(document: Document) -> Html:
    columns = [
        TableColumn("Verdict"),
        TableColumn("State"),
        TableColumn("Past threshold", "number"),
        TableColumn("Judged", "number"),
        TableColumn("Threshold", "number"),
        TableColumn("Least sample", "number"),
    ]
    rows = [
        [
            VERDICT_NAMES[one["verdict"]],
            badge(_WORDS[one["status"]], _TONES[one["status"]]),
            count(one["breaches"]),
            count(one["judged"]),
            number(one["threshold"]),
            count(one["min_rows"]),
        ]
        for one in sorted(document["verdicts"], key=lambda one: _RANK[one["status"]])
    ]
    return table(columns, rows, caption="Verdicts")


def _incidents(document: Document) -> list[Section]:
    if not document["incidents"]:
        return []
    latest = sorted(document["incidents"], key=lambda one: (one["resolved_at"] is not None, one["since"]))
    return [Section("incidents", "Incidents", join(*(_incident(incident) for incident in latest)))]


def _incident(incident: Document) -> Html:
    over = incident["resolved_at"]
    state = badge("resolved", "good") if over else badge("open", "bad")
    time = f"since {moment(incident['since'])}" + (f", over {moment(over)}" if over else "")
    head = element("div", element("h3", incident["event"]), state, class_="card-head")
    done = incident["actions"] or [nothing_yet(incident["event"], _subjects(incident))]
    return element(
        "div",
        head,
        element("p", time, class_="quiet"),
        bullets(_said(incident, _MOST_IN_FULL)),
        element("p", "What was done about it", class_="quiet"),
        bullets(done),
        class_="panel",
    )


def _said(incident: Document, most: int) -> list[str]:
    troubles = list(incident["troubles"].values())
    said = [trouble["finding"]["message"] for trouble in troubles[:most]]
    return [*said, f"and {len(troubles) - most:,} more"] if len(troubles) > most else said


def _subjects(incident: Document) -> list[str]:
    return [trouble["finding"]["subject"] for trouble in incident["troubles"].values()]


def _findings(document: Document) -> Html:
    columns = [
        TableColumn("Subject"),
        TableColumn("In words", "wide"),
        TableColumn("State"),
        TableColumn("Verdict"),
        TableColumn("Value", "number"),
        TableColumn("Threshold", "number"),
        TableColumn("Rows", "number"),
    ]
    found = sorted(document["findings"], key=lambda one: (_RANK[one["status"]], -(one["value"] or 0.0)))
    rows = [
        [
            one["subject"],
            one["message"],
            badge(_WORDS[one["status"]], _TONES[one["status"]]),
            VERDICT_NAMES[one["verdict"]],
            number(one["value"]),
            number(one["threshold"]),
            count(one["rows"]),
        ]
        for one in found
    ]
    return join(
        filter_box("finding", "Only subjects with"), table(columns, rows, caption="Findings", filter_name="finding")
    )


def _quality(document: Document) -> list[Section]:
    if not document["quality"]:
        return []
    columns = [
        TableColumn("Answers from"),
        TableColumn("To"),
        TableColumn("Metric"),
        TableColumn("Value", "number"),
        TableColumn("95 % interval"),
        TableColumn("Outcomes", "number"),
        TableColumn("Coverage", "number"),
    ]
    rows = [
        [
            moment(one["begin"]),
            moment(one["end"]),
            one["metric"] or "none",
            number(one["value"]),
            f"{number(one['low'])} to {number(one['high'])}" if one["low"] is not None else "",
            count(one["outcomes"]),
            share(one["outcomes"] / one["answers"] if one["answers"] else None),
        ]
        for one in reversed(document["quality"])
    ]
    lead = "By the outcomes known now: a window is measured anew when more of them arrive."
    content = join(quality_course(document["quality"]), table(columns, rows, caption="Quality"))
    return [Section("quality", "Quality as outcomes arrive", content, lead, "Quality")]


def _windows(document: Document) -> list[Section]:
    if not document["windows"]:
        return []
    columns = [
        TableColumn("From"),
        TableColumn("To"),
        TableColumn("Version", "number"),
        TableColumn("Rows", "number"),
        TableColumn("Past threshold", "wide"),
    ]
    rows = [
        [moment(one["begin"]), moment(one["end"]), str(one["version"]), count(one["rows"]), ", ".join(one["breaches"])]
        for one in reversed(document["windows"])
    ]
    return [Section("windows", "Windows", table(columns, rows, caption="Windows"))]


def _intake(document: Document) -> Html:
    intake = document["intake"]
    versions = {**intake["other_versions"], **intake["unknown_versions"]}
    entries = [
        ("Objects read", count(intake["objects"])),
        ("Rows read", count(intake["rows"])),
        ("Rows that came twice", count(intake["duplicates"])),
        ("Lines that are no row", count(intake["malformed_rows"])),
        ("Rows without an answer", count(intake["unanswered"])),
        ("Rows dated later than now", count(intake["from_the_future"])),
        ("Outcomes of predictions never seen, or not yet", count(intake["unmatched_feedback"])),
        ("Outcomes that the model cannot have", count(intake["unusable_feedback"])),
        *(
            (f"Rows of version {version}", count(rows))
            for version, rows in versions.items()
            if version not in intake["unknown_versions"]
        ),
        *(
            (f"Rows of version {version}, which nobody knows", count(rows))
            for version, rows in intake["unknown_versions"].items()
        ),
    ]
    torn = bullets(intake["unreadable_objects"]) if intake["unreadable_objects"] else None
    content = table(
        [TableColumn("What"), TableColumn("How many", "number")],
        [list(entry) for entry in entries],
        caption="What was read",
    )
    return join(content, callout("Objects that could not be unpacked", [torn], "warn") if torn else None)
