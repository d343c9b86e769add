"""`millrace incidents` and `millrace maturity`: what went wrong with a model, and where its operation stands."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import RefusedError
from millrace_cli.incident_protocol import find_incident, list_incidents, write_protocol
from millrace_cli.maturity import Maturity, rate_model
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import MISSING, format_timestamp, make_table, say

_USED = {True: "yes", False: "no", None: "not known"}


@uses_stack
def incidents(
    session: StackSession,
    model: ModelName,
    incident: Annotated[str | None, typer.Argument(metavar="INCIDENT", help="Id of one, or its beginning.")] = None,
    *,
    protocol: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the outage protocol of the incident to this file.")
    ] = None,
) -> None:
    """List a model's incidents, or write the protocol of one: timeline, effect, cause, what was done."""
    with session.api() as api:
        overview = api.get(f"/models/{model}/overview")
    if incident is None:
        found = list_incidents(overview)
        if protocol is not None:
            raise RefusedError("a protocol is of one incident", f"choose one: millrace incidents {model}")
        session.show({"model": model, "incidents": found}, lambda _: _draw_incidents(model, found))
        return
    chosen = find_incident(overview, incident)
    if chosen is None:
        raise RefusedError(f"{model} has no incident {incident}", f"list them: millrace incidents {model}")
    text = write_protocol(overview, chosen, datetime.now(UTC))
    if protocol is None:
        session.show({"incident": chosen, "protocol": text}, lambda _: Text(text))
        return
    protocol.write_text(text, encoding="utf-8")
    say(f"wrote the protocol: {protocol}; people complete the lines that say so")


def _draw_incidents(model: str, found: list[Any]) -> RenderableType:
    if not found:
        return Text(f"{model} has had no incident since its last champion")
    rows = [
        (
            one["incident_id"][:12],
            one["event"],
            "open" if one["resolved_at"] is None else "resolved",
            format_timestamp(one["since"]),
            format_timestamp(one["resolved_at"]) if one["resolved_at"] else MISSING,
            ", ".join(active["finding"]["subject"] for active in one["troubles"].values()),
        )
        for one in found
    ]
    return make_table(f"incidents of {model}", ("incident", "event", "status", "since", "resolved", "reasons"), rows)


@uses_stack
def maturity(session: StackSession, model: ModelName) -> None:
    """Show where a model's operation stands, from what the stack does, and the next step for each missing practice."""
    with session.api() as api:
        rated = read_maturity(api, model)
    session.show(asdict(rated), lambda _: _draw_maturity(rated))


def read_maturity(api: ApiClient, model: str) -> Maturity:
    """Return the maturity of a model, from three documents of the API."""
    overview = api.get(f"/models/{model}/overview")
    return rate_model(overview, api.get(f"/models/{model}/spec"), api.get(f"/models/{model}/feedback"))


def _draw_maturity(rated: Maturity) -> RenderableType:
    rows = [(one.level, one.name, _USED[one.is_used], one.evidence) for one in rated.practices]
    parts: list[RenderableType] = [
        Text.assemble(f"{rated.model}: ", (rated.level, "bold")),
        make_table("", ("level", "practice", "in use", "observed"), rows),
    ]
    if rated.next_steps:
        parts.append(Text("next steps:"))
        parts += [Text(f"  {one.name}: {one.next_step}") for one in rated.next_steps]
    return Group(*parts)
