"""Responses to MLflow's GraphQL queries, from its REST API.

The pages send four fixed queries, without fragments and aliases; each is one or a few requests. A response has the
fields that its query selects, null where the REST API has none.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from millrace_cli.errors import ApiError, CliError, RefusedError
from millrace_cli.output import Document

#: Makes a request of MLflow's API: method, endpoint such as ``runs/get``, and arguments.
Ask = Callable[[str, str, Mapping[str, Any]], Document]
#: The fields that a query selects, by name; None selects a value.
Selection = Mapping[str, Any]

_TOKEN = re.compile(r"[$@]?\w+|[{}]|\([^()]*\)")
_MAX_DEPTH = 30
#: Fields that are lists, and are empty where REST leaves them out.
_LISTS = frozenset(
    {"metrics", "params", "tags", "datasetInputs", "modelInputs", "modelOutputs", "modelVersions", "runs"}
)
#: Fields that are objects, and have no values where REST leaves them out.
_OBJECTS = frozenset({"data", "inputs", "outputs", "info"})
#: GraphQL's numbers have 32 bits: longer ones are strings.
_LONG = frozenset({"startTime", "endTime", "creationTime", "lastUpdateTime", "creationTimestamp", "timestamp", "step"})
#: Apollo adds this field to every selection; nothing reads it.
_TYPE_NAME = "__typename"


def respond_to_query(body: Mapping[str, Any], ask: Ask) -> Document:
    """Return the response to a query; what the API refuses is its ``apiError``.

    Raises
    ------
    CliError
        When it is none of the four queries.
    """
    selection = read_selection(str(body.get("query", "")))
    name = next(iter(selection), "")
    fields = selection.get(name)
    if name not in _QUERIES or not isinstance(fields, Mapping):
        raise CliError(f"the console has no query {name[:60]!r} of GraphQL")
    variables = body.get("variables")
    values = list(variables.values()) if isinstance(variables, Mapping) else []
    given: Mapping[str, Any] = values[0] if values and isinstance(values[0], Mapping) else {}
    try:
        found = _QUERIES[name](ask, {_snake(key): value for key, value in given.items()})
    except ApiError as error:
        found = {"api_error": {"code": error.error_code, "message": error.message}}
    return {"data": {name: _select(found, fields)}}


def read_selection(query: str) -> Selection:
    """Return what a query selects: fields by name, each with its own; arguments and directives are left out.

    Raises ``RefusedError`` for a query that is nested deeper than any page's.
    """
    tokens = iter(_TOKEN.findall(query.partition("{")[1] + query.partition("{")[2]))
    return _read_fields(tokens, 1) if next(tokens, "") == "{" else {}


def _read_fields(tokens: Iterator[str], depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise RefusedError(f"the query is nested deeper than {_MAX_DEPTH} levels")
    fields: dict[str, Any] = {}
    last = ""
    for part in tokens:
        if part == "}":
            break
        if part == "{":
            fields[last] = _read_fields(tokens, depth + 1)
        elif part[0] not in "(@$":
            last = part
            fields[last] = None
    return fields


def _select(value: Any, fields: Selection | None) -> Any:
    """Return a value of REST with the fields that a query selects, under GraphQL's names."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_select(one, fields) for one in value]
    if fields is None or not isinstance(value, Mapping):
        return value
    return {name: _pick(value, name, inner) for name, inner in fields.items()}


def _pick(value: Mapping[str, Any], name: str, fields: Selection | None) -> Any:
    if name == _TYPE_NAME:
        return "Mlflow"
    found = value.get(_snake(name))
    if found is None and name in _LISTS:
        return []
    if found is None and name in _OBJECTS:
        found = {}
    if name in _LONG and found is not None:
        return str(found)
    return _select(found, fields)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def _get_experiment(ask: Ask, given: Mapping[str, Any]) -> Document:
    return ask("GET", "experiments/get", {"experiment_id": given.get("experiment_id", "")})


def _get_run(ask: Ask, given: Mapping[str, Any]) -> Document:
    identity = str(given.get("run_id") or given.get("run_uuid") or "")
    return {"run": _complete(ask, ask("GET", "runs/get", {"run_id": identity})["run"])}


def _search_runs(ask: Ask, given: Mapping[str, Any]) -> Document:
    """Return the first run: the pages read no other."""
    query = {"experiment_ids": given.get("experiment_ids") or [], "filter": given.get("filter") or "", "max_results": 1}
    return {"runs": [_complete(ask, run) for run in ask("POST", "runs/search", query).get("runs", ())]}


def _complete(ask: Ask, run: Document) -> Document:
    """Return a run with its experiment and the versions that were registered from it."""
    identity, experiment = run["info"]["run_id"], run["info"]["experiment_id"]
    versions = ask("GET", "model-versions/search", {"filter": f"run_id='{identity}'"})
    return {
        **run,
        "experiment": ask("GET", "experiments/get", {"experiment_id": experiment})["experiment"],
        "model_versions": versions.get("model_versions", []),
    }


def _get_history(ask: Ask, given: Mapping[str, Any]) -> Document:
    return ask("GET", "metrics/get-history-bulk-interval", {key: one for key, one in given.items() if one is not None})


_QUERIES: Mapping[str, Callable[[Ask, Mapping[str, Any]], Document]] = {
    "mlflowGetExperiment": _get_experiment,
    "mlflowGetRun": _get_run,
    "mlflowSearchRuns": _search_runs,
    "mlflowGetMetricHistoryBulkInterval": _get_history,
}
