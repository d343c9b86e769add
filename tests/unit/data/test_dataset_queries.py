"""What the API says of a dataset's columns: values that name people or quote them are left out."""

import json

import pytest
from millrace.data import dataset_queries
from millrace.data.dataset_documents import ColumnProfile
from millrace.documents import from_plain, to_plain

SECRET = "0280-XJGEX"
COLUMN = {"name": "c", "nullable": False, "reason": "", "missing": 0, "missing_share": 0.0, "distinct": 9}
TOP_ONCE, TOP_OFTEN = ([{"value": SECRET, "count": count}] for count in (1, 40))
NUMBERS = {"minimum": 280.0, "maximum": 9_280.0, "mean": 1_280.0, "quantiles": {"0.5": 2_280.0}}


def summarise(**fields):
    column = from_plain(ColumnProfile, {"sensitive": False, "association": None, **COLUMN, **fields})
    return dataset_queries._summarise(column)


@pytest.mark.parametrize(
    "column",
    [
        {"type": "category", "role": "identifier", "top": TOP_OFTEN},
        {"type": "integer", "role": "identifier", **NUMBERS},
        {"type": "category", "role": "ignored", "top": TOP_ONCE},  # as good as an identifier
        {"type": "category", "role": "feature", "top": TOP_ONCE},
        {"type": "text", "role": "feature", "top": TOP_OFTEN},
        {"type": "category", "role": "feature", "top": TOP_OFTEN, "sensitive": True},
        {"type": "integer", "role": "feature", "sensitive": True, **NUMBERS},
    ],
)
def test_values_of_people_are_in_no_response(column):
    summary = summarise(**column)
    assert summary["hidden"] is True
    assert summary["distinct"] == 9
    assert "280" not in json.dumps(to_plain(summary))


@pytest.mark.parametrize(
    ("column", "field"),
    [
        ({"type": "category", "role": "feature", "top": TOP_OFTEN}, "top"),
        ({"type": "category", "role": "target", "top": TOP_ONCE}, "top"),
        ({"type": "integer", "role": "feature", **NUMBERS}, "quantiles"),
    ],
)
def test_others_are_shown(column, field):
    summary = summarise(**column)
    assert "hidden" not in summary
    assert summary[field]
