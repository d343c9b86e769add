"""`millrace why`: explain a model's history by causes, runs and outcomes, from its ledger, runs and incidents."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from millrace.causes import CAUSES
from rich.text import Text

from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import format_timestamp, out, say
from millrace_cli.timeline import TimelineEntry, build_timeline


@uses_stack
def why(
    session: StackSession,
    model: ModelName,
    *,
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="Show this many events, newest first.")] = 10,
) -> None:
    """Explain a model's history by causes, runs and outcomes."""
    with session.api() as api:
        entries = api.get(f"/models/{model}/ledger")["entries"]
        runs = api.get(f"/models/{model}/runs")["runs"]
        report = api.get(f"/models/{model}/monitoring")["report"]
    incidents = [{**incident, "model": model} for incident in report["incidents"]] if report else []
    timeline = build_timeline(entries, runs, incidents)[:last]
    if session.as_json:
        out.print_json(json.dumps([asdict(entry) for entry in timeline]))
        return
    if not timeline:
        say(f"{model} has no history")
    for entry in timeline:
        out.print(timeline_text(entry), soft_wrap=True)


def timeline_text(entry: TimelineEntry) -> Text:
    """Return an entry as lines: the event, then its consequences, indented."""
    text = Text.assemble(
        (format_timestamp(entry.occurred_at), "dim"),
        "  ",
        (entry.kind.replace("_", " "), "yellow" if entry.kind in CAUSES and CAUSES[entry.kind].is_finding else "bold"),
        f"  {entry.happened}",
        (f"  by {entry.actor}", "dim"),
    )
    for consequence in entry.consequences:
        text.append(f"\n  -> {consequence}")
    return text
