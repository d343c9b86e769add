"""Drift step of the demonstration: shifted traffic, an incident, retraining, a new champion."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.monitor import incident_lines, run_monitoring
from millrace_cli.commands.why import build_timeline, timeline_text
from millrace_cli.errors import CliError
from millrace_cli.simulation import Traffic, apply_shifts, parse_shift, read_newest_dataset, traffic_line
from millrace_cli.target import Target

MODEL = "churn"
SHIFTS = ("monthly_charge:+2sd", "satisfaction:-1sd")
RATE, SECONDS = 100.0, 4.0
#: Monitoring runs to wait for an incident, which opens when two of three windows breach a threshold.
WINDOWS = 4
#: The first run has just finished, so the default cooldown of a day would delay the demonstration.
SPEC = {"target": "churned", "retraining": {"cooldown_hours": 0.001, "captured_rows": True}}
RUN_TIMEOUT_SECONDS = 300.0
_MONITORED = ("drift", "quality")


def retrain_on_drift(api: ApiClient, target: Target, out: Console) -> None:
    """Send shifted traffic with ground truth until an incident opens, then wait for the new champion.

    Raises
    ------
    CliError
        When no incident opens, or no new version serves.
    """
    api.put(f"/models/{MODEL}/spec", {"spec": SPEC, "reason": "shorten the cooldown for the demonstration"})
    before = _champion(api)
    random = np.random.default_rng(0)
    columns, label = read_newest_dataset(MODEL, api, target)
    changed = apply_shifts(columns, [parse_shift(text) for text in SHIFTS], label, random)
    out.print(Text(f"traffic shifts: {', '.join(SHIFTS)}"))
    traffic = Traffic(api, MODEL, changed, label, True, random)
    _send_until_incident(api, traffic, target, out)
    _wait("retraining", lambda: _is_retrained(api), target.poll_seconds)
    version = _champion(api)
    if version == before:
        raise CliError("retraining produced no new champion", f"see: millrace why {MODEL}")
    runs, entries = api.get(f"/models/{MODEL}/runs")["runs"], api.get(f"/models/{MODEL}/ledger")["entries"]
    for entry in build_timeline(entries, runs):
        if entry.kind in _MONITORED:
            out.print(timeline_text(entry), soft_wrap=True)
    unlabelled = Traffic(api, MODEL, changed, label, False, random)
    _wait(f"version {version} to serve", lambda: _serving_versions(unlabelled) == {version}, target.poll_seconds)
    *_, sent = traffic.send(RATE, SECONDS)
    out.print(Text(traffic_line(MODEL, sent)))


def _send_until_incident(api: ApiClient, traffic: Traffic, target: Target, out: Console) -> None:
    for _ in range(WINDOWS):
        *_, sent = traffic.send(RATE, SECONDS)
        out.print(Text(traffic_line(MODEL, sent)))
        run_monitoring(api, MODEL, target.poll_seconds)
        report = api.get(f"/models/{MODEL}/monitoring")["report"]
        if report and any(incident["resolved_at"] is None for incident in report["incidents"]):
            for line in incident_lines(report):
                out.print(Text(line), soft_wrap=True)
            return
    raise CliError("monitoring did not detect the shift", f"see: millrace monitor {MODEL}")


def _is_retrained(api: ApiClient) -> bool:
    requested = [run for run in api.get(f"/models/{MODEL}/runs")["runs"] if run["kind"] in _MONITORED]
    return bool(requested) and api.get(f"/models/{MODEL}")["active_run_id"] is None


def _serving_versions(traffic: Traffic) -> set[int]:
    """Return the versions that serve now; execution environments follow the champion within seconds."""
    *_, sent = traffic.send(RATE, 1.0)
    return sent.versions


def _champion(api: ApiClient) -> Any:
    return api.get(f"/models/{MODEL}")["aliases"].get("champion")


def _wait(goal: str, condition: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CliError(f"waited {RUN_TIMEOUT_SECONDS:.0f} seconds for {goal}", f"see: millrace why {MODEL}")
        time.sleep(pause)
