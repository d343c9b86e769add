import json
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from millrace.registry.presentation import to_json, to_plain

from tests.registry_builders import make_cause, make_run


def test_an_entity_becomes_json_with_moments_in_utc():
    document = to_json(make_run(make_cause()))
    assert document["requested_at"] == "2026-05-03T14:15:00+00:00"
    assert document["sources"][0]["key"] == "incoming/churn/a.csv"
    assert document["finished_at"] is None
    assert json.loads(json.dumps(document)) == document


def test_moments_of_other_zones_become_utc():
    east = timezone(timedelta(hours=5))
    assert to_plain(datetime(2026, 5, 3, 19, tzinfo=east)) == datetime(2026, 5, 3, 14, tzinfo=UTC).isoformat()


@pytest.mark.parametrize(("number", "plain"), [(np.float32(0.5), 0.5), (np.int64(3), 3), (True, True), (1.5, 1.5)])
def test_numbers_of_any_library_become_pythons(number, plain):
    assert to_plain(number) == plain
    assert type(to_plain(number)) is type(plain)


def test_callers_never_see_a_number_that_is_none():
    document = {"auc": float("nan"), "loss": [float("inf"), 1.0], "nested": {"x": float("-inf")}}
    assert to_json(document) == {"auc": None, "loss": [None, 1.0], "nested": {"x": None}}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object()])
def test_what_has_no_form_in_json_is_an_error(value):
    with pytest.raises(TypeError, match="no form in JSON"):
        to_plain({"value": value})
