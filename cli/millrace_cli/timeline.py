"""The timeline of a model: its causes, runs and outcomes in sentences, from its ledger, runs and incidents."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from millrace.causes import CAUSE_OF_EVENT, finding_cause_id
from millrace.monitoring.alerts import default_action

from millrace_cli.output import Document, format_timestamp

_CAUSE_ACTIONS = frozenset({"run_requested", "trigger_skipped", "trigger_deferred"})


@dataclass(slots=True)
class TimelineEntry:
    """Event in a model's history with its consequences.

    Parameters
    ----------
    occurred_at : str
        ISO 8601.
    kind : str
        Kind of the cause, else the action of the ledger entry or the event of the incident.
    happened : str
        Description in one sentence.
    consequences : list of str
        Consequences, oldest first.
    """

    occurred_at: str
    kind: str
    actor: str
    happened: str
    consequences: list[str] = field(default_factory=list)


def build_timeline(
    entries: Iterable[Document], runs: Sequence[Document], incidents: Iterable[Document] = ()
) -> list[TimelineEntry]:
    """Return a model's timeline, newest first.

    Parameters
    ----------
    entries : iterable of mapping
        Ledger entries, in any order.
    runs : sequence of mapping
        The model's runs; a run that is missing here is named by its id alone.
    incidents : iterable of mapping
        Incidents of the monitoring report; those whose cause is in the ledger are not repeated.
    """
    ordered = sorted(entries, key=lambda entry: str(entry["occurred_at"]))
    runs_by_id = {str(run["run_id"]): run for run in runs}
    run_of_cause = {
        str(cause_id): run_id for run_id, run in runs_by_id.items() for cause_id in run.get("cause_ids", ())
    }
    by_run: dict[str, TimelineEntry] = {}
    by_version: dict[int, TimelineEntry] = {}
    by_incident: dict[str, TimelineEntry] = {}
    timeline: list[TimelineEntry] = []
    for entry in ordered:
        details = entry["details"]
        if entry["action"] in _CAUSE_ACTIONS:
            timeline.append(_cause_entry(entry, runs_by_id, run_of_cause))
            by_incident |= dict.fromkeys(details.get("incident_ids", ()), timeline[-1])
            if entry["action"] == "run_requested":
                by_run[str(details["run_id"])] = timeline[-1]
            continue
        if entry["action"] == "incident_resolved":
            _add_resolution(entry, by_incident, timeline)
            continue
        owner = by_run.get(str(details.get("run_id"))) or by_version.get(_version(details))
        if owner is None:
            timeline.append(TimelineEntry(entry["occurred_at"], entry["action"], entry["actor"], entry["reason"]))
        else:
            owner.consequences.append(_consequence(entry))
        if owner is not None and entry["action"] == "model_registered":
            by_version[_version(details)] = owner
    causes = {str(entry["details"].get("cause_id")) for entry in ordered}
    timeline += [
        _incident_entry(incident)
        for incident in incidents
        if not causes & set(_cause_ids(incident)) and incident["incident_id"] not in by_incident
    ]
    timeline.reverse()
    timeline.sort(key=lambda entry: datetime.fromisoformat(entry.occurred_at), reverse=True)
    return timeline


def _add_resolution(entry: Document, by_incident: dict[str, TimelineEntry], timeline: list[TimelineEntry]) -> None:
    """Add a resolution to what the incident requested last; one that requested nothing is an entry of its own."""
    details, (incident_id,) = entry["details"], entry["details"]["incident_ids"]
    if incident_id not in by_incident:
        opened = TimelineEntry(details["opened_at"], str(details["incident"]), entry["actor"], entry["reason"])
        by_incident[incident_id] = opened
        timeline.append(opened)
    by_incident[incident_id].consequences.append(f"resolved {format_timestamp(details['resolved_at'])}")


def _cause_ids(incident: Document) -> list[str]:
    """Return the ids of the causes that an incident's alerts create."""
    kind, alerts = CAUSE_OF_EVENT.get(incident["event"]), int(incident.get("alerts", 0))
    if kind is None:
        return []
    model, incident_id = str(incident["model"]), str(incident["incident_id"])
    return [finding_cause_id(kind.name, model, incident_id, request) for request in range(1, alerts + 1)]


def _incident_entry(incident: Document) -> TimelineEntry:
    findings = [active["finding"] for active in incident["troubles"].values()]
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    happened = f"{findings[0]['message']}{more}" if findings else str(incident["event"])
    resolved = [f"resolved {format_timestamp(incident['resolved_at'])}"] if incident["resolved_at"] else []
    consequences = [*incident.get("actions", ()), *resolved]
    if not consequences:
        subjects = [finding.get("subject", "") for finding in findings]
        consequences = [default_action(str(incident["model"]), incident["event"], subjects)]
    return TimelineEntry(incident["opened_at"], str(incident["event"]), "monitoring", happened, consequences)


def _cause_entry(entry: Document, runs: Mapping[str, Document], run_of_cause: Mapping[str, str]) -> TimelineEntry:
    details, happened = entry["details"], str(entry["reason"])
    if entry["action"] == "trigger_skipped":
        refusal, happened = _skip_reasons(entry)
        consequence = f"started no run: {refusal}" if refusal else "skipped"
    elif entry["action"] == "trigger_deferred":
        run_id = run_of_cause.get(str(details.get("cause_id")))
        then = f", then started run {run_id}" if run_id else ""
        consequence = f"waited for run {details['waits_for']}{then}"
    else:
        run_id = str(details["run_id"])
        consequence = _describe_run(run_id, runs.get(run_id))
    kind = str(details.get("kind", "follow-up"))
    return TimelineEntry(entry["occurred_at"], kind, entry["actor"], happened, [consequence])


def _skip_reasons(entry: Document) -> tuple[str, str]:
    """Return the reason for which a cause was skipped, empty when unknown, and the reason of the cause itself."""
    details = entry["details"]
    if "refusal" in details:
        return str(details["refusal"]), str(details.get("cause_reason") or entry["reason"])
    return _parse_skip_sentence(str(entry["reason"]))


def _parse_skip_sentence(sentence: str) -> tuple[str, str]:
    """Split ``skipped: refusal (cause)``, the only form of ledger entries of earlier versions."""
    refusal, _, cause = sentence.removesuffix(")").partition(" (")
    return (refusal.removeprefix("skipped: "), cause) if cause else ("", sentence)


def _describe_run(run_id: str, run: Document | None) -> str:
    if run is None:
        return f"started run {run_id}"
    if run["status"] in {"queued", "running"}:
        return f"started run {run_id}, which is {str(run['stage']).replace('_', ' ')}"
    status = f"was {run['status']}" if run["status"] in {"rejected", "skipped"} else str(run["status"])
    seconds = _duration(run)
    after = f" after {seconds:,.0f} s" if seconds is not None else ""
    reasons = f": {'; '.join(run['reasons'])}" if run["reasons"] else ""
    return f"started run {run_id}, which {status}{after}{reasons}"


def _duration(run: Document) -> float | None:
    if not (run.get("requested_at") and run.get("finished_at")):
        return None
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["requested_at"])).total_seconds()


def _consequence(entry: Document) -> str:
    details = entry["details"]
    if "to_version" in details:
        origin = f"from version {details['from_version']} " if details.get("from_version") else ""
        return f"{details.get('alias', 'alias')} moved {origin}to version {details['to_version']}"
    if entry["action"] == "model_registered":
        return f"registered version {details['version']} ({details['semantic_version']})"
    return f"{entry['action'].replace('_', ' ')}: {entry['reason']}"


def _version(details: Document) -> int:
    """Return the version of an entry; 0 for none."""
    return int(details.get("version") or details.get("to_version") or 0)
