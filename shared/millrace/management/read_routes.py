"""Routes that read models and their data, and the one that replaces a model's spec."""

import json
from typing import Any

from millrace.data.dataset_queries import describe_dataset, describe_datasets, describe_difference
from millrace.data.schema_changes import describe_schema
from millrace.data.spec_changes import describe_spec, replace_spec
from millrace.entities import ModelState
from millrace.errors import ArtifactNotFoundError
from millrace.layout import monitoring_key
from millrace.management.calls import Call, Route
from millrace.monitoring.alerts import describe_actions
from millrace.names import CHAMPION, validate_run_id
from millrace.registry.queries import (
    describe_alias_at,
    describe_alias_moves,
    describe_approval,
    describe_card,
    describe_cause,
    describe_run,
    describe_version,
    read_timestamp,
)
from millrace.triggers.dispatch import REFUSED_UPLOADS


def get_report(call: Call, model: str) -> dict[str, Any]:
    """Return the latest monitoring report; null before the first."""
    call.ensure_model(model)
    try:
        report = json.loads(call.data_store.get(monitoring_key(model, "reports/latest.json")))
    except ArtifactNotFoundError:
        report = None
    for incident in report["incidents"] if report else ():
        if incident["resolved_at"] is None:
            # The report holds the actions up to the time it was made; the response holds those up to now.
            known = incident["event"], incident["incident_id"], incident.get("alerts", 0)
            incident["actions"] = list(describe_actions(model, *known, call.registry))
    return {"model": model, "report": report, "page": monitoring_key(model, "reports/latest.html")}


def get_monitoring_run(call: Call, model: str, run: str) -> dict[str, Any]:
    """Return the status of a monitoring run."""
    call.ensure_model(model)
    return {"model": model, "run": validate_run_id(run), "status": call.monitoring().status(run)}


def list_models(call: Call) -> dict[str, Any]:
    """Return the state of every model."""
    return {"models": call.registry.list_models()}


def get_model(call: Call, model: str) -> ModelState:
    """Return the state of a model."""
    return call.registry.get_state(model)


def get_spec(call: Call, model: str) -> dict[str, Any]:
    """Return a model's spec."""
    return describe_spec(model, call.registry)


def put_spec(call: Call, model: str) -> dict[str, Any]:
    """Replace a model's spec; a model that does not exist yet is created."""
    return replace_spec(
        model,
        call.request.body,
        registry=call.registry,
        data_store=call.data_store,
        schedules=call.schedules(),
        actor=call.request.caller,
        now=call.now,
    )


def get_schema(call: Call, model: str) -> dict[str, Any]:
    """Return a model's schema: the current one, or that of the query's ``version``."""
    return dict(describe_schema(model, call.request.parameter("version"), call.registry, call.data_store))


def list_datasets(call: Call, model: str) -> dict[str, Any]:
    """Return accepted datasets, newest first."""
    return describe_datasets(model, call.registry)


def get_dataset(call: Call, model: str, dataset_id: str) -> dict[str, Any]:
    """Return a dataset; its id may be abbreviated."""
    return describe_dataset(model, dataset_id, call.registry, call.data_store)


def get_difference(call: Call, model: str, dataset_id: str, other_id: str) -> dict[str, Any]:
    """Compare two datasets: schema, volume, distributions."""
    return describe_difference(model, dataset_id, other_id, call.registry, call.data_store)


def list_versions(call: Call, model: str) -> dict[str, Any]:
    """Return versions, newest first."""
    call.ensure_model(model)
    return {"versions": call.registry.list_versions(model)}


def get_version(call: Call, model: str, version: str) -> dict[str, Any]:
    """Return a version, by number or alias."""
    return describe_version(model, version, call.registry, call.model_store)


def get_card(call: Call, model: str, version: str) -> dict[str, Any]:
    """Return a version's model card, by number or alias."""
    return describe_card(model, version, call.registry, call.model_store)


def get_history(call: Call, model: str) -> dict[str, Any]:
    """Return the version that served at the query's ``at``; without it, the moves of the alias.

    The query's ``alias`` names another alias than the champion.
    """
    alias, timestamp = call.request.parameter("alias") or CHAMPION, call.request.parameter("at")
    if timestamp is None:
        return describe_alias_moves(model, call.registry, alias)
    return describe_alias_at(model, read_timestamp(timestamp), call.registry, alias)


def list_runs(call: Call, model: str) -> dict[str, Any]:
    """Return the newest runs first."""
    call.ensure_model(model)
    return {"runs": call.registry.list_runs(model)}


def get_run(call: Call, model: str, run_id: str) -> dict[str, Any]:
    """Return a run with its trials and the gate's decision."""
    return describe_run(model, run_id, call.registry, call.model_store)


def get_approval(call: Call, model: str, run_id: str) -> dict[str, Any]:
    """Return a run's approval: pending, until when, or decided."""
    call.ensure_model(model)
    return describe_approval(model, run_id, call.registry)


def get_cause(call: Call, model: str, cause_id: str) -> dict[str, Any]:
    """Return a cause with its outcome."""
    return describe_cause(model, cause_id, call.registry)


def list_ledger(call: Call, model: str) -> dict[str, Any]:
    """Return the newest entries of the ledger first."""
    call.ensure_model(model)
    return {"entries": call.registry.list_ledger(model)}


def list_refused_uploads(call: Call) -> dict[str, Any]:
    """Return uploads that belong to no model, with the reasons."""
    return {"refused": call.registry.list_ledger(REFUSED_UPLOADS)}


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
    Route("GET", "/models/<model>/monitoring/<run>", get_monitoring_run),
    Route("GET", "/models/<model>/ledger", list_ledger),
    Route("GET", "/uploads/refused", list_refused_uploads),
)
