"""A month of one model, calculated from its records; and its budget.

A month has what the use of the model costs: requests, monitoring, training and batch jobs, without storage.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from millrace.captures.traffic import read_traffic
from millrace.cost.arithmetic import (
    BillingMonth,
    Calculation,
    CostLine,
    TrafficUsage,
    TrainingUsage,
    add_usage,
    calculate_monitoring,
    calculate_traffic,
    calculate_training,
)
from millrace.cost.prices import US_EAST_1
from millrace.documents import from_plain
from millrace.entities import Run
from millrace.errors import FieldError, InvalidInputError
from millrace.layout import batch_item
from millrace.quantities import format_usd
from millrace.registry.store import Registry
from millrace.settings import CostSettings
from millrace.spec.operations import BudgetSpec

#: Newest runs and batch jobs of a month that are counted.
_MAX_RUNS, _MAX_JOBS = 200, 500
_NOTHING = b'{"lines": [], "usd": 0.0}'
_MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])\Z")


@dataclass(frozen=True, slots=True)
class ModelMonth:
    """A month of one model, up to now."""

    model: str
    month: str
    requests: int
    runs: int  # of training
    traffic: Calculation
    monitoring: Calculation
    training: Calculation
    scoring: Calculation  # of batch jobs that ended by themselves
    usd: float
    forecast_usd: float | None  # of the whole month at the rate so far; None while less than a day was seen
    days_seen: float  # on which the forecast is based
    is_complete: bool  # False when it had more runs or batch jobs than are counted
    is_deleted: bool
    budget_usd: float | None = None


def read_model_month(
    model: str, month: BillingMonth, *, registry: Registry, settings: CostSettings, sampling_rate: float | None = None
) -> ModelMonth:
    """Calculate a month of a model from its records of traffic and its training runs.

    Parameters
    ----------
    sampling_rate : float or None, default=None
        Of captures; None takes the spec's.
    """
    spec, state = registry.get_spec(model), registry.find_state(model)
    rate = spec.capture.sampling_rate if sampling_rate is None else sampling_rate
    hours = read_traffic(registry.store, model, month.begin, month.until) if month.until > month.begin else []
    usage = add_usage(TrafficUsage(), (TrafficUsage.of_hour(hour.total, rate) for hour in hours))
    runs = registry.list_runs(model, limit=_MAX_RUNS, begun=month.begin.strftime("%Y%m"))
    trained = add_usage(TrainingUsage(), _usages(model, runs, month.now, registry, settings))
    jobs = _read_jobs(model, month, registry)
    parts = (
        calculate_traffic(usage, settings, US_EAST_1),
        calculate_monitoring(usage.hours, US_EAST_1),
        calculate_training(trained, US_EAST_1),
        _add(jobs),
    )
    usd, created = sum(part.usd for part in parts), state.created_at if state else None
    return ModelMonth(
        model,
        month.name,
        usage.requests,
        trained.runs,
        *parts,
        usd=usd,
        forecast_usd=month.forecast(usd, created),
        days_seen=month.days_seen(created),
        is_complete=len(runs) < _MAX_RUNS and len(jobs) < _MAX_JOBS,
        is_deleted=state is None or state.deleted_at is not None,
        budget_usd=spec.budget.usd_a_month if spec.budget else None,
    )


def _read_jobs(model: str, month: BillingMonth, registry: Registry) -> list[Calculation]:
    """Return the costs of the newest batch jobs of a month, nothing for one that goes on or was cancelled."""
    first = batch_item(model, f"b-{month.begin:%Y%m}")
    found = registry.store.query(first.partition, first.sort, newest_first=True, limit=_MAX_JOBS, table=first.table)
    return [from_plain(Calculation, orjson.loads(item.get("cost", _NOTHING))) for item in found]


def _add(calculations: Iterable[Calculation]) -> Calculation:
    """Return the sum of calculations, line by line."""
    lines: dict[str, CostLine] = {}
    for line in (line for one in calculations for line in one.lines):
        known = lines.get(line.name)
        lines[line.name] = (
            replace(known, quantity=known.quantity + line.quantity, usd=known.usd + line.usd)
            if known
            else replace(line, note="")
        )
    return Calculation.of(lines.values())


def _usages(
    model: str, runs: Sequence[Run], now: datetime, registry: Registry, settings: CostSettings
) -> Iterable[TrainingUsage]:
    # A run that waits for an approval costs nothing: its work ended when its version was registered.
    created = {version.run_id: version.created_at for version in registry.list_versions(model)} if runs else {}
    for run in runs:
        ended = created.get(run.run_id) or run.finished_at or now
        yield TrainingUsage.of_run(run, registry.list_trials(model, run.run_id), ended, settings.training_memory_mb)


def read_month_name(text: str | None, now: datetime) -> BillingMonth:
    """Read a month such as ``2026-10``, by default the present one; raises ``InvalidInputError``."""
    if text is None:
        return BillingMonth.at(now)
    parsed = _MONTH.match(text)
    if parsed is None:
        raise InvalidInputError(f"{text!r} is no month; write {now:%Y-%m}", [FieldError("month", "is no month")])
    month = BillingMonth.of(int(parsed[1]), int(parsed[2]), now)
    if month.begin > now:
        raise InvalidInputError(f"{text} has not begun", [FieldError("month", "has not begun")])
    return month


def find_budget_refusal(
    model: str, budget: BudgetSpec | None, now: datetime, registry: Registry, settings: CostSettings
) -> str | None:
    """Return why the budget holds back a run that nobody requested by hand; None when it does not."""
    if budget is None or not budget.hold_retraining:
        return None
    month = BillingMonth.at(now)
    spent = read_model_month(model, month, registry=registry, settings=settings).usd
    if spent < budget.usd_a_month:
        return None
    return (
        f"{model} has cost {format_usd(spent)} USD in {month.name}, its budget is {format_usd(budget.usd_a_month)}, "
        f"and budget.hold_retraining holds back automatic runs until {month.end:%Y-%m-%d}"
    )
