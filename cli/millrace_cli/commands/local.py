"""`millrace local`: start, inspect, exercise and stop the stack on this machine."""

import json
import re
import shlex
import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.local import stack
from millrace_cli.local.deploy import LocalBuild
from millrace_cli.local.kept import KeptState
from millrace_cli.local.ministack import log_path
from millrace_cli.local.process import list_processes
from millrace_cli.local.project import LocalState, Project, interruption, require_project, restart_command
from millrace_cli.options import ModelName
from millrace_cli.output import Steps, err, facts_table, out, say
from millrace_cli.target import Target, local_target

app = typer.Typer(no_args_is_help=True, help="Run the stack on this machine, without an AWS account.")

Port = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", help="Listen on this port of 127.0.0.1 (default: 4566 or the next free one).", min=1, max=65535
    ),
]

_FOLLOW_SECONDS = 1.0
#: Function that ends runs whose executions were stopped from outside.
_ENDS_RUNS = "RequestTrainingFunction"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


@app.command()
def up(
    port: Port = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep models and data between runs, and restore those kept before.")
    ] = False,
) -> None:
    """Start the local stack and deploy to it, or deploy changes to the running one."""
    project = require_project()
    result = start(project, port, keep=keep)
    if result.started and not keep and KeptState.under(project.local_dir).exists:
        say("an earlier stack kept its state; to restore it: millrace local down && millrace local up --keep")
    changes = "deployed" if result.deployed else "no changes"
    err.print(Text.assemble(("local stack is up", "green"), f" ({changes}, {result.seconds:.1f} s)"))
    out.print(Text(f"API: {local_target(result.state).api_url}"))


def start(project: Project, port: int | None, *, keep: bool = False) -> stack.UpResult:
    """Start the local stack and show its steps."""
    with Steps(err) as steps:
        result = stack.up(project, port, steps.begin, keep=keep)
    if result.started and keep:
        for model, run_id in end_interrupted_runs(local_target(result.state)):
            say(f"{model}: run {run_id} was interrupted when the stack stopped; upload its file again")
    return result


def end_interrupted_runs(target: Target) -> list[tuple[str, str]]:
    """End the runs that were active when a kept stack stopped; returns their models and ids.

    MiniStack does not continue executions, nor report that they ended, so that their runs would stay active for good.
    """
    with ApiClient.for_target(target) as api:
        models = api.get_all("/models", "models")["models"]
    active = [(str(model["model"]), str(model["active_run_id"])) for model in models if model.get("active_run_id")]
    if not active:
        return []
    function = target.client("cloudformation").describe_stack_resource(
        StackName=target.stack, LogicalResourceId=_ENDS_RUNS
    )["StackResourceDetail"]["PhysicalResourceId"]
    for model, run_id in active:
        detail = {
            "name": run_id,
            "status": "FAILED",
            "input": json.dumps({"model": model, "run_id": run_id}),
            "error": "the local stack was stopped",
        }
        event = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail}
        # The event bus accepts events of aws.states from Step Functions only, so the function gets it directly.
        target.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    return active


@app.command()
def down(
    delete: Annotated[bool, typer.Option("--delete", help="Delete the state that `local up --keep` kept.")] = False,
) -> None:
    """Stop the local stack and delete its data, unless it keeps them; builds and logs stay."""
    project = require_project()
    count = stack.down(project, delete=delete, report=say)
    say(f"stopped {count} process{'es' if count > 1 else ''}" if count else "the local stack was not running")
    if KeptState.under(project.local_dir).exists:
        say("its state is kept; restore it: millrace local up --keep; or delete it: millrace local down --delete")


@app.command()
def status() -> None:
    """Show the state of the local stack.

    Exit code 1: the local stack is not running.
    """
    project = require_project()
    state = stack.live_state(project)
    if state is None:
        say(f"the local stack is not running{interruption(project)}; start it: {restart_command(project)}")
        raise typer.Exit(1)
    is_current = state.deployed == LocalBuild(project).current_fingerprint()
    deployed = "up to date" if is_current else "out of date: millrace local up" if state.deployed else "nothing"
    rows = [
        ("endpoint", state.endpoint),
        ("stack", state.stack),
        ("deployed", deployed),
        ("state", "kept" if state.keeps else "deleted by: millrace local down"),
        ("processes", len(list_processes(project.local_dir))),
        ("log", str(log_path(project.local_dir))),
    ]
    if state.deployed:
        target = local_target(state)
        rows += [
            ("API", target.api_url),
            *([("KeyApiUrl", target.key_api_url)] if "KeyApiUrl" in target.outputs else []),
            *((name, value) for name, value in target.outputs.items() if not name.endswith("ApiUrl")),
        ]
    out.print(facts_table(rows, wraps=False))


@app.command("env")
def print_environment() -> None:
    """Print the settings with which other programs reach the local stack, as commands for a shell.

    Apply them in a shell of their own, as they replace your account's: eval "$(millrace local env)"
    """
    target = local_target(_require_running(require_project()))
    credentials = target.credentials.get_frozen_credentials()
    authority = str(target.authority)
    settings: dict[str, str] = {
        "API_URL": target.api_url,
        "AWS_ACCESS_KEY_ID": str(credentials.access_key),
        "AWS_SECRET_ACCESS_KEY": str(credentials.secret_key),
        "AWS_REGION": target.region,
        "AWS_DEFAULT_REGION": target.region,
        "AWS_ENDPOINT_URL": str(target.endpoint),
        "AWS_CA_BUNDLE": authority,
        # curl and Python's urllib read these.
        "CURL_CA_BUNDLE": authority,
        "SSL_CERT_FILE": authority,
        "DATA_BUCKET": target.output("DataBucketName"),
    }
    # Settings of an account would take precedence, or be refused as a token of another key.
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        typer.echo(f"unset {name}")
    for name, value in settings.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo('export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}"')


@app.command()
def logs(
    function: Annotated[
        str | None, typer.Argument(metavar="FUNCTION", help="Part of a function's name (default: every function).")
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", help="Show this many of the last lines.", min=1)
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new lines.")] = False,
    ministack: Annotated[bool, typer.Option("--ministack", help="Show MiniStack's own log.")] = False,
) -> None:
    """Show the logs of the functions."""
    project = require_project()
    if ministack:
        _show_ministack_log(project, lines)
        return
    state = _require_running(project, "or read the log of MiniStack: millrace local logs --ministack")
    show_logs(local_target(state), function, lines, follow)


@app.command()
def simulate(
    model: ModelName,
    *,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHIFT",
            help="Apply this shift: age:+2sd, age:*1.5, plan:basic=0.9, age:missing=0.3, label:flip=0.2. Repeatable.",
        ),
    ] = None,
    rate: Annotated[float, typer.Option(metavar="ROWS", min=0.1, max=500, help="Send this many rows per second.")] = 50,
    duration: Annotated[str, typer.Option("--for", metavar="TIME", help="Send for this long: 30s, 5m, 1h.")] = "1m",
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Report ground truth.")] = True,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed the sampling of rows and the random shifts.")] = 0,
) -> None:
    """Send traffic with known shifts to the local stack.

    The rows are sampled from the model's newest dataset, which has their ground truth.

    Exit code 1: no request was accepted.
    """
    # NumPy and Arrow load slowly, and few commands need them.
    import numpy as np  # noqa: PLC0415  # as above

    from millrace_cli import simulation  # noqa: PLC0415  # as above

    seconds = parse_duration(duration)
    shifts = [simulation.parse_shift(text) for text in shift or []]
    target = local_target(_require_running(require_project()))
    random = np.random.default_rng(seed)
    with ApiClient.for_target(target) as api:
        columns, label = simulation.read_newest_dataset(model, api, target)
        columns = simulation.apply_shifts(columns, shifts, label, random)
        traffic = simulation.Traffic(api, model, columns, label, labels, random)
        with err.status("sending") as progress:
            for sent in traffic.send(rate, seconds):
                progress.update(sent.summary(model))
    out.print(Text(sent.summary(model)))
    if not sent.rows:
        raise CliError(f"no request was accepted: {sent.last_error or 'none was sent'}")


def parse_duration(text: str) -> float:
    """Return a duration in seconds; raises ``RefusedError`` when the text is not a duration."""
    found = _DURATION.match(text)
    if not found or not float(found[1]):
        raise RefusedError(f"{text!r} is not a duration", "write 30s, 5m or 1h")
    return float(found[1]) * _SECONDS[found[2]]


def _require_running(project: Project, alternative: str = "") -> LocalState:
    state = stack.live_state(project)
    if state is None:
        raise CliError(
            f"the local stack is not running{interruption(project)}",
            "; ".join(filter(None, (f"start it: {restart_command(project)}", alternative))),
        )
    return state


@dataclass(frozen=True, slots=True)
class LogLine:
    """Log line of a function.

    Parameters
    ----------
    timestamp : int
        Milliseconds since 1970.
    function : str
        Name of the function in the template.
    """

    timestamp: int
    function: str
    message: str


class LogReader:
    """Reader of the log lines of a stack's functions; each call returns new lines.

    Parameters
    ----------
    logs, cloudformation : boto3 clients
        Clients for the stack's account.
    stack_name : str
        Name of the stack.
    """

    def __init__(self, logs: Any, cloudformation: Any, stack_name: str) -> None:
        self._logs = logs
        self._cloudformation = cloudformation
        self._stack_name = stack_name
        self._seen: dict[str, set[str]] = {}
        self._since: dict[str, int] = {}

    def read(self, name_part: str | None = None) -> list[LogLine]:
        """Return the new lines, by time, of the functions whose name contains ``name_part``, ignoring case.

        Raises ``RefusedError`` when there is no such function.
        """
        part, groups = (name_part or "").lower().replace("_", ""), self._groups()
        chosen = [(function, group) for function, group in groups if part in function.lower()]
        if groups and not chosen:
            names = ", ".join(sorted(function for function, _ in groups))
            raise RefusedError(f"no function's name contains {name_part!r}", f"name a part of one of {names}")
        lines = [line for function, group in chosen for line in self._new_lines(function, group)]
        return sorted(lines, key=lambda line: line.timestamp)

    def _groups(self) -> list[tuple[str, str]]:
        """Return each function's name in the template and its log group, which the template declares."""
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self._stack_name)
        return [
            (resource["LogicalResourceId"].removesuffix("LogGroup"), resource["PhysicalResourceId"])
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::Logs::LogGroup"
        ]

    def _new_lines(self, function: str, group: str) -> list[LogLine]:
        seen = self._seen.setdefault(group, set())
        lines: list[LogLine] = []
        try:
            pages = self._logs.get_paginator("filter_log_events").paginate(
                logGroupName=group, startTime=self._since.get(group, 0)
            )
            for page in pages:
                for event in page["events"]:
                    identity = f"{event.get('eventId')}{event['timestamp']}{event['message']}"
                    if identity not in seen:
                        seen.add(identity)
                        lines.append(LogLine(event["timestamp"], function, event["message"].rstrip("\n")))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise  # a function that never ran has no log group
        if lines:
            self._since[group] = max(line.timestamp for line in lines)
        return lines


def show_logs(target: Target, function: str | None, lines: int, follow: bool) -> None:
    """Print the functions' last log lines; with ``follow``, also new ones."""
    reader = LogReader(target.client("logs"), target.client("cloudformation"), target.stack)
    for line in reader.read(function)[-lines:]:
        _print_line(line)
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        for line in reader.read(function):
            _print_line(line)


def _print_line(line: LogLine) -> None:
    out.print(Text.assemble((f"{line.function}  ", "cyan"), line.message), soft_wrap=True)


def _show_ministack_log(project: Project, lines: int) -> None:
    try:
        text = log_path(project.local_dir).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CliError("MiniStack has no log", "start the stack: millrace local up") from error
    for line in text.splitlines()[-lines:]:
        out.print(Text(line), soft_wrap=True)
