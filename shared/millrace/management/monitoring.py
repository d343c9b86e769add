"""Requests about monitoring: its latest report, and a look at once."""

import json
from typing import Any

from millrace.errors import ArtifactNotFoundError
from millrace.layout import monitoring_key
from millrace.management.calls import Call
from millrace.monitoring.actions import describe_actions
from millrace.names import make_cause_id, make_run_id, validate_run_id


def get_report(call: Call, model: str) -> dict[str, Any]:
    """Return the latest report; null while nothing was judged."""
    name = call.existing(model)
    try:
        report = json.loads(call.data_store.get(monitoring_key(name, "reports/latest.json")))
    except ArtifactNotFoundError:
        report = None
    for incident in report["incidents"] if report else ():
        if incident["resolved_at"] is None:
            # The report knows what was done when it was made; who asks now wants to know what has been by now.
            asked = incident["event"], incident["incident_id"], incident.get("alerts", 0)
            incident["actions"] = list(describe_actions(name, *asked, call.registry))
    return {"model": name, "report": report, "page": monitoring_key(name, "reports/latest.html")}


def look_now(call: Call, model: str) -> dict[str, Any]:
    """Look at a model at once, instead of when its schedule says so; the same request is one look."""
    name = call.existing(model)
    request = str((call.event.get("requestContext") or {}).get("requestId", ""))
    run = make_run_id(make_cause_id("look", name, request), call.now)
    call.monitoring().start(name, run)
    return {"model": name, "run": run, "status": "running"}


def get_look(call: Call, model: str, run: str) -> dict[str, Any]:
    """Tell whether a look at a model has ended."""
    name, run = call.existing(model), validate_run_id(run)
    return {"model": name, "run": run, "status": call.monitoring().status(run)}
