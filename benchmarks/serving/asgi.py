"""Asking an ASGI application without a socket: what uvicorn would hand over, handed over."""

import asyncio
from http import HTTPStatus
from typing import Any

import worker

#: What has been started; a loop alone would let it be collected.
RUNNING: list[Any] = []


def asker(application: Any, path: str) -> worker.Ask:
    """Return the application as a function of a body; it has to answer 200."""
    loop = asyncio.new_event_loop()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 5_000),
    }

    async def answer(body: bytes) -> str:
        sent: list[dict[str, Any]] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()  # a client that stays
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        length = (b"content-length", str(len(body)).encode())
        await application({**scope, "headers": [*scope["headers"], length]}, receive, send)
        reply = b"".join(message.get("body", b"") for message in sent)
        assert sent[0]["status"] == HTTPStatus.OK, reply
        return reply.decode()

    async def start_up() -> None:
        """Run the application's start, as a server does before it listens."""
        arrived = asyncio.Queue[dict[str, Any]]()
        started = asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            assert message["type"] == "lifespan.startup.complete", message
            started.set()

        arrived.put_nowait({"type": "lifespan.startup"})
        RUNNING.append(
            asyncio.ensure_future(application({"type": "lifespan", "asgi": scope["asgi"]}, arrived.get, send))
        )
        await started.wait()

    loop.run_until_complete(start_up())
    return lambda body: loop.run_until_complete(answer(body.encode()))
