"""A model's story out of its ledger and its runs: what happened, what it started, how that ended.

Pure: from the API's JSON to chapters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.monitoring.alerts import nothing_yet
from millrace.registry.ledger import CAUSE_OF_EVENT, finding_cause_id

Document = Mapping[str, Any]

_REQUESTS = frozenset({"run_requested", "trigger_skipped", "trigger_deferred"})


@dataclass(slots=True)
class Chapter:
    """Something that happened, and what came of it.

    Parameters
    ----------
    occurred_at : str
        ISO 8601.
    kind : str
        The cause's kind, or the ledger's own word for what was done.
    happened : str
        In a sentence.
    consequences : list of str
        In the order in which they came.
    """

    occurred_at: str
    kind: str
    actor: str
    happened: str
    consequences: list[str] = field(default_factory=list)


def tell(entries: Iterable[Document], runs: Sequence[Document], incidents: Iterable[Document] = ()) -> list[Chapter]:
    """Return the chapters, newest first.

    Parameters
    ----------
    entries : iterable of mapping
        Of the ledger, in any order.
    runs : sequence of mapping
        The model's runs; one that is not among them is told by its id alone.
    incidents : iterable of mapping
        Of the monitoring report; those whose cause the ledger tells are told once.
    """
    ordered = sorted(entries, key=lambda entry: str(entry["occurred_at"]))
    by_id = {str(run["run_id"]): run for run in runs}
    answered = {str(cause_id): run_id for run_id, run in by_id.items() for cause_id in run.get("cause_ids", ())}
    of_run: dict[str, Chapter] = {}
    of_version: dict[int, Chapter] = {}
    chapters: list[Chapter] = []
    for entry in ordered:
        details = entry["details"]
        if entry["action"] in _REQUESTS:
            chapters.append(_cause_chapter(entry, by_id, answered))
            if entry["action"] == "run_requested":
                of_run[str(details["run_id"])] = chapters[-1]
            continue
        owner = of_run.get(str(details.get("run_id"))) or of_version.get(_version(details))
        if owner is None:
            chapters.append(Chapter(entry["occurred_at"], entry["action"], entry["actor"], entry["reason"]))
        else:
            owner.consequences.append(_consequence(entry))
        if owner is not None and entry["action"] == "model_registered":
            of_version[_version(details)] = owner
    causes = {str(entry["details"].get("cause_id")) for entry in ordered}
    chapters += [_incident_chapter(one) for one in incidents if not causes & set(_cause_ids(one))]
    chapters.reverse()
    chapters.sort(key=lambda chapter: datetime.fromisoformat(chapter.occurred_at), reverse=True)
    return chapters


def _cause_ids(incident: Document) -> list[str]:
    """Return the ids of the causes that an incident may have become."""
    kind, alerts = CAUSE_OF_EVENT.get(incident["event"]), int(incident.get("alerts", 0))
    if kind is None:
        return []
    model, incident_id = str(incident["model"]), str(incident["incident_id"])
    return [finding_cause_id(kind, model, incident_id, request) for request in range(1, alerts + 1)]


def _incident_chapter(incident: Document) -> Chapter:
    findings = [trouble["finding"]["message"] for trouble in incident["troubles"].values()]
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    told = f"{findings[0]}{more}" if findings else str(incident["event"])
    ended = [f"over since {incident['resolved_at']}"] if incident["resolved_at"] else []
    subjects = [trouble["finding"].get("subject", "") for trouble in incident["troubles"].values()]
    consequences = [*incident.get("actions", ()), *ended] or [nothing_yet(incident["event"], subjects)]
    return Chapter(incident["opened_at"], str(incident["event"]), "monitoring", told, consequences)


def _cause_chapter(entry: Document, runs: Mapping[str, Document], answered: Mapping[str, str]) -> Chapter:
    details, reason = entry["details"], str(entry["reason"])
    chapter = Chapter(entry["occurred_at"], str(details.get("kind", "follow-up")), entry["actor"], reason)
    if entry["action"] == "trigger_skipped":
        # The ledger says "skipped: why (what happened)".
        why, _, happened = reason.removesuffix(")").partition(" (")
        chapter.happened = happened or reason
        chapter.consequences.append(f"started nothing: {why.removeprefix('skipped: ')}" if happened else "skipped")
    elif entry["action"] == "trigger_deferred":
        run_id = answered.get(str(details.get("cause_id")))
        then = f"; then started run {run_id}" if run_id else ""
        chapter.consequences.append(f"waited for run {details['waits_for']} to finish{then}")
    else:
        run_id = str(details["run_id"])
        chapter.consequences.append(_run_in_words(run_id, runs.get(run_id)))
    return chapter


def _run_in_words(run_id: str, run: Document | None) -> str:
    if run is None:
        return f"started run {run_id}"
    text = f"started run {run_id}, which "
    if run["status"] in {"queued", "running"}:
        return f"{text}is {run['stage']}"
    lasted = _seconds(run)
    text += f"{run['status']}{f' after {lasted:,.0f} s' if lasted is not None else ''}"
    return f"{text}: {'; '.join(run['reasons'])}" if run["reasons"] else text


def _seconds(run: Document) -> float | None:
    if not (run.get("requested_at") and run.get("finished_at")):
        return None
    return (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["requested_at"])).total_seconds()


def _consequence(entry: Document) -> str:
    details = entry["details"]
    if "to_version" in details:
        origin = f"from version {details['from_version']} " if details.get("from_version") else ""
        return f"{details.get('alias', 'the alias')} moved {origin}to version {details['to_version']}"
    if entry["action"] == "model_registered":
        return f"registered version {details['version']} ({details['semantic_version']})"
    return f"{entry['action'].replace('_', ' ')}: {entry['reason']}"


def _version(details: Document) -> int:
    """Return the version that an entry is about; 0 for none."""
    return int(details.get("version") or details.get("to_version") or 0)
