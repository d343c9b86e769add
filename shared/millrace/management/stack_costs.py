"""Costs of the stack: its fixed part, storage, and a month of every model."""

import itertools
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from millrace.captures.traffic import UNKNOWN_MODEL
from millrace.cost.arithmetic import (
    BillingMonth,
    Calculation,
    calculate_idle_model,
    calculate_stack,
    calculate_storage,
)
from millrace.cost.prices import DATE, REGION, US_EAST_1
from millrace.cost.statement import read_model_month
from millrace.documents import to_plain
from millrace.ports import ListedObject, ObjectStore
from millrace.registry.store import Registry
from millrace.settings import CostSettings

#: Models of one response, and objects that are listed for it.
_MODELS_A_PAGE = 50
_MAX_OBJECTS = 20_000
_RECORDS_KEPT = timedelta(days=400)
#: Folders of a model's objects in the bucket of data.
_FOLDERS = (
    "captures",
    "datasets",
    "feedback",
    "incoming",
    "monitoring",
    "prepared",
    "quarantine",
    "schemas",
    "score",
    "scored",
)
#: Parts of a bill that no record has.
_NOT_COUNTED = (
    "batch jobs that were cancelled, and what a job costs before it is planned",
    "storage of DynamoDB, logs, backups and old versions of objects",
    "calls of the management API, uploads, feedback and data that leaves AWS",
    "SnapStart and metrics by model, where a parameter turns them on; encryption with keys of your own",
    "free tiers, discounts and taxes",
)


def describe_costs(
    month: BillingMonth,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    settings: CostSettings,
    model: str | None = None,
    after: str = "",
) -> dict[str, Any]:
    """Return a month of the stack, or of one model, as JSON: every line with its price, and their sums.

    Of the stack, the first response has the fixed part and at most fifty models; ``next`` is the name after which the
    next response goes on, or None.
    """
    document: dict[str, Any] = {
        "month": month.name,
        "until": to_plain(month.until),
        "hours_seen": (month.until - month.begin) / timedelta(hours=1),
        "prices": {"region": REGION, "date": DATE, "usd": {name: price.usd for name, price in US_EAST_1.items()}},
        "not_counted": [*_NOT_COUNTED, *_gaps(month)],
        "next": None,
    }
    if model is not None:
        months = [read_model_month(model, month, registry=registry, settings=settings)]
        objects = itertools.chain(
            *(data_store.list(f"{folder}/{model}/") for folder in _FOLDERS), model_store.list(f"{model}/")
        )
        return document | {"models": to_plain(months), "storage": to_plain(_measure(objects))}
    names = [name for name in sorted([UNKNOWN_MODEL, *registry.list_names()]) if name > after]
    page = names[:_MODELS_A_PAGE]
    months = [read_model_month(name, month, registry=registry, settings=settings) for name in page]
    document |= {
        "models": to_plain([one for one in months if one.usd or not one.is_deleted]),
        "next": page[-1] if len(names) > len(page) else None,
    }
    if not after:
        document |= {
            "at_rest": to_plain(calculate_stack(settings, US_EAST_1)),
            "idle_model": to_plain(calculate_idle_model(US_EAST_1)),
            "storage": to_plain(_measure(itertools.chain(data_store.list(""), model_store.list("")))),
        }
    return document


def _gaps(month: BillingMonth) -> Iterable[str]:
    if month.begin < month.now - _RECORDS_KEPT:
        yield f"requests before {month.now - _RECORDS_KEPT:%Y-%m-%d}: their records are not kept longer"


def _measure(objects: Iterable[ListedObject]) -> Calculation:
    sizes = [listed.size for listed in itertools.islice(objects, _MAX_OBJECTS + 1)]
    return calculate_storage(sum(sizes), len(sizes), US_EAST_1, is_complete=len(sizes) <= _MAX_OBJECTS)
