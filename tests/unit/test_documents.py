import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from millrace.documents import Document, Record, dump, from_plain, parse_timestamp, to_plain
from millrace.errors import ArtifactIntegrityError

from tests.registry_builders import make_cause, make_run


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    at: datetime


class Part(Record, frozen=True, kw_only=True, eq=False):
    counts: npt.NDArray[np.int64]


class Example(Document, frozen=True, kw_only=True, eq=False):
    FORMAT_VERSION = 2

    name: str
    part: Part
    points: tuple[Point, ...] = ()
    facts: Mapping[str, Any] = {}
    share: float | None = None

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:
        return stored | {"name": stored["title"]} if version == 0 else stored


EXAMPLE = Example(
    name="é",
    part=Part(counts=np.array([1, 2])),
    points=(Point(1, datetime(2026, 5, 3, 14, 15, 0, 250, tzinfo=UTC)),),
    facts={"a": [1.5, None]},
)


def test_a_document_is_read_as_it_was_written():
    read = Example.read(EXAMPLE.write())
    assert read == EXAMPLE
    assert not read != EXAMPLE  # noqa: SIM202  # the operator is tested
    assert read.part.counts.dtype == np.int64
    assert read.points[0].at == EXAMPLE.points[0].at


def test_a_document_says_its_format():
    assert json.loads(EXAMPLE.write())["format_version"] == 2


def test_a_document_of_an_earlier_format_is_upgraded():
    assert Example.read('{"title": "old", "part": {"counts": [3]}}').name == "old"


def test_a_document_of_a_later_format_is_refused_with_the_remedy():
    with pytest.raises(ArtifactIntegrityError, match=r"format version 3.*deploy the release"):
        Example.read('{"format_version": 3, "name": "new", "part": {"counts": []}}')


@pytest.mark.parametrize(
    ("stored", "fault"),
    [
        (b"{", "JSON|unexpected|EOF"),
        (b"[]", "Example"),
        (b'{"format_version": 2, "part": {"counts": []}}', "name"),
        (b'{"format_version": 2, "name": 5, "part": {"counts": []}}', r"\$\.name"),
        (b'{"format_version": 2, "name": "a", "part": {}}', "counts"),
    ],
)
def test_a_broken_document_names_its_fault(stored, fault):
    with pytest.raises(ArtifactIntegrityError, match=fault):
        Example.read(stored)


def test_fields_of_later_releases_are_left_out():
    assert Example.read('{"format_version": 2, "name": "a", "part": {"counts": []}, "extra": 1}').name == "a"


def test_an_entity_becomes_json_with_timestamps_in_utc():
    document = to_plain(make_run(make_cause()))
    assert document["requested_at"] == "2026-05-03T14:15:00+00:00"
    assert document["sources"][0]["key"] == "incoming/churn/a.csv"
    assert document["finished_at"] is None
    assert from_plain(type(make_run(make_cause())), document) == make_run(make_cause())


def test_timestamps_of_other_zones_become_utc():
    east = timezone(timedelta(hours=5))
    assert to_plain(datetime(2026, 5, 3, 19, tzinfo=east)) == datetime(2026, 5, 3, 14, tzinfo=UTC).isoformat()


@pytest.mark.parametrize(("number", "plain"), [(np.float32(0.5), 0.5), (np.int64(3), 3), (True, True), (1.5, 1.5)])
def test_numbers_of_any_library_become_pythons(number, plain):
    assert to_plain(number) == plain
    assert type(to_plain(number)) is type(plain)


def test_numbers_that_are_not_finite_become_null():
    document = {"auc": float("nan"), "loss": [float("inf"), 1.0], "nested": {"x": np.float64("-inf")}}
    assert to_plain(document) == {"auc": None, "loss": [None, 1.0], "nested": {"x": None}}


def test_what_utf8_and_64_bits_cannot_hold_is_replaced():
    assert to_plain({"a\ud800": ["\udfff", 2**70]}) == {
        "a\N{REPLACEMENT CHARACTER}": ["\N{REPLACEMENT CHARACTER}", 2.0**70]
    }


@pytest.mark.parametrize("value", [b"bytes", object(), 1j])
def test_what_has_no_form_in_json_is_an_error(value):
    with pytest.raises(TypeError, match="no form in JSON"):
        dump({"value": value})


def test_a_timestamp_without_a_zone_is_utc():
    assert parse_timestamp("2026-05-03T14:15:00") == datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
    assert parse_timestamp("2026-05-03T19:15:00+05:00") == datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
