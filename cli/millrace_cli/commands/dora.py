"""`millrace dora`: show how often models are deployed, how fast, how often that fails, and how fast it is restored."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from millrace.documents import from_plain, to_plain
from millrace.dora import Change, measure_changes
from millrace.quantities import format_duration
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.options import StackSession, check_model, uses_stack
from millrace_cli.output import MISSING, Document, facts_table, format_timestamp, make_table

_HEADERS = ("model", "deployments", "a week", "lead time", "failed changes", "time to restore")


@uses_stack
def dora(
    session: StackSession,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Name of one model (default: all).", callback=check_model)
    ] = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="28d", help="Begin the window so long ago (12h, 28d), or at a day (2026-11-01)."),
    ] = None,
) -> None:
    """Show the DORA metrics of models, from their ledgers: deployments, lead time, failures, time to restore.

    Durations are medians. Definitions: docs/releases.md
    """
    query = {"since": since} if since else {}
    with session.api() as api:
        if model is None:
            session.show(_read_pages(api, query), _draw_stack)
        else:
            session.show(api.get(f"/models/{model}/dora", query), _draw_model)


def _read_pages(api: ApiClient, query: Mapping[str, str]) -> dict[str, Any]:
    """Return all pages as one, with the metrics of all models together."""
    document = page = api.get("/dora", query)
    if not page["next"]:
        return document
    models = list(page["models"])
    while page["next"]:
        page = api.get("/dora", {**query, "after": page["next"]})
        models += page["models"]
    since, until = (datetime.fromisoformat(document[name]) for name in ("since", "until"))
    changes = [from_plain(Change, change) for one in models for change in one["history"]]
    return {**document, "models": models, "all": to_plain(measure_changes(changes, since, until)), "next": None}


def _draw_stack(document: Document) -> RenderableType:
    active = [one for one in document["models"] if one["changes"]]
    rows = [_model_row(one) for one in active]
    idle = len(document["models"]) - len(active)
    parts: list[RenderableType] = [_draw_sentences(document["all"], _title("all models", document))]
    if rows:
        parts += [Text(), make_table("", _HEADERS, rows)]
    if idle:
        parts.append(Text(f"{idle:,} of {len(document['models']):,} models had no change", style="dim"))
    return Group(*parts, *_gaps(document))


def _draw_model(document: Document) -> RenderableType:
    (own,) = document["models"]
    parts: list[RenderableType] = [_draw_sentences(own, _title(own["model"], document))]
    if own["history"]:
        headers = ("at", "version", "change", "lead time", "failed", "restored after", "reason")
        parts += [Text(), make_table("", headers, [_change_row(change) for change in reversed(own["history"])])]
    return Group(*parts, *_gaps(document))


def _title(name: str, document: Document) -> str:
    return f"{name}, {format_timestamp(document['since'])} to {format_timestamp(document['until'])}"


def _draw_sentences(metrics: Document, title: str) -> RenderableType:
    sentences = [(name.replace("_", " "), sentence) for name, sentence in metrics["sentences"].items()]
    return facts_table(sentences, title=title)


def _model_row(one: Document) -> tuple[str, ...]:
    return (
        one["model"],
        f"{one['deployments']:,}",
        f"{one['deployments_a_week']:.2g}",
        _duration(one["lead_time"]["median"]),
        f"{one['failed']:,} of {one['changes']:,}",
        _duration(one["restore_time"]["median"]) + (f", {one['not_restored']} open" if one["not_restored"] else ""),
    )


def _change_row(change: Document) -> tuple[str, ...]:
    failure, lead = change["failure"] or {}, change["lead"] or {}
    times = [datetime.fromisoformat(failure[name]) for name in ("since", "restored_at") if failure.get(name)]
    took = (times[1] - times[0]).total_seconds() if len(times) > 1 else None
    caused = f" ({failure['guard']})" if failure.get("guard") else ""
    return (
        format_timestamp(change["at"]),
        str(change["version"]),
        change["kind"],
        _duration(lead.get("seconds")),
        f"{failure['kind'].replace('_', ' ')}{caused}" if failure else MISSING,
        "not yet" if failure and took is None else _duration(took),
        change["reason"],
    )


def _gaps(document: Document) -> list[Text]:
    """Return what was not read, as sentences."""
    return [
        Text(f"{one['model']}: only its entries since {format_timestamp(one['complete_since'])} were read", "yellow")
        for one in document["models"]
        if one["complete_since"]
    ]


def _duration(seconds: float | None) -> str:
    return MISSING if seconds is None else format_duration(seconds)
