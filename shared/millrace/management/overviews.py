"""Overviews: documents with all that a page about every model, or about one, shows."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from millrace.captures.activity import ModelActivity, list_activity
from millrace.captures.traffic import TrafficHour, read_traffic
from millrace.documents import to_plain
from millrace.errors import ArtifactNotFoundError
from millrace.layout import monitoring_key
from millrace.monitoring.alerts import describe_actions
from millrace.monitoring.job_series import load_job_report
from millrace.monitoring.report import MonitoringReport
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.promotion import find_rollback_target
from millrace.registry.queries import PageRequest, list_models, list_runs, list_versions
from millrace.registry.store import Registry
from millrace.releases.control import describe_releases

#: Models of one response: each takes a query of its traffic.
MODELS_OF_AN_OVERVIEW = 50
_DAYS = 7
_RUNS, _VERSIONS, _ENTRIES = 10, 20, 100


def describe_overview(registry: Registry, request: PageRequest, now: datetime) -> dict[str, Any]:
    """Return ``models`` by name, each with its last run, its ``requests`` and ``errors`` of seven days, and its health.

    The days are those of UTC, the last of them today. ``champion_since`` is the time at which the champion became it.
    ``open_incidents`` is null before the first monitoring run, and of runs of earlier releases.
    """
    page = list_models(registry, request)
    activities = {one.model: one for one in list_activity(registry.store)}
    models = [
        one
        | {"champion_since": _find_begin(one, registry)}
        | _describe_traffic(one["model"], registry, now)
        | _describe_health(activities.get(one["model"]))
        for one in page["models"]
    ]
    return {"models": models, "next": page["next"]}


def _find_begin(described: Mapping[str, Any], registry: Registry) -> str | None:
    """Return the time at which a model's champion became it; None without a champion."""
    if described["champion_since"] or CHAMPION not in described["aliases"]:
        return described["champion_since"]  # type: ignore[no-any-return]  # a document's
    moves = registry.list_alias_moves(described["model"], CHAMPION, limit=1)
    return to_plain(moves[0].occurred_at) if moves else None


def _describe_traffic(model: str, registry: Registry, now: datetime) -> Mapping[str, list[int]]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    begin = today - timedelta(days=_DAYS - 1)
    requests, errors = [0] * _DAYS, [0] * _DAYS
    for hour in read_traffic(registry.store, model, begin, now):
        day = (hour.hour - begin).days
        requests[day] += hour.total.requests
        errors[day] += hour.total.errors
    return {"requests": requests, "errors": errors}


def _describe_health(activity: ModelActivity | None) -> Mapping[str, Any]:
    if activity is None:
        return {"monitored_at": None, "open_incidents": None, "not_monitored": ""}
    return {
        "monitored_at": to_plain(activity.monitored_at),
        "open_incidents": activity.open_incidents,
        "not_monitored": activity.idle,
    }


def describe_model(model: str, registry: Registry, data_store: ObjectStore, now: datetime) -> dict[str, Any]:
    """Return what a page about one model shows: state, versions, champions, releases, runs, ledger, report, traffic.

    ``rollback_to`` is the version that a rollback goes back to. Raises ``ModelNotFoundError``.
    """
    state, moves = registry.get_state(model), registry.list_alias_moves(model, CHAMPION)
    hours = read_traffic(registry.store, model, now - timedelta(days=_DAYS), now)
    return {
        "model": model,
        "state": to_plain(state),
        "health": _describe_health(_find_activity(model, registry)),
        "versions": list_versions(model, registry, PageRequest(limit=_VERSIONS))["versions"],
        "moves": to_plain(moves),
        "rollback_to": find_rollback_target(state, moves, registry),
        **describe_releases(model, registry),
        "runs": list_runs(model, registry, PageRequest(limit=_RUNS))["runs"],
        "entries": to_plain(registry.list_ledger(model, _ENTRIES)),
        "report": describe_report(model, registry, data_store)["report"],
        "hours": [_describe_hour(hour) for hour in hours],
    }


def _find_activity(model: str, registry: Registry) -> ModelActivity | None:
    return next((one for one in list_activity(registry.store) if one.model == model), None)


def _describe_hour(hour: TrafficHour) -> dict[str, Any]:
    total = hour.total
    return {
        "hour": to_plain(hour.hour),
        "requests": total.requests,
        "errors": total.errors,
        "refused": total.refused,
        "rows": total.rows,
        "p50_ms": total.latency_quantile(0.5),
        "p99_ms": total.latency_quantile(0.99),
        "versions": {str(version): counts.requests for version, counts in hour.versions.items()},
    }


def describe_report(model: str, registry: Registry, data_store: ObjectStore) -> dict[str, Any]:
    """Return the latest reports on requests and on captured batch jobs; null before the first.

    A report holds the actions up to the time it was made; open incidents have those up to now.
    """
    of_jobs = load_job_report(model, data_store)
    rest = {"page": monitoring_key(model, "reports/latest.html"), "batch": of_jobs and to_plain(of_jobs)}
    try:
        report = MonitoringReport.read(data_store.get(monitoring_key(model, "reports/latest.json")))
    except ArtifactNotFoundError:
        return {"model": model, "report": None, **rest}
    incidents = [
        replace(one, actions=describe_actions(model, one.event, one.incident_id, one.requests, registry))
        if one.is_open
        else one
        for one in report.incidents
    ]
    return {"model": model, "report": to_plain(replace(report, incidents=tuple(incidents))), **rest}
