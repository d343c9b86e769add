"""The demonstration's last act: the world changes, and the loop closes by itself."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.monitor import look
from millrace_cli.commands.simulate import sent_line
from millrace_cli.commands.why import chapter_text
from millrace_cli.errors import CliError
from millrace_cli.monitor_render import incident_lines
from millrace_cli.simulation.rows import newest_rows
from millrace_cli.simulation.shifts import apply_shifts, parse_shift
from millrace_cli.simulation.traffic import Traffic
from millrace_cli.story import tell
from millrace_cli.target import Target

MODEL = "churn"
SHIFTS = ("monthly_charge:+2sd", "satisfaction:-1sd")
RATE, SECONDS = 100.0, 4.0
#: An alert takes two windows out of three, so that one odd hour wakes nobody.
WINDOWS = 4
#: The upload's run has only just ended, and a day is long for a demonstration.
SPEC = {"target": "churned", "retraining": {"cooldown_hours": 0.001, "captured_rows": True}}
RUN_TIMEOUT_SECONDS = 300.0
_MONITORED = ("drift", "quality")


def close_loop(api: ApiClient, target: Target, out: Console) -> None:
    """Send shifted traffic with its outcomes until monitoring tells, then wait for the version that follows.

    Raises
    ------
    CliError
        When the shift goes unnoticed, or no new version serves.
    """
    api.put(f"/models/{MODEL}/spec", {"spec": SPEC, "reason": "so that the demonstration need not wait for a day"})
    before = _champion(api)
    random = np.random.default_rng(0)
    columns, label = newest_rows(MODEL, api, target)
    changed = apply_shifts(columns, [parse_shift(text) for text in SHIFTS], label, random)
    out.print(Text(f"traffic changes: {', '.join(SHIFTS)}"))
    traffic = Traffic(api, MODEL, changed, label, True, random)
    _send_until_told(api, traffic, target, out)
    _wait("a new version serves", lambda: _finished(api), target.poll_seconds)
    version = _champion(api)
    if version == before:
        raise CliError("the run that followed brought no new champion", f"see: millrace why {MODEL}")
    runs, entries = api.get(f"/models/{MODEL}/runs")["runs"], api.get(f"/models/{MODEL}/ledger")["entries"]
    for chapter in tell(entries, runs):
        if chapter.kind in _MONITORED:
            out.print(chapter_text(chapter), soft_wrap=True)
    unreported = Traffic(api, MODEL, changed, label, False, random)
    _wait(f"version {version} answers", lambda: _answering(unreported) == {version}, target.poll_seconds)
    *_, sent = traffic.send(RATE, SECONDS)
    out.print(Text(sent_line(MODEL, sent)))


def _send_until_told(api: ApiClient, traffic: Traffic, target: Target, out: Console) -> None:
    for _ in range(WINDOWS):
        *_, sent = traffic.send(RATE, SECONDS)
        out.print(Text(sent_line(MODEL, sent)))
        look(api, MODEL, target.poll_seconds)
        report = api.get(f"/models/{MODEL}/monitoring")["report"]
        if report and any(incident["resolved_at"] is None for incident in report["incidents"]):
            for line in incident_lines(report):
                out.print(Text(line), soft_wrap=True)
            return
    raise CliError("nobody noticed the shift", f"see: millrace monitor {MODEL}")


def _finished(api: ApiClient) -> bool:
    """Tell whether a run that monitoring asked for has ended."""
    asked = [run for run in api.get(f"/models/{MODEL}/runs")["runs"] if run["kind"] in _MONITORED]
    return bool(asked) and api.get(f"/models/{MODEL}")["active_run_id"] is None


def _answering(traffic: Traffic) -> set[int]:
    """Return the versions that answer now; environments follow the champion within seconds."""
    *_, sent = traffic.send(RATE, 1.0)
    return sent.versions


def _champion(api: ApiClient) -> Any:
    return api.get(f"/models/{MODEL}")["aliases"].get("champion")


def _wait(what: str, condition: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CliError(f"waited {RUN_TIMEOUT_SECONDS:.0f} s in vain: {what}", f"see: millrace why {MODEL}")
        time.sleep(pause)
