"""The page of all models."""

from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext
from millrace_cli.errors import ApiError
from millrace_cli.output import Document

_NEVER_MONITORED = {
    "not_serving": "not serving",
    "disabled": "monitoring is off",
    "deleted": "deleted",
}


def show_models(context: PageContext) -> Response:
    """Return the page of a page of models, with their traffic, health, approvals and costs."""
    after = context.query.get("after")
    overview, costs = context.gather(
        lambda: context.get("overview", after=after), lambda: _read_costs(context, after=after)
    )
    usd = {one["model"]: one["usd"] for one in costs.get("models", ())}
    models = [
        describe_row(one) | {"usd": usd.get(one["model"]), "age": _describe_age(one, context.now)}
        for one in overview["models"]
    ]
    return context.show(
        "home.html",
        models=models,
        is_empty=not models and not after,
        after=after,
        next_page=overview["next"],
        costs=costs,
        open_incidents=sum(one["open_incidents"] or 0 for one in overview["models"]),
        approvals=sum(one["awaits_approval"] for one in models),
        requests=sum(sum(one["requests"]) for one in overview["models"]),
    )


def _describe_age(one: Document, now: datetime) -> str:
    """Return for how many days the champion has served, or that it began today."""
    if not one["champion_since"]:
        return ""
    days = (now.date() - datetime.fromisoformat(one["champion_since"]).astimezone(UTC).date()).days
    return "today" if days < 1 else f"{days} day" + ("s" if days > 1 else "")


def _read_costs(context: PageContext, after: str | None) -> Document:
    """Return what this month costs; nothing where the caller may not know."""
    try:
        return context.get("cost", after=after)
    except ApiError:
        return {}


def describe_row(one: Document) -> dict[str, Any]:
    """Return a model for the list: its champion, its health as a badge, whether it awaits a person."""
    run = one["last_run"] or {}
    return {
        "name": one["model"],
        "champion": one["aliases"].get("champion"),
        "since": one["champion_since"],
        "requests": one["requests"],
        "errors": sum(one["errors"]),
        "health": describe_health(one, has_champion="champion" in one["aliases"]),
        "run": run,
        "awaits_approval": run.get("stage") == "awaiting_approval",
        "release_id": one["release_id"],
    }


def describe_health(health: Document, *, has_champion: bool) -> tuple[str, str]:
    """Return the text and the tone of a model's health."""
    if not has_champion:
        return "no champion", "plain"
    if health["open_incidents"]:
        many = health["open_incidents"]
        return (f"{many} open incident" + ("s" if many > 1 else "")), "bad"
    if health["not_monitored"]:
        return _NEVER_MONITORED.get(health["not_monitored"], "not monitored"), "plain"
    if health["open_incidents"] is None:
        return "not monitored yet", "plain"
    return "ok", "good"
