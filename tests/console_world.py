"""A stack in memory behind the console: the API's own routes over fakes, and the console in front of them."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import httpx
from millrace.api_requests import ApiRequest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.errors import MillraceError
from millrace.layout import evaluation_key, monitoring_item, monitoring_key, version_key
from millrace.management import change_routes, read_routes
from millrace.management.calls import Call
from millrace.ports import Update
from millrace_cli.api import ApiClient
from millrace_cli.console.app import ConsoleApp
from millrace_cli.console.guard import Guard
from werkzeug.test import Client

from tests.fakes.http_handler import connect
from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_people import MemoryCallback
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, NOW, make_dataset, make_trial
from tests.release_world import ReleaseWorld
from tests.unit.reports.documents import full_card

SAMPLES = Path(__file__).parent / "samples"
ROUTES = (*read_routes.ROUTES, *change_routes.ROUTES)
HOST = "127.0.0.1:8765"
Answer = Callable[[httpx.Request], httpx.Response]


#: Of the first run, the best first.
_TRIALS = ("02-hist_gradient_boosting", "01-baseline")
#: As the API compares two datasets.
DIFFERENCE = {
    "before": "cd" * 32,
    "after": "ab" * 32,
    "schema": {"kind": "compatible", "details": ["the column 'city' (category) is new, as feature"]},
    "volume": {"rows": [1200, 900], "columns": [3, 4], "quarantined_rows": [7, 0], "row_ratio": 0.75},
    "target": {"name": "churned", "shares": [{"value": "yes", "before": 0.2, "after": 0.3}]},
    "columns": [
        {"name": "age", "type": "integer", "psi": 0.31, "verdict": "large", "missing_share": [0.0, 0.1]}
        | {"mean": [41.0, 52.0], "shares": []},
        {"name": "<b>plan", "type": "category", "psi": None, "verdict": "unknown", "missing_share": [0.0, 0.0]}
        | {"mean": None, "shares": [{"value": "pro", "before": 0.25, "after": 0.5}]},
    ],
}


class ConsoleWorld(ReleaseWorld):
    """Versions 1, the champion, 2 and 3, with a report, traffic, cards and a run; ``answers`` override the API's."""

    def __init__(self, task: str = "binary", *, allows_actions: bool = False) -> None:
        super().__init__(signature=(SAMPLES / "f0571cb" / "version_signature.json").read_bytes())
        self.now = NOW + timedelta(days=2)
        self.monitoring, self.callback = MemoryMonitoring(), MemoryCallback()
        self.paths: list[str] = []
        self.uploads: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {}
        self.card = full_card(task)
        for version in (1, 2, 3):
            card = self.card | {"version": self.card["version"] | {"version": version}}
            self.models.put(version_key(MODEL, version, "card.json"), json.dumps(card).encode())
        evaluation = self.card["evaluation"]
        entries = [
            entry | {"trial_id": name, "rank": rank}
            for rank, (entry, name) in enumerate(zip(evaluation["leaderboard"], _TRIALS, strict=False), start=1)
        ]
        evaluation = evaluation | {"leaderboard": entries, "trial_id": entries[0]["trial_id"]}
        self.models.put(evaluation_key(MODEL, self.first_run_id), json.dumps(evaluation).encode())
        run = self.registry.get_run(MODEL, self.first_run_id)
        begins = [run.requested_at + timedelta(seconds=seconds) for seconds in (5, 9, 11, 24)]
        stages = dict(zip(("validating", "planning", "evaluating"), (begins[0], begins[1], begins[3]), strict=True))
        self.registry.update_run(MODEL, self.first_run_id, stages=stages)
        trials = [
            make_trial(name, self.first_run_id, started_at=begins[2], duration_seconds=seconds)
            for name, seconds in zip(_TRIALS, (12.0, 3.0), strict=True)
        ]
        self.registry.put_trials(trials)
        self.registry.put_dataset(make_dataset("ab" * 32))
        self.data.put(monitoring_key(MODEL, "reports/latest.json"), (SAMPLES / "console_report.json").read_bytes())
        self.note_incidents(1)
        for hour in range(3):
            at = self.now.replace(minute=0) - timedelta(hours=hour)
            counts = TrafficCounts(requests=100, statuses={"2xx": 97, "5xx": 3}, rows=120, latencies={4: 97})
            record_traffic(self.registry.store, TrafficHour(model=MODEL, hour=at, versions={1: counts}))
        self.answers[f"/models/{MODEL}/datasets/{'ab' * 32}"] = json.loads(
            (SAMPLES / "console_dataset.json").read_text(encoding="utf-8")
        )
        # Another function's route.
        self.answers[f"/models/{MODEL}/feedback"] = {"coverage": 0.5, "predictions": 100, "labelled": 50}
        self.guard = Guard(8765)
        self.target = SimpleNamespace(
            stack="millrace-test",
            region="eu-west-1",
            is_local=True,
            api_url="https://api.test/v1",
            output=lambda name: name,
            client=lambda service: SimpleNamespace(put_object=self._put, upload_file=self._put),
        )
        api = ApiClient(connect(self.answer))
        self.app = ConsoleApp(self.target, api, self.guard, allows_actions, lambda: self.now)
        self.browser = Client(self.app)
        self.open()

    def note_incidents(self, number: int) -> None:
        """Let the last monitoring run have left open incidents."""
        values = {"monitored_at": NOW.isoformat(), "open_incidents": number}
        self.registry.store.write(Update(monitoring_item(MODEL), values, conditions=()))

    def clear(self) -> None:
        """Let the stack be a new one, without a model."""
        self.registry, self.data, self.models = MemoryRegistry(), MemoryObjectStore("data"), MemoryObjectStore("models")
        self.answers = {}

    def open(self) -> None:
        """Open a session, as the address does that the command prints."""
        response = self.get(self.guard.make_address().removeprefix(f"http://{HOST}"))
        assert response.status_code == 303
        assert self.browser.get_cookie(self.guard.cookie, domain="127.0.0.1") is not None

    def close(self) -> None:
        """Forget the session."""
        self.browser.delete_cookie(self.guard.cookie, domain="127.0.0.1")

    def document(self, path: str) -> Any:
        """Return a document of the API."""
        return self.answer(httpx.Request("GET", f"https://api.test{path}")).json()

    def get(self, path: str, host: str = HOST, **headers: str) -> Any:
        self.paths.clear()
        return self.browser.get(path, base_url=f"http://{host}/", headers=headers)

    def post(self, path: str, form: Mapping[str, Any], *, origin: str = f"http://{HOST}", token: str | None = None):
        data = {**form, "token": self.guard.form_token if token is None else token}
        return self.browser.post(path, base_url=f"http://{HOST}/", data=data, headers={"Origin": origin})

    def _put(self, *_: Any, **arguments: Any) -> dict[str, str]:
        self.uploads.append(arguments)
        return {"VersionId": "v1"}

    # -- the API ---------------------------------------------------------------------------------------------------
    def answer(self, request: httpx.Request) -> httpx.Response:
        """Respond as the management API would, by its own routes."""
        path = unquote(request.url.path)
        self.paths.append(f"{request.method} {path}")
        for key in (path, f"{request.method} {path}"):
            if key in self.answers:
                found = self.answers[key]
                return found(request) if callable(found) else httpx.Response(200, json=found)
        for route in ROUTES:
            match = re.fullmatch(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", route.path), path)
            if match and route.method == request.method:
                return self._respond(route, match.groupdict(), request)
        return httpx.Response(404, json={"error_code": "ENDPOINT_NOT_FOUND", "message": f"no route for {path}"})

    def _respond(self, route: Any, parameters: Mapping[str, str], request: httpx.Request) -> httpx.Response:
        event = {
            "queryStringParameters": dict(request.url.params),
            "body": request.content.decode() or None,
            "requestContext": {"requestId": "r1", "identity": {"userArn": "arn:aws:iam::1:user/ann"}},
        }
        call = Call(
            ApiRequest(event),
            self.registry,
            self.data,
            self.models,
            self.now,
            callback=lambda: self.callback,
            schedules=lambda: self.schedules,
            monitoring=lambda: self.monitoring,
            publisher=MemoryEvents,
        )
        try:
            return httpx.Response(route.status, json=route.respond(call, parameters))
        except MillraceError as error:
            return httpx.Response(error.http_status, json=error.to_dict())
