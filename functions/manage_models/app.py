"""Answer what is known about models and their data, and take their specs: the management API."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.api_requests import read_caller, read_json_body
from millrace.aws.clients import object_store, registry, schedules
from millrace.aws.rest_api import rest_api
from millrace.data.catalogue import describe_dataset, describe_datasets, describe_difference
from millrace.data.schemas import describe_schema
from millrace.data.specs import describe_spec, replace_spec
from millrace.names import validate_cause_id, validate_model_name, validate_run_id
from millrace.observability import logger
from millrace.ports import ObjectStore, Registry
from millrace.registry.presentation import to_json
from millrace.registry.reading import describe_cause, describe_run, describe_version
from millrace.settings import ManageModelsSettings, ScheduleSettings, load_settings
from millrace.triggers.dispatch import REFUSED_UPLOADS

app = rest_api()


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route the request."""
    return app.resolve(event, context)


@app.get("/models")
def list_models() -> dict[str, Any]:
    """Tell where every model stands."""
    return {"models": to_json(_registry().list_models())}


@app.get("/models/<model>")
def get_model(model: str) -> dict[str, Any]:
    """Tell where one model stands."""
    document: dict[str, Any] = to_json(_registry().get_state(validate_model_name(model)))
    return document


@app.get("/models/<model>/spec")
def get_spec(model: str) -> dict[str, Any]:
    """Show what was said about a model."""
    return describe_spec(validate_model_name(model), _registry())


@app.put("/models/<model>/spec")
def put_spec(model: str) -> dict[str, Any]:
    """Replace what was said about a model; one that does not exist yet is created."""
    event = app.current_event.raw_event
    document = replace_spec(
        validate_model_name(model),
        read_json_body(event),
        registry=_registry(),
        data_store=_data_store(),
        schedules=schedules(load_settings(ScheduleSettings)),
        actor=read_caller(event),
        now=datetime.now(UTC),
    )
    logger.info("spec replaced", model=model, revision=document["revision"], changes=len(document["changes"]))
    return document


@app.get("/models/<model>/schema")
def get_schema(model: str) -> dict[str, Any]:
    """Show a model's schema: the current one, or the one that the query's ``version`` names."""
    version = (app.current_event.query_string_parameters or {}).get("version")
    return dict(describe_schema(validate_model_name(model), version, _registry(), _data_store()))


@app.get("/models/<model>/datasets")
def list_datasets(model: str) -> dict[str, Any]:
    """List accepted datasets, newest first."""
    return describe_datasets(validate_model_name(model), _registry())


@app.get("/models/<model>/datasets/<dataset_id>")
def get_dataset(model: str, dataset_id: str) -> dict[str, Any]:
    """Describe one dataset; its id may be cut."""
    return describe_dataset(validate_model_name(model), dataset_id, _registry(), _data_store())


@app.get("/models/<model>/datasets/<dataset_id>/diff/<other_id>")
def get_difference(model: str, dataset_id: str, other_id: str) -> dict[str, Any]:
    """Compare two datasets: schema, volume, distributions."""
    return describe_difference(validate_model_name(model), dataset_id, other_id, _registry(), _data_store())


@app.get("/models/<model>/versions")
def list_versions(model: str) -> dict[str, Any]:
    """List versions, newest first."""
    return {"versions": to_json(_registry().list_versions(_existing(model)))}


@app.get("/models/<model>/versions/<version>")
def get_version(model: str, version: str) -> dict[str, Any]:
    """Describe one version, by number or alias."""
    return describe_version(validate_model_name(model), version, _registry(), _model_store())


@app.get("/models/<model>/runs")
def list_runs(model: str) -> dict[str, Any]:
    """List the newest runs first."""
    return {"runs": to_json(_registry().list_runs(_existing(model)))}


@app.get("/models/<model>/runs/<run_id>")
def get_run(model: str, run_id: str) -> dict[str, Any]:
    """Describe one run with its trials and the gate's decision."""
    return describe_run(validate_model_name(model), validate_run_id(run_id), _registry(), _model_store())


@app.get("/models/<model>/causes/<cause_id>")
def get_cause(model: str, cause_id: str) -> dict[str, Any]:
    """Tell what became of a trigger."""
    return describe_cause(validate_model_name(model), validate_cause_id(cause_id), _registry())


@app.get("/models/<model>/ledger")
def list_ledger(model: str) -> dict[str, Any]:
    """Tell who did what, when and why: the newest entries first."""
    return {"entries": to_json(_registry().list_ledger(_existing(model)))}


@app.get("/uploads/refused")
def list_refused_uploads() -> dict[str, Any]:
    """List uploads that belong to no model, with the reasons."""
    return {"refused": to_json(_registry().list_ledger(REFUSED_UPLOADS))}


def _existing(model: str) -> str:
    """Return the name of a model that exists; raises ``ModelNotFoundError``."""
    return _registry().get_state(validate_model_name(model)).model


def _registry() -> Registry:
    return registry(load_settings(ManageModelsSettings).registry_table)


def _data_store() -> ObjectStore:
    return object_store(load_settings(ManageModelsSettings).data_bucket)


def _model_store() -> ObjectStore:
    return object_store(load_settings(ManageModelsSettings).models_bucket)
