"""`millrace why MODEL`: what happened, what it started, how that ended."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from millrace_cli.console import err, out
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, api_of
from millrace_cli.render import format_moment
from millrace_cli.story import Chapter, tell

_KIND_STYLES = {"drift": "yellow", "quality": "red", "staleness": "yellow", "latency": "yellow"}


def why(
    model: ModelName,
    *,
    last: Annotated[int, typer.Option("--last", min=1, help="How many chapters, newest first.")] = 10,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Tell why a model is what it is: every cause, the run it started or why it started none, and the outcome."""
    with api_of(profile, stack, region) as api:
        entries = api.get(f"/models/{model}/ledger")["entries"]
        runs = api.get(f"/models/{model}/runs")["runs"]
        report = api.get(f"/models/{model}/monitoring")["report"]
    incidents = [{**incident, "model": model} for incident in report["incidents"]] if report else []
    chapters = tell(entries, runs, incidents)[:last]
    if as_json:
        out.print_json(json.dumps([asdict(chapter) for chapter in chapters]))
        return
    if not chapters:
        err.print(Text(f"nothing has happened to {model} yet"))
    for chapter in chapters:
        out.print(chapter_text(chapter), soft_wrap=True)


def chapter_text(chapter: Chapter) -> Text:
    """Return a chapter as lines: what happened, and indented what came of it."""
    text = Text.assemble(
        (format_moment(chapter.occurred_at), "dim"),
        "  ",
        (chapter.kind.replace("_", " "), _KIND_STYLES.get(chapter.kind, "bold")),
        f"  {chapter.happened}",
        (f"  by {chapter.actor}", "dim"),
    )
    for consequence in chapter.consequences:
        text.append(f"\n  -> {consequence}")
    return text
