"""MiniStack with what the local stack needs beside it; a program for MiniStack's own interpreter.

API Gateway names the API key of a request to the function behind it, MiniStack does not: here it does.

With ``--keep`` it saves its state every few seconds. MiniStack itself saves its state only when it ends regularly; so a
killed stack loses seconds of it. Objects of S3 are written when they are put. SIGUSR2 saves and ends.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any

from ministack import app
from ministack.core.persistence import save_state
from ministack.services import apigateway_v1

INTERVAL_SECONDS = 2.0
#: Share of the time that saving may take; a larger state is saved less often.
_MAX_SHARE = 0.1

#: Signal on which the state is saved a last time.
SAVE_AND_EXIT = signal.SIGUSR2

#: Held while files are written: a save at the end may begin during another one.
_files = threading.Lock()


def main(*arguments: str) -> None:
    """Run MiniStack; with ``--keep`` and a thread that saves its state."""
    apigateway_v1._build_lambda_event_v1 = _name_key(apigateway_v1._build_lambda_event_v1)
    if arguments == ("--keep",):
        signal.signal(SAVE_AND_EXIT, lambda *_: threading.Thread(target=_save_and_exit).start())
        threading.Thread(target=_save_repeatedly, daemon=True, name="save-state").start()
    app.main()


def _name_key(build: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(build)
    def build_event(*arguments: Any, caller_identity: Any = None, **options: Any) -> dict[str, Any]:
        event = build(*arguments, caller_identity=caller_identity, **options)
        headers = {name.lower(): value for name, value in event["headers"].items()}
        key = None if caller_identity else apigateway_v1._resolve_api_key(headers.get("x-api-key"))
        if key:
            event["requestContext"]["identity"] |= {"apiKey": key["value"], "apiKeyId": key["id"]}
        return event

    return build_event


def _save_repeatedly() -> None:
    # Before it is ready, MiniStack has not restored the last state, which must not be overwritten.
    while app._ready_scripts_state["status"] != "completed":
        time.sleep(INTERVAL_SECONDS / 4)
    pause = INTERVAL_SECONDS
    while True:
        time.sleep(pause)
        began = time.monotonic()
        _save(app._build_persistence_save_dict())
        pause = max(INTERVAL_SECONDS, (time.monotonic() - began) / _MAX_SHARE)


def _save_and_exit() -> None:
    # MiniStack's own end waits half a minute for its connections.
    try:
        if app._ready_scripts_state["status"] == "completed":
            _save(app._build_persistence_save_dict())
    finally:
        os._exit(0)


def _save(services: Mapping[str, Any]) -> None:
    """Save the state of services; one that changes during its copy is saved the next time."""
    with _files:
        for name, get_state in services.items():
            try:
                with _write_lock(name):
                    state = get_state()
            except RuntimeError:  # a dictionary changed its size
                continue
            if state is not None:
                save_state(name, state)


def _write_lock(name: str) -> AbstractContextManager[Any]:
    """Return the lock of DynamoDB's transactions, so that none is saved by half."""
    module = sys.modules.get("ministack.services.dynamodb") if name == "dynamodb" else None
    return getattr(module, "_lock", None) or nullcontext()


if __name__ == "__main__":
    # MiniStack reads the arguments of the process itself.
    keep, sys.argv = sys.argv[1:], sys.argv[:1]
    main(*keep)
