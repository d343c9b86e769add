"""Routes that read models and their data, and the one that replaces a model's spec."""

from collections.abc import Callable, Mapping
from typing import Any

from millrace.batch.job_queries import describe_job, describe_jobs
from millrace.batch.job_records import get_job
from millrace.cost.statement import read_month_name
from millrace.data.dataset_queries import describe_dataset, describe_difference
from millrace.data.schema_changes import describe_schema
from millrace.data.spec_changes import describe_spec, replace_spec
from millrace.documents import to_plain
from millrace.layout import MLFLOW_LEDGER
from millrace.management.calls import ApiRoute, Call
from millrace.management.deployments import DEFAULT_WINDOW, LONGEST_WINDOW, describe_dora
from millrace.management.overviews import MODELS_OF_AN_OVERVIEW, describe_model, describe_overview, describe_report
from millrace.management.stack_costs import describe_costs
from millrace.names import CHAMPION, validate_model_name, validate_run_id
from millrace.registry.ledger import KEYS_LEDGER
from millrace.registry.queries import (
    MAX_ITEMS,
    MAX_MODELS,
    MAX_RUNS,
    PageRequest,
    describe_alias_at,
    describe_alias_moves,
    describe_approval,
    describe_card,
    describe_cause,
    describe_run,
    describe_version,
    find_run,
    list_datasets,
    list_models,
    list_runs,
    list_versions,
    read_begin,
    read_timestamp,
)
from millrace.releases.changes import describe_changes, describe_service
from millrace.releases.control import describe_release, describe_releases, find_release
from millrace.replay.replays import describe_replay, list_replays
from millrace.triggers.requests import REFUSED_UPLOADS


def _get_report(call: Call, model: str) -> dict[str, Any]:
    """Return the latest reports on requests and on captured batch jobs; null before the first."""
    return describe_report(call.existing(model), call.registry, call.data_store)


def _get_monitoring_run(call: Call, model: str, run: str) -> dict[str, Any]:
    """Return the status of a monitoring run."""
    model = call.existing(model)
    return {"model": model, "run": validate_run_id(run), "status": call.monitoring().status(run)}


def _put_spec(call: Call, model: str) -> dict[str, Any]:
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


def _get_history(call: Call, model: str) -> dict[str, Any]:
    """Return the version that served at the query's ``at``; without it, the moves of the alias.

    The query's ``alias`` names another alias than the champion.
    """
    alias, timestamp = call.request.parameter("alias") or CHAMPION, call.request.parameter("at")
    if timestamp is None:
        return describe_alias_moves(model, call.registry, alias)
    return describe_alias_at(model, read_timestamp(timestamp), call.registry, alias)


def _get_release(call: Call, model: str, release_id: str) -> dict[str, Any]:
    """Return a release, or the active one, with its changes."""
    release = find_release(call.existing(model), release_id, call.registry)
    return describe_release(release) | describe_changes(release, call.registry, call.now)


def _get_batches(call: Call, model: str) -> dict[str, Any]:
    """Return the newest batch jobs of a model; the query's ``limit`` of them."""
    return describe_jobs(call.existing(model), call.registry.store, _page(call, MAX_RUNS).limit)


def _get_batch(call: Call, model: str, job_id: str) -> dict[str, Any]:
    """Return a batch job with its progress."""
    return describe_job(get_job(call.existing(model), job_id, call.registry.store), call.data_store)


def _verify_ledger(call: Call, ledger: str) -> dict[str, Any]:
    """Verify the chain of a ledger: that of a model, of refused uploads or of API keys."""
    verification = call.registry.verify_ledger(ledger)
    return {**to_plain(verification), "is_intact": verification.is_intact}


def _get_schema(call: Call, model: str) -> Any:
    """Return a model's schema: the current one, or that of the query's ``version``."""
    return describe_schema(model, call.request.parameter("version"), call.registry, call.data_store)


def _get_card(call: Call, model: str, version: str) -> dict[str, Any]:
    return describe_card(model, version, **call.stores)


def _get_version(call: Call, model: str, version: str) -> dict[str, Any]:
    """Return a version, with how it came into service."""
    found = describe_version(model, version, **call.stores)
    return found | {"service": describe_service(model, found["version"], call.registry)}


def _page(call: Call, most: int = MAX_ITEMS) -> PageRequest:
    return PageRequest.read(call.request.parameter("after"), call.request.parameter("limit"), most)


def _get_approval(call: Call, model: str, run_id: str) -> dict[str, Any]:
    return describe_approval(call.existing(model), run_id, call.registry)


def _get_dataset(call: Call, model: str, dataset_id: str) -> dict[str, Any]:
    return describe_dataset(model, dataset_id, call.registry, call.data_store)


def _get_difference(call: Call, model: str, dataset_id: str, other_id: str) -> dict[str, Any]:
    """Compare two datasets: schema, volume, distributions."""
    return describe_difference(model, dataset_id, other_id, call.registry, call.data_store)


def _get_costs(call: Call) -> dict[str, Any]:
    """Return what a month costs: the query's ``month``, by default the present one, of the stack or its ``model``."""
    model, month = call.request.parameter("model"), read_month_name(call.request.parameter("month"), call.now)
    return describe_costs(
        month,
        registry=call.registry,
        data_store=call.data_store,
        model_store=call.model_store,
        settings=call.costs,
        model=call.existing(validate_model_name(model)) if model else None,
        after=call.request.parameter("after") or "",
    )


def _get_dora(call: Call, model: str | None = None) -> dict[str, Any]:
    """Return the DORA metrics since the query's ``since``, of the stack or of one model."""
    return describe_dora(
        read_begin(call.request.parameter("since"), call.now, default=DEFAULT_WINDOW, longest=LONGEST_WINDOW),
        call.now,
        registry=call.registry,
        model=call.existing(model) if model else None,
        after=call.request.parameter("after") or "",
    )


_READS: Mapping[str, Callable[..., Any]] = {
    "/cost": _get_costs,
    "/dora": _get_dora,
    "/overview": lambda call: describe_overview(call.registry, _page(call, MODELS_OF_AN_OVERVIEW), call.now),
    "/models": lambda call: list_models(call.registry, _page(call, MAX_MODELS)),
    "/models/<model>": lambda call, model: call.registry.get_state(model),
    "/models/<model>/overview": lambda call, model: describe_model(model, call.registry, call.data_store, call.now),
    "/models/<model>/spec": lambda call, model: describe_spec(model, call.registry),
    "/models/<model>/schema": _get_schema,
    "/models/<model>/datasets": lambda call, model: list_datasets(model, call.registry, _page(call)),
    "/models/<model>/datasets/<dataset_id>": _get_dataset,
    "/models/<model>/datasets/<dataset_id>/diff/<other_id>": _get_difference,
    "/models/<model>/versions": lambda call, model: list_versions(model, call.registry, _page(call)),
    "/models/<model>/versions/<version>": _get_version,
    "/models/<model>/versions/<version>/card": lambda call, model, version: describe_card(
        model, version, **call.stores
    ),
    "/models/<model>/dora": _get_dora,
    "/models/<model>/history": _get_history,
    "/models/<model>/releases": lambda call, model: describe_releases(call.existing(model), call.registry),
    "/models/<model>/releases/<release_id>": _get_release,
    "/models/<model>/batches": _get_batches,
    "/models/<model>/batches/<job_id>": _get_batch,
    "/models/<model>/replays": lambda call, model: list_replays(call.existing(model), call.data_store, call.now),
    "/models/<model>/replays/<replay_id>": lambda call, model, replay_id: describe_replay(
        call.existing(model), replay_id, call.data_store, call.now
    ),
    "/models/<model>/runs": lambda call, model: list_runs(model, call.registry, _page(call, MAX_RUNS)),
    "/models/<model>/runs/<run_id>": lambda call, model, run_id: describe_run(model, run_id, **call.stores),
    "/models/<model>/runs/<run_id>/approval": _get_approval,
    "/runs/<run_id>": lambda call, run_id: describe_run(find_run(run_id, call.registry).model, run_id, **call.stores),
    "/models/<model>/causes/<cause_id>": lambda call, model, cause_id: describe_cause(model, cause_id, call.registry),
    "/models/<model>/monitoring": _get_report,
    "/models/<model>/monitoring/<run>": _get_monitoring_run,
    "/models/<model>/ledger": lambda call, model: {"entries": call.registry.list_ledger(call.existing(model))},
    "/models/<model>/ledger/verification": lambda call, model: _verify_ledger(call, call.existing(model)),
    "/uploads/refused": lambda call: {"refused": call.registry.list_ledger(REFUSED_UPLOADS)},
    "/uploads/refused/verification": lambda call: _verify_ledger(call, REFUSED_UPLOADS),
    "/keys": lambda call: {"keys": call.registry.list_key_scopes(), "ledger": call.registry.list_ledger(KEYS_LEDGER)},
    "/keys/verification": lambda call: _verify_ledger(call, KEYS_LEDGER),
    "/aliases": lambda call: {"ledger": call.registry.list_ledger(MLFLOW_LEDGER)},
    "/aliases/verification": lambda call: _verify_ledger(call, MLFLOW_LEDGER),
}
ROUTES = (
    *(ApiRoute("GET", path, handle) for path, handle in _READS.items()),
    ApiRoute("PUT", "/models/<model>/spec", _put_spec),
)
