"""Requests that ask what is known, and the one that says something new: a model's spec."""

import json
from typing import Any

from millrace.data.dataset_queries import describe_dataset, describe_datasets, describe_difference
from millrace.data.schema_changes import describe_schema
from millrace.data.spec_changes import describe_spec, replace_spec
from millrace.documents import to_plain
from millrace.errors import ArtifactNotFoundError
from millrace.layout import monitoring_key
from millrace.management.calls import Call, Route
from millrace.monitoring.alerts import describe_actions
from millrace.names import CHAMPION, make_cause_id, make_run_id, validate_cause_id, validate_model_name, validate_run_id
from millrace.registry.queries import (
    describe_approval,
    describe_card,
    describe_cause,
    describe_moment,
    describe_moves,
    describe_run,
    describe_version,
    read_moment,
)
from millrace.triggers.dispatch import REFUSED_UPLOADS


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


def list_models(call: Call) -> dict[str, Any]:
    """Tell where every model stands."""
    return {"models": to_plain(call.registry.list_models())}


def get_model(call: Call, model: str) -> dict[str, Any]:
    """Tell where one model stands."""
    document: dict[str, Any] = to_plain(call.registry.get_state(validate_model_name(model)))
    return document


def get_spec(call: Call, model: str) -> dict[str, Any]:
    """Show what was said about a model."""
    return describe_spec(validate_model_name(model), call.registry)


def put_spec(call: Call, model: str) -> dict[str, Any]:
    """Replace what was said about a model; one that does not exist yet is created."""
    return replace_spec(
        validate_model_name(model),
        call.body,
        registry=call.registry,
        data_store=call.data_store,
        schedules=call.schedules(),
        actor=call.actor,
        now=call.now,
    )


def get_schema(call: Call, model: str) -> dict[str, Any]:
    """Show a model's schema: the current one, or the one that the query's ``version`` names."""
    return dict(describe_schema(validate_model_name(model), call.query("version"), call.registry, call.data_store))


def list_datasets(call: Call, model: str) -> dict[str, Any]:
    """List accepted datasets, newest first."""
    return describe_datasets(validate_model_name(model), call.registry)


def get_dataset(call: Call, model: str, dataset_id: str) -> dict[str, Any]:
    """Describe one dataset; its id may be cut."""
    return describe_dataset(validate_model_name(model), dataset_id, call.registry, call.data_store)


def get_difference(call: Call, model: str, dataset_id: str, other_id: str) -> dict[str, Any]:
    """Compare two datasets: schema, volume, distributions."""
    return describe_difference(validate_model_name(model), dataset_id, other_id, call.registry, call.data_store)


def list_versions(call: Call, model: str) -> dict[str, Any]:
    """List versions, newest first."""
    return {"versions": to_plain(call.registry.list_versions(call.existing(model)))}


def get_version(call: Call, model: str, version: str) -> dict[str, Any]:
    """Describe one version, by number or alias."""
    return describe_version(validate_model_name(model), version, call.registry, call.model_store)


def get_card(call: Call, model: str, version: str) -> dict[str, Any]:
    """Return a version's model card, by number or alias."""
    return describe_card(validate_model_name(model), version, call.registry, call.model_store)


def get_history(call: Call, model: str) -> dict[str, Any]:
    """Tell what served at the moment that the query's ``at`` names; without it, list the champion's moves.

    The query's ``alias`` asks about another alias than the champion.
    """
    name, alias, moment = validate_model_name(model), call.query("alias") or CHAMPION, call.query("at")
    if moment is None:
        return describe_moves(name, call.registry, alias)
    return describe_moment(name, read_moment(moment), call.registry, alias)


def list_runs(call: Call, model: str) -> dict[str, Any]:
    """List the newest runs first."""
    return {"runs": to_plain(call.registry.list_runs(call.existing(model)))}


def get_run(call: Call, model: str, run_id: str) -> dict[str, Any]:
    """Describe one run with its trials and the gate's decision."""
    return describe_run(validate_model_name(model), validate_run_id(run_id), call.registry, call.model_store)


def get_approval(call: Call, model: str, run_id: str) -> dict[str, Any]:
    """Tell whether a run waits for a person, until when, or what the answer was."""
    return describe_approval(call.existing(model), validate_run_id(run_id), call.registry)


def get_cause(call: Call, model: str, cause_id: str) -> dict[str, Any]:
    """Tell what became of a trigger."""
    return describe_cause(validate_model_name(model), validate_cause_id(cause_id), call.registry)


def list_ledger(call: Call, model: str) -> dict[str, Any]:
    """Tell who did what, when and why: the newest entries first."""
    return {"entries": to_plain(call.registry.list_ledger(call.existing(model)))}


def list_refused_uploads(call: Call) -> dict[str, Any]:
    """List uploads that belong to no model, with the reasons."""
    return {"refused": to_plain(call.registry.list_ledger(REFUSED_UPLOADS))}


ROUTES = (
    Route("GET", "/models", list_models),
    Route("GET", "/models/<model>", get_model),
    Route("GET", "/models/<model>/spec", get_spec),
    Route("PUT", "/models/<model>/spec", put_spec),
    Route("GET", "/models/<model>/schema", get_schema),
    Route("GET", "/models/<model>/datasets", list_datasets),
    Route("GET", "/models/<model>/datasets/<dataset_id>", get_dataset),
    Route("GET", "/models/<model>/datasets/<dataset_id>/diff/<other_id>", get_difference),
    Route("GET", "/models/<model>/versions", list_versions),
    Route("GET", "/models/<model>/versions/<version>", get_version),
    Route("GET", "/models/<model>/versions/<version>/card", get_card),
    Route("GET", "/models/<model>/history", get_history),
    Route("GET", "/models/<model>/runs", list_runs),
    Route("GET", "/models/<model>/runs/<run_id>", get_run),
    Route("GET", "/models/<model>/runs/<run_id>/approval", get_approval),
    Route("GET", "/models/<model>/causes/<cause_id>", get_cause),
    Route("GET", "/models/<model>/monitoring", get_report),
    Route("GET", "/models/<model>/monitoring/<run>", get_look),
    Route("GET", "/models/<model>/ledger", list_ledger),
    Route("GET", "/uploads/refused", list_refused_uploads),
)
