"""Pages of monitoring: the report in the console's frame, and the protocol of an incident."""

from millrace.reports import monitoring_report
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, html, link
from millrace_cli.incident_protocol import find_incident, write_protocol


def show_report(context: PageContext, model: str) -> Response:
    """Return the latest report of a model's monitoring."""
    report = context.get("models", model, "monitoring")["report"]
    actions = [("Check now", link("models", model, "actions", "monitor"))]
    if report is None:
        return context.show("no_report.html", model=model, actions=actions)
    for incident in report["incidents"]:
        name = f"Protocol of {incident['event']}"
        actions.append((name, link("models", model, "incidents", incident["incident_id"])))
    return html(monitoring_report.render_monitoring_report(report, write=context.frame(actions=actions)))


def show_protocol(context: PageContext, model: str, incident_id: str) -> Response:
    """Return the protocol of an incident, to read and to copy as Markdown."""
    document = context.get("models", model, "overview")
    incident = find_incident(document, incident_id)
    if incident is None:
        raise NotFound(f"{model} has no incident {incident_id[:60]}")
    return context.show(
        "protocol.html",
        model=model,
        incident=incident,
        text=write_protocol(document, incident, context.now),
        command=f"millrace incidents {model} {incident_id} --protocol outage.md",
        trail=[("Monitoring", link("models", model, "monitoring"))],
    )
