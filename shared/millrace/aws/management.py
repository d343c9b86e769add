"""The routes of the management API on API Gateway's REST API."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver

from millrace.api_requests import ApiRequest
from millrace.aws.clients import event_publisher, monitoring_pipeline, object_store, registry, schedules, task_callback
from millrace.aws.rest_api import rest_api
from millrace.management.calls import ApiRoute, Call
from millrace.settings import CostSettings, MonitoringStartSettings, ScheduleSettings, StoreSettings, load_settings


def management_api(routes: Iterable[ApiRoute]) -> APIGatewayRestResolver:
    """Return a resolver of ``routes`` that returns every error by its class."""
    app = rest_api()
    for route in routes:
        app.route(route.path, method=route.method)(_handler(route, app))
    return app


def _handler(route: ApiRoute, app: APIGatewayRestResolver) -> Callable[..., tuple[dict[str, Any], int]]:
    def handle(**parameters: str) -> tuple[dict[str, Any], int]:
        return route.respond(_make_call(app.current_event.raw_event), parameters), route.status

    return handle


def _make_call(event: dict[str, Any]) -> Call:
    settings = load_settings(StoreSettings)
    return Call(
        ApiRequest(event),
        registry=registry(),
        data_store=object_store(settings.data_bucket),
        model_store=object_store(settings.models_bucket),
        now=datetime.now(UTC),
        callback=task_callback,
        schedules=lambda: schedules(load_settings(ScheduleSettings)),
        monitoring=lambda: monitoring_pipeline(load_settings(MonitoringStartSettings).monitoring_pipeline_arn),
        publisher=event_publisher,
        costs=load_settings(CostSettings),
    )
