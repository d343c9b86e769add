"""Fake management API: canned responses behind the client of HTTP."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from millrace_cli import options
from millrace_cli.api import ApiClient

from tests.fakes.http_handler import connect

Answer = tuple[int, dict[str, Any]]


class FakeApi:
    """Responds to paths from lists: each call takes the next response, the last one stays."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self.answers = {path: list(listed) for path, listed in answers.items()}
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        listed = self.answers.get(request.url.path)
        if listed is None:
            return httpx.Response(404, json={"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"})
        status, body = listed.pop(0) if len(listed) > 1 else listed[0]
        return httpx.Response(status, json=body)

    def client(self, sleep: Callable[[float], None] = lambda _: None) -> ApiClient:
        return ApiClient(connect(self), sleep)


def answer_commands(monkeypatch: pytest.MonkeyPatch, api: FakeApi, target: Any = None) -> None:
    """Connect commands to ``api``, whatever stack they name."""

    class Client:
        @staticmethod
        def for_target(_target: Any) -> ApiClient:
            return api.client()

    monkeypatch.setattr(options, "ApiClient", Client)
    monkeypatch.setattr(options, "find_target", lambda *_: target)
