"""Search of runs: ``runs/search`` of MLflow's API.

The runs of an experiment are one partition, the newest first. A search in that order, which is the default, reads what
its page needs; another order reads every run of the experiments.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.tracking.arguments import INTEGER, LIST, TEXT
from millrace.tracking.experiments import (
    DEFAULT_PAGE,
    MAX_PAGE,
    ViewType,
    is_viewed,
    read_view,
    validate_experiment_id,
)
from millrace.tracking.pages import describe_entries, read_limit, read_offset, read_token, write_token
from millrace.tracking.record_items import read_record
from millrace.tracking.search_language import (
    EntityKind,
    FilterComparison,
    Grammar,
    Order,
    parse_filter,
    parse_order,
    sort_found,
)
from millrace.tracking.tracked_runs import describe_run_record, effective_stage, read_datasets
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import (
    experiment_key,
    experiment_partition,
    is_mirrored_experiment,
    run_key,
)
from millrace.tracking.tracking_records import ExperimentRecord, RunRecord

#: Runs that one search may sort: their records have to fit in memory, and their reading in half a minute.
MAX_SORTED = 50_000
_CONTEXT = "mlflow.data.context"
_MAX_SORT_KEY = 300

_ATTRIBUTES = frozenset({"run_id", "run_name", "status", "artifact_uri", "user_id"})
_TIMES = frozenset({"start_time", "end_time"})
GRAMMAR = Grammar(
    texts=_ATTRIBUTES,
    numbers=_TIMES,
    listed=frozenset({"run_id"}),
    ordered_by=_ATTRIBUTES | _TIMES,
    aliases={
        "created": "start_time",
        "Created": "start_time",
        "run name": "run_name",
        "Run name": "run_name",
        "Run Name": "run_name",
    },
)
#: The order of the partition, which needs no sorting.
_NEWEST_FIRST = Order("attribute", "start_time", descending=True)

#: A run with the sort key of its item and its stage.
_Found = tuple[str, RunRecord, str]


def _value(run: RunRecord, kind: EntityKind, key: str) -> Any:
    if kind == "metric":
        point = run.latest.get(key)
        return None if point is None else point.value
    if kind == "parameter":
        return run.params.get(key)
    if kind == "tag":
        return run.tags.get(key)
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "status": run.status,
        "artifact_uri": run.artifact_uri,
        "user_id": run.user,
        "start_time": run.started_ms,
        "end_time": run.ended_ms,
    }[key]


def _holds(run: RunRecord, one: FilterComparison) -> bool:
    if one.kind != "dataset":
        return one.holds(_value(run, one.kind, one.key))
    values = (
        dataset.tags.get(_CONTEXT) if one.key == "context" else getattr(dataset, one.key) for dataset in run.datasets
    )
    return any(one.holds(value) for value in values)


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    limit, view = read_limit(arguments, DEFAULT_PAGE, MAX_PAGE), read_view(arguments, "run_view_type")
    comparisons = parse_filter(arguments.get("filter"), GRAMMAR)
    orders = parse_order(arguments.get("order_by", ()), GRAMMAR)
    experiments = _find_experiments(call, arguments.get("experiment_ids", ()))
    if len(experiments) == 1 and orders in ([], [_NEWEST_FIRST]) and not experiments[0].is_mirrored:
        after = _read_after(arguments)
        found = _matching(_read_runs(call, experiments[0], after), view, comparisons)
        return _respond(call, found, limit, lambda last, _: {"after": last[0]})
    matching = (one for experiment in experiments for one in _matching(_read_runs(call, experiment), view, comparisons))
    every = list(islice(matching, MAX_SORTED + 1))
    if len(every) > MAX_SORTED:
        message = (
            f"more than {MAX_SORTED:,} runs match: filter by attributes.start_time, search fewer experiments, or leave "
            "out order_by"
        )
        raise InvalidInputError(message, [FieldError("filter", "matches too many runs to sort them")])
    every.sort(key=lambda one: (-one[1].started_ms, one[1].run_id))
    every = sort_found(every, orders, lambda one, kind, key: _value(one[1], kind, key))
    offset = read_offset(arguments)
    return _respond(call, every[offset:], limit, lambda _, length: {"offset": offset + length})


def _read_after(arguments: Arguments) -> str | None:
    """Return the sort key of the run before the page; raises ``InvalidInputError`` for a token of another search."""
    token = read_token(arguments)
    after = token.get("after")
    if token and not (isinstance(after, str) and after.startswith("R#") and len(after) <= _MAX_SORT_KEY):
        raise InvalidInputError("Invalid page token", [FieldError("page_token", "is no token of this search")])
    return after


def _find_experiments(call: TrackingCall, experiment_ids: Sequence[Any]) -> list[ExperimentRecord]:
    """Return the experiments that exist."""
    wanted = list(dict.fromkeys(validate_experiment_id(one) for one in experiment_ids))
    own = [one for one in wanted if not is_mirrored_experiment(one)]
    items = call.store.get_many([experiment_key(one) for one in own]) if own else []
    found = {
        one: read_record(item, ExperimentRecord, call.objects).record
        for one, item in zip(own, items, strict=True)
        if item is not None
    }
    for one in wanted:
        mirrored = call.mirror.find_experiment(one) if is_mirrored_experiment(one) else None
        if mirrored is not None:
            found[one] = mirrored
    return list(found.values())


def _read_runs(call: TrackingCall, experiment: ExperimentRecord, after: str | None = None) -> Iterator[_Found]:
    """Yield the runs of an experiment, the newest first; ``after`` is the sort key before the first."""
    if experiment.is_mirrored:
        for run in call.mirror.list_runs(experiment.experiment_id):
            yield run_key(run.experiment_id, run.run_id, run.started_ms).sort, run, run.stage
        return
    partition = experiment_partition(experiment.experiment_id)
    for item in call.store.query(partition, "R#", after=after, table="tracking"):
        run = read_record(item, RunRecord, call.objects).record
        yield item["sk"], run, effective_stage(run, experiment)


def _matching(found: Iterable[_Found], view: ViewType, comparisons: Sequence[FilterComparison]) -> Iterator[_Found]:
    for one in found:
        if is_viewed(one[2], view) and all(_holds(one[1], comparison) for comparison in comparisons):
            yield one


def _respond(call: TrackingCall, found: Iterable[_Found], limit: int, token: Any) -> Mapping[str, Any]:
    """Return a page of runs: as many as were asked for and a response holds, and the token of the next page."""
    candidates = list(islice(found, limit + 1))
    datasets = read_datasets(call, (run for _, run, _ in candidates[:limit]))
    described = describe_entries(candidates[:limit], lambda one: describe_run_record(one[1], one[2], datasets))
    if len(described) == len(candidates):
        return {"runs": described}
    return {"runs": described, "next_page_token": write_token(token(candidates[len(described) - 1], len(described)))}


ENDPOINTS = (
    TrackingEndpoint(
        ("POST",),
        "runs/search",
        _search,
        {
            "experiment_ids": LIST,
            "filter": TEXT,
            "order_by": LIST,
            "max_results": INTEGER,
            "page_token": TEXT,
        },
    ),
)
