"""How many of a model's predictions have an outcome by now."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np

from millrace.captures.joining import JoinedWindow, join_window
from millrace.captures.reading import hours, read_window
from millrace.captures.records import write_moment
from millrace.errors import FieldError, InvalidInputError
from millrace.layout import captures_prefix
from millrace.ports import ObjectStore

DEFAULT_HOURS = 7 * 24
MAX_HOURS = 31 * 24
#: Compressed bytes that are read while a caller waits.
MAX_BYTES = 16_000_000
#: Rows that are kept to count; of more, a sample is.
MAX_ROWS = 100_000


def read_hours(text: str | None) -> int:
    """Read how many hours to look back; raises ``InvalidInputError``."""
    if text is None:
        return DEFAULT_HOURS
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_HOURS):
        message = f"expects a whole number from 1 to {MAX_HOURS}"
        raise InvalidInputError(f"hours {message}", [FieldError("hours", message)])
    return int(text)


def describe_coverage(model: str, n_hours: int, store: ObjectStore, now: datetime) -> dict[str, Any]:
    """Count captured predictions of the last hours, and those that have an outcome.

    Returns
    -------
    dict
        ``predictions``, ``labelled`` and ``coverage`` (None without predictions) in all, by ``days`` and by
        ``versions``; ``feedback`` and ``captures`` say what was read and what was left. Counts are estimates where
        ``captures.kept_share`` is below 1.

    Raises
    ------
    InvalidInputError
        When so much was captured that it cannot be read while a caller waits.
    """
    start = now - timedelta(hours=n_hours)
    size = sum(found.size for hour in hours(start, now) for found in store.list(captures_prefix(model, hour)))
    if size > MAX_BYTES:
        raise InvalidInputError(
            f"{n_hours} hours of captures take {size} bytes, and {MAX_BYTES} can be read at once: ask for fewer hours",
            [FieldError("hours", "is too many")],
        )
    joined = join_window(store, read_window(store, model, start, now, max_rows=MAX_ROWS), now)
    window, report = joined.window, joined.report
    days = window.predicted_at.astype("datetime64[D]").astype(str)
    return {
        "model": model,
        "start": write_moment(start),
        "end": write_moment(now),
        **_count(joined, np.ones(len(window), dtype=np.bool_)),
        "days": [{"day": str(day), **_count(joined, days == day)} for day in np.unique(days)],
        "versions": [
            {"version": int(version), **_count(joined, window.versions == version)}
            for version in np.unique(window.versions)
        ],
        "feedback": {
            "records": report.records,
            "matched": report.matched,
            "superseded": report.superseded,
            "unmatched": report.unmatched,
            "observed_before_prediction": report.observed_before_prediction,
            "malformed": report.read.malformed_rows,
        },
        "captures": {
            "objects": window.report.objects,
            "unreadable_objects": len(window.report.unreadable_objects),
            "malformed": window.report.malformed_rows,
            "duplicates": window.report.duplicates,
            "kept_share": window.report.kept_share,
        },
    }


def _count(joined: JoinedWindow, among: Any) -> dict[str, Any]:
    predictions, labelled = int(among.sum()), int((joined.labelled & among).sum())
    share = joined.window.report.kept_share
    coverage = labelled / predictions if predictions else None
    return {"predictions": round(predictions / share), "labelled": round(labelled / share), "coverage": coverage}
