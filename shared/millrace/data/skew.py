"""Train/serve skew: whether what the model is asked about is distributed as a dataset that it is to learn from.

The dataset is compared with the rows captured most recently, and only as many as say enough.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from millrace.captures.window import ReadReport, WindowBuilder, iterate_rows
from millrace.data.compare import MIN_ROWS, History, find_skew
from millrace.data.findings import Finding, warning
from millrace.data.profile import profile_features
from millrace.ports import ObjectStore
from millrace.schema import TableSchema

#: How far back captured rows are looked for, and how many are enough.
WINDOW_DAYS = 7
MAX_ROWS = 10_000

_HOUR = timedelta(hours=1)


def profile_captures(
    store: ObjectStore, model: str, schema: TableSchema, now: datetime, *, since: datetime | None = None
) -> dict[str, Any]:
    """Describe the features of the rows captured last, as :func:`profile_features` does.

    Hours are read from the newest to the oldest until there are :data:`MAX_ROWS`, each prediction once.

    Parameters
    ----------
    store : ObjectStore
        The data bucket.
    model : str
        The model's name.
    schema : TableSchema
        The model's.
    now : datetime
        In UTC.
    since : datetime or None, default=None
        What was served before then belongs to another model of that name.

    Raises
    ------
    MillraceError
        When the bucket fails; objects that cannot be read are left out.
    """
    start = now - timedelta(days=WINDOW_DAYS)
    start = max(start, since) if since else start
    builder, report, seen = WindowBuilder(), ReadReport(), set[str]()
    end = now
    while end > start and len(seen) < MAX_ROWS:
        begin = max(start, (end - timedelta(microseconds=1)).replace(minute=0, second=0, microsecond=0))
        for row in iterate_rows(store, model, begin, end, report):
            if row.prediction_id in seen:
                continue
            seen.add(row.prediction_id)
            builder.add(row)
            if len(seen) == MAX_ROWS:
                break
        end = begin
    window = builder.build(model, start, now, report)
    return profile_features(schema, window.typed_features(schema), len(window))


def check_skew(profile: Mapping[str, Any], history: History, threshold: float | None) -> Iterator[Finding]:
    """Yield the features that are skewed, or that there is too little to tell; nothing unless the spec asks.

    Parameters
    ----------
    profile : mapping
        Of the dataset.
    history : History
        Has the profile of what was captured.
    threshold : float or None
        Population stability index past which a feature is said to be skewed; None when the spec does not ask.
    """
    if threshold is None:
        return
    rows = int(history.captured.get("rows", 0))
    if rows < MIN_ROWS:
        found = f"{rows:,} predictions were" if rows else "no prediction was"
        message = (
            f"skew could not be checked, and so passes: {found} captured in the last {WINDOW_DAYS} days, and "
            f"{MIN_ROWS} are needed"
        )
        yield warning("skew", message, None, rows)
        return
    yield from find_skew(profile, history.captured, threshold)
