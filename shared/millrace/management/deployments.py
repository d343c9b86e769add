"""DORA metrics of the stack's models, read from their ledgers; see :mod:`millrace.dora`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from millrace.documents import to_plain
from millrace.dora import Change, find_changes, measure_changes
from millrace.registry.queries import read_ledger
from millrace.registry.store import Registry

DEFAULT_WINDOW = timedelta(days=28)
LONGEST_WINDOW = timedelta(days=400)
#: Models of one response, and the newest entries of each that are read for it.
MODELS_A_PAGE = 25
MAX_ENTRIES = 1_000
#: Entries before the window say where its versions came from.
_BEFORE = timedelta(days=28)


def describe_dora(
    since: datetime, until: datetime, *, registry: Registry, model: str | None = None, after: str = ""
) -> dict[str, Any]:
    """Return the metrics of a window as JSON: of one model, or of all models, page by page.

    ``all`` has those of the models of the response together. ``next`` is the name after which the next response goes
    on, or None. Of each model the newest thousand entries are read: ``complete_since`` is when they begin, where they
    do not reach to the beginning.
    """
    names = [model] if model else registry.list_names(after or None, MODELS_A_PAGE)
    described, changes = [], list[Change]()
    for name in names:
        own, document = _describe_model(name, since, until, registry)
        changes += own
        described.append(document)
    return {
        "since": to_plain(since),
        "until": to_plain(until),
        "all": to_plain(measure_changes(changes, since, until)),
        "models": described,
        "next": names[-1] if model is None and len(names) == MODELS_A_PAGE else None,
    }


def _describe_model(
    model: str, since: datetime, until: datetime, registry: Registry
) -> tuple[list[Change], Mapping[str, Any]]:
    part = read_ledger(model, registry, since=since - _BEFORE, until=until, most=MAX_ENTRIES)
    changes = find_changes(part.entries, since, until)
    complete_since = None if part.is_complete else part.entries[-1].occurred_at
    return changes, {
        "model": model,
        **to_plain(measure_changes(changes, since, until)),
        "complete_since": to_plain(complete_since),
        "history": to_plain(changes),
    }
