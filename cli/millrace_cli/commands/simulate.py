"""`millrace local simulate MODEL`: traffic with a known change in it, and the outcomes."""

import re
from typing import Annotated

import numpy as np
import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.local import stack
from millrace_cli.options import ModelName
from millrace_cli.project import require_project
from millrace_cli.simulation.rows import newest_rows
from millrace_cli.simulation.shifts import apply_shifts, parse_shift
from millrace_cli.simulation.traffic import Sent, Traffic
from millrace_cli.target import local_target

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


def simulate(
    model: ModelName,
    *,
    shift: Annotated[
        list[str] | None,
        typer.Option(help="A change: age:+2sd, age:*1.5, plan:basic=0.9, age:missing=0.3, label:flip=0.2. Repeatable."),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=500, help="Rows a second.")] = 50,
    duration: Annotated[str, typer.Option("--for", help="How long: 30s, 5m, 1h.")] = "1m",
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Report what became true.")] = True,
    seed: Annotated[int, typer.Option(help="Of the rows that are drawn and of what the shift leaves to chance.")] = 0,
) -> None:
    """Send traffic with a known shift to the local stack, drawn from the model's newest dataset.

    Exit code 1: nothing was answered.
    """
    seconds = read_duration(duration)
    shifts = [parse_shift(text) for text in shift or []]
    state = stack.live_state(require_project())
    if state is None:
        raise CliError("the local stack is not running", "start it: millrace local up")
    where = local_target(state)
    random = np.random.default_rng(seed)
    with ApiClient.for_target(where) as api:
        columns, target = newest_rows(model, api, where)
        columns = apply_shifts(columns, shifts, target, random)
        traffic = Traffic(api, model, columns, target, labels, random)
        with err.status("sending") as status:
            for sent in traffic.send(rate, seconds):
                status.update(sent_line(model, sent))
    out.print(Text(sent_line(model, sent)))
    if not sent.rows:
        raise CliError(f"nothing was answered: {sent.last_error or 'no request was sent'}")


def read_duration(text: str) -> float:
    """Return seconds; raises ``RefusedError`` when it is no duration."""
    found = _DURATION.match(text)
    if not found or not float(found[1]):
        raise RefusedError(f"{text!r} is no duration", "write 30s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def sent_line(model: str, sent: Sent) -> str:
    """Return what was sent so far, in one line."""
    versions = ", ".join(map(str, sorted(sent.versions))) or "no version"
    line = f"{model}: {sent.rows:,} rows answered by version {versions}, {sent.feedback:,} outcomes reported"
    if sent.rows and sent.feedback:
        line += f", {sent.right / sent.rows:.1%} predicted right"
    return f"{line}, {sent.refused:,} requests refused ({sent.last_error})" if sent.refused else line
