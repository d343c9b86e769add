"""Serving health: errors of ours, latency, cold starts, refused requests."""

from collections.abc import Iterator

from millrace.monitoring.findings import Finding, Status, too_few
from millrace.monitoring.performance import proportion
from millrace.ports import ServingCounts
from millrace.spec.monitoring import ServingWatch

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
