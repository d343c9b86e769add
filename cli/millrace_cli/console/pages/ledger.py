"""The page of a model's ledger: its entries, filtered, and what served at a time."""

import json

from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext
from millrace_cli.errors import ApiError


def show_ledger(context: PageContext, model: str) -> Response:
    """Return the newest entries of a ledger, those with the query's action and text, and the champion at its time."""
    at, fault, served = context.query.get("at"), "", None
    entries = context.get("models", model, "ledger")["entries"]
    if at:
        try:
            served = context.get("models", model, "history", at=at)
        except ApiError as error:
            fault = error.message
    action, text = context.query.get("action", ""), context.query.get("text", "")
    shown = [
        entry
        for entry in entries
        if (not action or entry["action"] == action) and text.lower() in json.dumps(entry, ensure_ascii=False).lower()
    ]
    return context.show(
        "ledger.html",
        model=model,
        entries=shown,
        total=len(entries),
        known_actions=sorted({entry["action"] for entry in entries}),
        action=action,
        text=text,
        at=at or "",
        served=served,
        fault=fault,
        details=lambda entry: json.dumps(entry["details"], indent=1, ensure_ascii=False),
    )
