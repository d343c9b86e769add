"""Serving health: errors of ours, latency, cold starts, refused requests."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from millrace.monitoring.findings import Finding, Status, too_few
from millrace.monitoring.performance import proportion
from millrace.ports import ServingCounts
from millrace.spec.monitoring import ServingWatch, StalenessWatch

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
#: Requests that must have been due before silence means something: by chance there are none once in e^20 such times.
EXPECTED_REQUESTS = 20.0


def find_staleness(
    watch: StalenessWatch,
    now: datetime,
    *,
    trained_at: datetime | None,
    newest_data_at: datetime | None,
    last_row_at: datetime | None,
    requests_per_hour: float,
) -> list[Finding]:
    """Judge ages and silence.

    Parameters
    ----------
    trained_at : datetime or None
        When the version that serves was registered.
    newest_data_at : datetime or None
        When the newest dataset that it learnt from was accepted.
    last_row_at : datetime or None
        When it was last asked; None when it never was.
    requests_per_hour : float
        How often it is asked as a rule, hours without traffic included.
    """
    return [
        *_age("model", "the model was trained", watch.max_model_age_days, trained_at, now),
        *_age("data", "the newest data was accepted", watch.max_data_age_days, newest_data_at, now),
        *_silence(watch.silent_hours, last_row_at, requests_per_hour, now),
    ]


def _age(subject: str, what: str, limit: float | None, since: datetime | None, now: datetime) -> list[Finding]:
    if limit is None or since is None:
        return []
    days = (now - since) / _DAY
    message = f"{what} {days:.0f} days ago; {limit:g} are allowed"
    status: Status = "breach" if days > limit else "ok"
    return [Finding("staleness", f"age of the {subject}", status, message, "days", days, limit)]


def _silence(limit: float | None, last: datetime | None, requests_per_hour: float, now: datetime) -> list[Finding]:
    if limit is None or last is None or requests_per_hour <= 0:
        return []
    hours = max(0.0, (now - last) / _HOUR)
    needed = max(limit, EXPECTED_REQUESTS / requests_per_hour)
    message = (
        f"the last request came {hours:.0f} hours ago, where {requests_per_hour:.3g} an hour are usual; "
        f"{needed:.0f} hours of silence would be no chance"
    )
    status: Status = "breach" if hours > needed else "ok"
    return [Finding("staleness", "traffic", status, message, "hours", hours, needed)]


#: Standard errors that a share must be above its limit: one in a thousand by chance.
_SURE = 3.1


def find_serving_faults(counts: ServingCounts | None, watch: ServingWatch) -> list[Finding]:
    """Judge how requests were served."""
    if counts is None:
        return [Finding("serving_health", "requests", "unknown", "there are no metrics of the window")]
    if counts.requests < watch.min_rows:
        return [too_few("serving_health", "requests", counts.requests, watch.min_rows, "requests")]
    return list(_judge(counts, watch))


def _judge(counts: ServingCounts, watch: ServingWatch) -> Iterator[Finding]:
    if counts.errors is not None:
        yield _share("errors", "ended in an error of ours", counts.errors, counts.requests, watch.threshold)
    if watch.max_refused_share is not None and counts.rows:
        yield _share(
            "refused rows", "were refused", counts.refused_rows, counts.rows, watch.max_refused_share, of="rows"
        )
    if watch.max_cold_start_share is not None and counts.cold_starts is not None:
        yield _share("cold starts", "started cold", counts.cold_starts, counts.requests, watch.max_cold_start_share)
    if watch.max_latency_ms is not None and counts.latency_ms is not None:
        late = counts.latency_ms > watch.max_latency_ms
        took = f"nineteen of twenty requests took up to {counts.latency_ms:,.0f} ms"
        yield Finding(
            verdict="serving_health",
            subject="latency",
            status="breach" if late else "ok",
            message=f"{took}; {watch.max_latency_ms:,g} are allowed",
            measure="ms",
            value=counts.latency_ms,
            threshold=watch.max_latency_ms,
            rows=counts.requests,
        )


def _share(subject: str, what: str, hits: int, total: int, limit: float, *, of: str = "requests") -> Finding:
    share = proportion(hits, total)
    breach = share.value - _SURE * share.error > limit
    message = f"{hits:,} of {total:,} {of} {what}: {share.value:.1%}, and {limit:.1%} are allowed"
    status: Status = "breach" if breach else "ok"
    return Finding("serving_health", subject, status, message, "share", share.value, limit, total)
