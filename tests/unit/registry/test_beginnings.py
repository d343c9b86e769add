"""The beginning of a span up to now, as people write it."""

from datetime import UTC, datetime, timedelta

import pytest
from millrace.errors import InvalidInputError
from millrace.registry.queries import read_begin

NOW = datetime(2026, 11, 29, tzinfo=UTC)
LIMITS = {"default": timedelta(days=28), "longest": timedelta(days=400)}


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        (None, NOW - timedelta(days=28)),
        ("7d", NOW - timedelta(days=7)),
        ("24h", NOW - timedelta(days=1)),
        ("5m", NOW - timedelta(minutes=5)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T14:00:00+02:00", datetime(2026, 11, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_span_begins_a_duration_ago_or_at_a_day_or_a_time(text, begin):
    assert read_begin(text, NOW, **LIMITS) == begin


@pytest.mark.parametrize(
    "text", ["0d", "4m", "401d", "99999d", "soon", "2026-12-01", "2020-01-01", "7 days", "-7d", ""]
)
def test_no_other_beginning_is_read(text):
    with pytest.raises(InvalidInputError) as caught:
        read_begin(text, NOW, **LIMITS)
    assert [field.field for field in caught.value.fields] == ["since"]
