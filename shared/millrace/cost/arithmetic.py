"""Arithmetic of costs: quantities of what AWS bills, times list prices, each counted or a stated assumption.

Quantities come from records of traffic and runs (``counted``), or follow from them by the numbers of
:class:`Assumptions` (``assumed``). Nothing here reads a store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Self, TypeVar

from millrace.captures.traffic import TrafficCounts
from millrace.cost.prices import PriceList
from millrace.entities import Run, Trial
from millrace.settings import CostSettings

Source = Literal["counted", "assumed"]
HOURS_A_MONTH = 730
_GB = 1e9
_MB_PER_GB = 1_024


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Numbers that no record has; tests count or measure those that this code determines."""

    #: The line of a request in the log, with the 26 bytes that CloudWatch adds; its first captured row, and any other.
    log_bytes_a_request: int = 280
    log_bytes_a_row: int = 210
    log_bytes_a_further_row: int = 90
    #: CloudWatch Logs hands over lines one by one while they are a second apart, and at least so many at once above.
    forwards_an_hour: int = 3_600
    lines_a_forward: int = 6
    forward_gb_seconds: float = 0.03 * 0.125
    #: SQS is asked to send a message, and to hand out and delete ten.
    queue_requests_a_forward: float = 1.2
    #: Of each model: two in a batching window of five minutes.
    deliveries_an_hour: int = 24
    delivery_gb_seconds: float = 1.0 * 0.5
    delivery_writes: int = 1
    delivery_reads: int = 1
    delivery_item_writes: int = 1  # the record of the hour's traffic
    pointer_reads_an_hour: int = 720  # a read of the alias every five seconds, in one environment
    cold_start_seconds: float = 2.0
    #: A monitoring run of a model, in an hour with requests, with 1 GB; and the lists of one after a week of rest.
    monitoring_gb_seconds: float = 4.0
    monitoring_reads: int = 14
    monitoring_writes: int = 22
    monitoring_item_reads: int = 8
    monitoring_item_writes: int = 2
    monitoring_transitions: int = 9
    idle_runs: float = 730 / 168  # one a week
    idle_writes: int = 171
    #: The hourly check of the stack, with 256 MB, its start included; and what it reads of each model.
    check_gb_seconds: float = 2.0 * 0.25
    check_item_reads: int = 6
    check_item_reads_a_model: float = 0.08
    #: Metrics that the stack writes while there are requests: of captures, and of errors.
    metrics: int = 2
    #: Pollers of Lambda for a queue, and the polls of each a minute (long polling).
    queue_pollers: int = 5
    polls_a_minute: int = 3
    #: Calls of a training run beside its trials, and of each trial.
    run_writes: int = 53  # 23 of them are the export of the version
    trial_writes: int = 3
    run_item_writes: int = 64  # in a transaction each item takes two units
    trial_item_writes: int = 5


ASSUMED = Assumptions()


@dataclass(frozen=True, slots=True)
class CostLine:
    """One line of a calculation: ``usd`` is ``quantity`` times ``price_usd`` for ``per`` units."""

    name: str
    quantity: float
    unit: str
    price: str  # the name in the list of prices
    price_usd: float
    per: int
    usd: float
    source: Source
    note: str = ""


@dataclass(frozen=True, slots=True)
class Calculation:
    """Lines with their sum."""

    lines: tuple[CostLine, ...]
    usd: float

    @classmethod
    def of(cls, lines: Iterable[CostLine]) -> Self:
        """Return the lines that are not zero, with their sum."""
        kept = tuple(line for line in lines if line.quantity)
        return cls(kept, sum(line.usd for line in kept))


class _Lines:
    """Makes lines from a list of prices."""

    def __init__(self, prices: PriceList) -> None:
        self.prices = prices

    def counted(self, name: str, price: str, quantity: float, note: str = "") -> CostLine:
        return self._make(name, price, quantity, "counted", note)

    def assumed(self, name: str, price: str, quantity: float, note: str = "") -> CostLine:
        return self._make(name, price, quantity, "assumed", note)

    def _make(self, name: str, price: str, quantity: float, source: Source, note: str) -> CostLine:
        one = self.prices[price]
        return CostLine(name, quantity, one.unit, price, one.usd, one.per, one.cost(quantity), source, note)


_UsageT = TypeVar("_UsageT")


def add_usage(zero: _UsageT, usages: Iterable[_UsageT]) -> _UsageT:
    """Return the sum of usages, field by field."""
    every = (zero, *usages)
    names = [field.name for field in fields(zero)]  # type: ignore[arg-type]  # every usage is a dataclass
    return type(zero)(*(sum(getattr(one, name) for one in every) for name in names))


@dataclass(frozen=True, slots=True)
class TrafficUsage:
    """Requests of a span of time, and what follows from them."""

    requests: int = 0
    captured_bytes: float = 0.0  # in the log
    milliseconds: float = 0.0  # of the handler, all requests together
    cold_starts: int = 0
    hours: int = 0  # with requests
    forwards: int = 0
    deliveries: int = 0

    @classmethod
    def of_hour(cls, counts: TrafficCounts, sampling_rate: float = 1.0, assume: Assumptions = ASSUMED) -> Self:
        """Return the usage of one hour; the sampling rate is that of captures."""
        if not counts.requests:
            return cls()
        batched = counts.requests // assume.lines_a_forward
        first, further = min(counts.rows, counts.requests), max(0, counts.rows - counts.requests)
        forwards = min(counts.requests, max(assume.forwards_an_hour, batched))
        return cls(
            requests=counts.requests,
            captured_bytes=sampling_rate * (first * assume.log_bytes_a_row + further * assume.log_bytes_a_further_row),
            milliseconds=counts.latency_us / 1_000,
            cold_starts=counts.cold_starts,
            hours=1,
            forwards=forwards,
            deliveries=min(forwards, assume.deliveries_an_hour),
        )


def calculate_traffic(
    usage: TrafficUsage, settings: CostSettings, prices: PriceList, assume: Assumptions = ASSUMED
) -> Calculation:
    """Calculate the cost of requests: serving them, their logs, and the delivery of captures and counts."""
    make, memory_gb = _Lines(prices), settings.predict_memory_size / _MB_PER_GB
    captured_bytes = usage.captured_bytes if settings.capture_predictions else 0.0
    log_bytes = usage.requests * assume.log_bytes_a_request
    return Calculation.of(
        [
            make.counted("API requests", "api_request", usage.requests),
            make.counted("predict: invocations", "lambda_request", usage.requests),
            make.counted("predict: duration", "lambda_gb_second", usage.milliseconds / 1_000 * memory_gb),
            make.assumed(
                "predict: cold starts",
                "lambda_gb_second",
                usage.cold_starts * assume.cold_start_seconds * memory_gb,
                f"{usage.cold_starts:,} of {assume.cold_start_seconds:g} s",
            ),
            make.assumed(
                "alias pointer",
                "dynamodb_read",
                usage.hours * assume.pointer_reads_an_hour,
                "every five seconds, one environment",
            ),
            make.assumed(
                "log of requests", "log_gb", log_bytes / _GB, f"{assume.log_bytes_a_request:,} bytes a request"
            ),
            make.assumed(
                "captured rows, in the log",
                "log_gb",
                captured_bytes / _GB,
                f"{assume.log_bytes_a_row:,} bytes a request, {assume.log_bytes_a_further_row:,} a further row",
            ),
            make.assumed("delivery: forwarding", "lambda_request", usage.forwards, "one by one up to one a second"),
            make.assumed("delivery: forwarding time", "lambda_gb_second", usage.forwards * assume.forward_gb_seconds),
            make.assumed("delivery: queue", "queue_request", usage.forwards * assume.queue_requests_a_forward),
            make.assumed("delivery: time", "lambda_gb_second", usage.deliveries * assume.delivery_gb_seconds),
            make.assumed("delivery: S3 writes", "s3_write", usage.deliveries * assume.delivery_writes),
            make.assumed("delivery: S3 reads", "s3_read", usage.deliveries * assume.delivery_reads),
            make.assumed(
                "delivery: counts", "dynamodb_write", usage.deliveries * assume.delivery_item_writes + usage.hours
            ),
            make.assumed("traces", "trace", usage.requests if settings.request_tracing == "Active" else 0),
        ]
    )


def calculate_monitoring(runs: float, prices: PriceList, assume: Assumptions = ASSUMED) -> Calculation:
    """Calculate the cost of monitoring runs of one model, each after an hour with requests."""
    return Calculation.of(_monitoring_lines(runs, assume.monitoring_writes, _Lines(prices), assume))


def _monitoring_lines(runs: float, writes: int, make: _Lines, assume: Assumptions) -> list[CostLine]:
    return [
        make.assumed("monitoring: time", "lambda_gb_second", runs * assume.monitoring_gb_seconds, f"{runs:,.3g} runs"),
        make.assumed("monitoring: invocations", "lambda_request", runs),
        make.assumed("monitoring: S3 writes and lists", "s3_write", runs * writes),
        make.assumed("monitoring: S3 reads", "s3_read", runs * assume.monitoring_reads),
        make.assumed("monitoring: registry, reads", "dynamodb_read", runs * assume.monitoring_item_reads),
        make.assumed("monitoring: registry, writes", "dynamodb_write", runs * assume.monitoring_item_writes),
        make.assumed("monitoring: transitions", "transition", runs * assume.monitoring_transitions),
    ]


def calculate_idle_model(prices: PriceList, assume: Assumptions = ASSUMED) -> Calculation:
    """Calculate a month of a model without requests: a run a week, and its share of the hourly check."""
    make = _Lines(prices)
    share = HOURS_A_MONTH * assume.check_item_reads_a_model
    check = make.assumed("hourly check: registry", "dynamodb_read", share)
    return Calculation.of([*_monitoring_lines(assume.idle_runs, assume.idle_writes, make, assume), check])


def calculate_stack(settings: CostSettings, prices: PriceList, assume: Assumptions = ASSUMED) -> Calculation:
    """Calculate a month of the stack's fixed part, without storage."""
    make, hours = _Lines(prices), HOURS_A_MONTH
    polls = settings.queues * assume.queue_pollers * assume.polls_a_minute * 60 * hours
    return Calculation.of(
        [
            make.counted("alarms", "alarm", settings.alarms),
            make.counted("dashboard", "dashboard", settings.dashboards),
            make.assumed("metrics", "metric", assume.metrics, "while there are requests"),
            make.assumed("hourly check: schedule", "schedule", hours),
            make.assumed("hourly check: invocations", "lambda_request", hours),
            make.assumed("hourly check: time", "lambda_gb_second", hours * assume.check_gb_seconds),
            make.assumed("hourly check: registry", "dynamodb_read", hours * assume.check_item_reads),
            make.assumed(
                "queue of captures: polls",
                "queue_request",
                polls,
                f"{assume.queue_pollers} pollers, {assume.polls_a_minute} polls a minute each",
            ),
        ]
    )


#: Functions of a run beside trials: request, validate, plan, evaluate, register, finish; and states of
#: ``statemachines/training.asl.json`` that a promoted run enters once, in each round, and that a rejected one enters.
_RUN_INVOCATIONS = 6
_REJECTED_INVOCATIONS = 3
_RUN_STATES = 8
_ROUND_STATES = 3
_REJECTED_STATES = 6


@dataclass(frozen=True, slots=True)
class TrainingUsage:
    """Training runs of a span of time."""

    runs: int = 0
    fits: int = 0  # of trials; one for each of a trial's rounds
    gb_seconds: float = 0.0
    invocations: int = 0
    transitions: int = 0

    @classmethod
    def of_run(cls, run: Run, trials: Sequence[Trial], ended_at: datetime, memory_mb: int) -> Self:
        """Return the usage of one run.

        One function works at a time from the run's start to ``ended_at``, and beside it those that train in the other
        lanes. Step Functions counts each state that is entered.
        """
        plan: Mapping[str, Any] = run.summary.get("search") or {}
        lanes, rounds = int(plan.get("lanes") or 1), max(1, len(plan.get("rounds") or ()))
        refits = sum(1 for trial in trials if trial.refit_of)  # a round of one lane, and of one more call to plan it
        seconds, fits = 0.0, 0
        for trial in trials:
            durations = [trial.duration_seconds, *(past.get("duration_seconds") for past in trial.earlier_rounds)]
            seconds += sum(duration or 0.0 for duration in durations)
            fits += sum(duration is not None for duration in durations)
        begun = run.started_at or run.requested_at
        whole = max(0.0, (ended_at - begun) / timedelta(seconds=1))
        busy = max(whole + seconds * (1 - 1 / lanes), seconds)
        is_trained = bool(plan)
        return cls(
            runs=1,
            fits=fits,
            gb_seconds=busy * int(plan.get("memory_mb") or memory_mb) / _MB_PER_GB,
            invocations=_RUN_INVOCATIONS + refits + fits if is_trained else _REJECTED_INVOCATIONS,
            transitions=_RUN_STATES + rounds * (_ROUND_STATES + lanes) + refits * (_ROUND_STATES + 1) + fits
            if is_trained
            else _REJECTED_STATES,
        )


def calculate_training(usage: TrainingUsage, prices: PriceList, assume: Assumptions = ASSUMED) -> Calculation:
    """Calculate the cost of training runs."""
    make = _Lines(prices)
    return Calculation.of(
        [
            make.counted("training: time", "lambda_gb_second", usage.gb_seconds, f"{usage.runs:,} runs"),
            make.counted("training: invocations", "lambda_request", usage.invocations),
            make.counted("training: transitions", "transition", usage.transitions, f"{usage.fits:,} fits"),
            make.assumed(
                "training: S3 writes", "s3_write", usage.runs * assume.run_writes + usage.fits * assume.trial_writes
            ),
            make.assumed(
                "training: registry",
                "dynamodb_write",
                usage.runs * assume.run_item_writes + usage.fits * assume.trial_item_writes,
            ),
        ]
    )


#: Functions of a batch job beside its parts: plan, finish; and states of ``statemachines/scoring.asl.json`` that a job
#: enters once, in each lane, and for each part.
_JOB_INVOCATIONS = 2
_JOB_STATES, _LANE_STATES, _PART_STATES = 4, 1, 1
#: Calls of S3 for each part: the plan, its line, its receipt and the bytes; the results and the receipt.
_PART_READS, _PART_WRITES = 8, 2


@dataclass(frozen=True, slots=True)
class BatchUsage:
    """A batch job."""

    parts: int = 0
    lanes: int = 0
    gb_seconds: float = 0.0

    @classmethod
    def of(cls, parts: int, lanes: int, seconds: float, memory_mb: int) -> Self:
        """Return the usage of a job whose parts took so many seconds together."""
        return cls(parts, lanes, seconds * memory_mb / _MB_PER_GB)


def calculate_batch(usage: BatchUsage, prices: PriceList) -> Calculation:
    """Calculate the cost of a batch job, without the storage of its results."""
    make = _Lines(prices)
    transitions = _JOB_STATES + usage.lanes * _LANE_STATES + usage.parts * _PART_STATES
    return Calculation.of(
        [
            make.counted("scoring: time", "lambda_gb_second", usage.gb_seconds, f"{usage.parts:,} parts"),
            make.counted("scoring: invocations", "lambda_request", _JOB_INVOCATIONS + usage.parts),
            make.counted("scoring: transitions", "transition", transitions),
            make.assumed("scoring: S3 reads", "s3_read", usage.parts * _PART_READS),
            make.assumed("scoring: S3 writes", "s3_write", usage.parts * _PART_WRITES),
        ]
    )


def calculate_storage(size: int, objects: int, prices: PriceList, *, is_complete: bool) -> Calculation:
    """Calculate a month of stored objects, of ``size`` bytes together."""
    what = f"{objects:,} objects, without old versions"
    note = what if is_complete else f"at least: {what}; the listing ended there"
    return Calculation.of([_Lines(prices).counted("objects in S3", "s3_gb_month", size / _GB, note)])


@dataclass(frozen=True, slots=True)
class BillingMonth:
    """A calendar month, UTC, as seen at ``now``."""

    begin: datetime
    end: datetime
    now: datetime

    @classmethod
    def of(cls, year: int, month: int, now: datetime) -> Self:
        """Return a month of a year."""
        begin = datetime(year, month, 1, tzinfo=UTC)
        return cls(begin, (begin + timedelta(days=32)).replace(day=1), now)

    @classmethod
    def at(cls, now: datetime) -> Self:
        """Return the month that ``now`` is in."""
        return cls.of(now.astimezone(UTC).year, now.astimezone(UTC).month, now)

    @property
    def name(self) -> str:
        """The month as ``2026-10``."""
        return f"{self.begin:%Y-%m}"

    @property
    def until(self) -> datetime:
        """The end of what can be counted."""
        return min(self.end, max(self.begin, self.now))

    def forecast(self, usd: float, since: datetime | None = None) -> float | None:
        """Return the cost of the whole month at the rate so far; None while less than a day was seen.

        ``since`` is the time from which there was anything to count, if it is within the month.
        """
        if self.until == self.end:
            return usd
        days = self.days_seen(since)
        return usd * (1 + (self.end - self.until) / timedelta(days=1) / days) if days >= 1.0 else None

    def days_seen(self, since: datetime | None = None) -> float:
        """Return the days of the month that are over, or those of them after ``since``."""
        return max(0.0, (self.until - max(self.begin, since or self.begin)) / timedelta(days=1))
