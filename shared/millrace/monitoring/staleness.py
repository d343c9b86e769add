"""Staleness: a model or data that has grown old, and traffic that has stopped."""

from datetime import datetime, timedelta

from millrace.monitoring.findings import Finding, Status
from millrace.spec.monitoring import StalenessWatch

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
