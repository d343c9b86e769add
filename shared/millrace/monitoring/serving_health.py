"""Serving health, staleness and costs: errors, latency, cold starts, refused rows; ages, silence; the budget."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from millrace.captures.traffic import UNKNOWN_VERSION, add_counts, read_traffic
from millrace.cost.statement import ModelMonth
from millrace.monitoring.quality import proportion
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.ports import RegistryStore
from millrace.quantities import format_number, format_usd
from millrace.spec import ModelSpec
from millrace.spec.monitoring import ServingHealthRule, StalenessRule

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
#: Requests that must have been due before silence is significant: by chance there are none once in e^20 such times.
_EXPECTED_REQUESTS = 20.0
#: Days of a month that must be over before its forecast is a finding: every weekday was among them.
_DAYS_OF_A_FORECAST = 7.0
#: Standard errors that a share must be above its limit: one in a thousand by chance.
_SURE = 3.1


def find_staleness(
    rule: StalenessRule,
    now: datetime,
    *,
    trained_at: datetime | None,
    newest_data_at: datetime | None,
    last_row_at: datetime | None,
    requests_per_hour: float,
) -> list[WindowFinding]:
    """Evaluate the ages of the version and its newest dataset, and silence by the usual rate of requests."""
    return [
        *_age("model", "the model was trained", rule.max_model_age_days, trained_at, now),
        *_age("data", "the newest data was accepted", rule.max_data_age_days, newest_data_at, now),
        *_silence(rule.silent_hours, last_row_at, requests_per_hour, now),
    ]


def _age(subject: str, what: str, limit: float | None, since: datetime | None, now: datetime) -> list[WindowFinding]:
    if limit is None or since is None:
        return []
    days = (now - since) / _DAY
    ago = f"{days:.0f} day{'' if round(days) == 1 else 's'} ago"
    message = f"{what} {ago}; the limit is {format_number(limit)} days"
    return [
        WindowFinding("staleness", f"age of the {subject}", breach_or_ok(days > limit), message, "days", days, limit)
    ]


def _silence(
    limit: float | None, last: datetime | None, requests_per_hour: float, now: datetime
) -> list[WindowFinding]:
    if limit is None or last is None or requests_per_hour <= 0:
        return []
    hours = max(0.0, (now - last) / _HOUR)
    needed = max(limit, _EXPECTED_REQUESTS / requests_per_hour)
    message = (
        f"the last request came {hours:.0f} hours ago; usual are {format_number(requests_per_hour)} requests an hour, "
        f"so {needed:.0f} hours of silence are significant"
    )
    return [WindowFinding("staleness", "traffic", breach_or_ok(hours > needed), message, "hours", hours, needed)]


def find_overspending(month: ModelMonth | None, spec: ModelSpec) -> list[WindowFinding]:
    """Evaluate the cost of the month; without a budget (None), both verdicts are ok, and end an incident."""
    rules, budget = spec.monitoring, spec.budget
    if month is None or budget is None:
        none = "the spec has no budget"
        return [WindowFinding("budget", "month", "ok", none), WindowFinding("budget_warning", "month", "ok", none)]
    share = month.usd / budget.usd_a_month
    limit = format_usd(budget.usd_a_month)
    spent = f"{month.month} has cost {format_usd(month.usd)} USD so far, {share:.0%} of the budget of {limit}"
    is_known = month.forecast_usd is not None and month.days_seen >= _DAYS_OF_A_FORECAST
    goes_over = is_known and (month.forecast_usd or 0.0) > budget.usd_a_month
    forecast = f"; at this rate it will cost {format_usd(month.forecast_usd or 0.0)}" if goes_over else ""
    held = "; automatic runs are held back until it ends" if budget.hold_retraining and share >= 1 else ""
    found = []
    if rules.budget.enabled:
        threshold = rules.budget.threshold
        found.append(
            WindowFinding("budget", "month", breach_or_ok(share >= threshold), spent + held, "share", share, threshold)
        )
    if rules.budget_warning.enabled:
        threshold = rules.budget_warning.threshold
        status = breach_or_ok(share >= threshold or goes_over)
        found.append(WindowFinding("budget_warning", "month", status, spent + forecast, "share", share, threshold))
    return found


@dataclass(frozen=True, slots=True)
class ServingCounts:
    """Counts of a version's requests; refused requests are the callers' errors, and are not among them."""

    requests: int
    errors: int = 0  # server errors (5xx), also those whose version is not known
    cold_starts: int = 0  # requests that waited for a new execution environment
    rows: int = 0  # requested rows, and those of them that were refused as invalid
    refused_rows: int = 0
    latency_ms: float | None = None  # 95th percentile


class RecordedServing:
    """Counts of served requests in the record of traffic."""

    def __init__(self, item_store: RegistryStore) -> None:
        self._item_store = item_store

    def read(self, model: str, version: int, start: datetime, end: datetime) -> ServingCounts | None:
        """Return the counts of the hours that ended from ``start`` to ``end``; None without requests.

        Each hour counts in one monitoring run, the first after it. By then its last requests are delivered, as long as
        monitoring does not begin within ``CaptureBatchingSeconds`` of the hour.
        """
        until = end.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if start >= until:
            return None
        hours = read_traffic(self._item_store, model, start, until)
        served, unknown = (
            add_counts(hour.versions[number] for hour in hours if number in hour.versions)
            for number in (version, UNKNOWN_VERSION)
        )
        errors = served.errors + unknown.errors
        requests = served.requests - served.refused + unknown.errors
        latency = served.latency_quantile(0.95)
        if not requests:
            return None
        return ServingCounts(requests, errors, served.cold_starts, served.rows, served.refused_rows, latency)


def find_serving_faults(counts: ServingCounts, rule: ServingHealthRule) -> list[WindowFinding]:
    """Evaluate the requests of the hours since the last run."""
    if counts.requests < rule.min_rows:
        return [too_few("serving_health", "requests", counts.requests, rule.min_rows, "requests")]
    return list(_evaluate(counts, rule))


def _evaluate(counts: ServingCounts, rule: ServingHealthRule) -> Iterator[WindowFinding]:
    yield _share("errors", "requests ended in a server error", counts.errors, counts.requests, rule.threshold)
    if rule.max_refused_share is not None and counts.rows:
        yield _share("refused rows", "rows were refused", counts.refused_rows, counts.rows, rule.max_refused_share)
    if rule.max_cold_start_share is not None:
        what = "requests waited for a cold start"
        yield _share("cold starts", what, counts.cold_starts, counts.requests, rule.max_cold_start_share)
    if rule.max_latency_ms is not None and counts.latency_ms is not None:
        yield WindowFinding(
            verdict="serving_health",
            subject="latency",
            status=breach_or_ok(counts.latency_ms > rule.max_latency_ms),
            message=f"the 95th percentile of latency is {counts.latency_ms:,.0f} ms; the limit is "
            f"{format_number(rule.max_latency_ms)} ms",
            measure="ms",
            value=counts.latency_ms,
            threshold=rule.max_latency_ms,
            rows=counts.requests,
        )


def _share(subject: str, what: str, hits: int, total: int, limit: float) -> WindowFinding:
    share = proportion(hits, total)
    status = breach_or_ok(share.value - _SURE * share.error > limit)
    message = f"{hits:,} of {total:,} {what}: {share.value:.1%}; the limit is {limit:.1%}"
    return WindowFinding("serving_health", subject, status, message, "share", share.value, limit, total)
