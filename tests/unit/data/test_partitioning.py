"""Splits by chance, by time and by entity: every row once, nothing leaks, the same again from the same data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.splits import Partition, partition
from millrace.data.typed_table import TypedTable
from millrace.hashing import hash_strings
from millrace.layout import SPLITS
from millrace.schema import Column, TableSchema
from millrace.spec.data import SplitSpec

BY_TIME = SplitSpec(by="time", column="at")
BY_GROUP = SplitSpec(by="group", column="who")
SCHEMA = TableSchema(
    (
        Column("at", "datetime", "ignored", nullable=True),
        Column("week", "integer"),
        Column("who", "category", "ignored", nullable=True),
        Column("x", "number"),
        Column("label", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
)


def make_table(timestamps, who=None) -> TypedTable:
    at = np.array([np.datetime64("NaT") if day is None else np.datetime64("2026-01-01") + day for day in timestamps])
    rows = len(at)
    columns = {
        "at": at.astype("datetime64[us]"),
        "week": np.array([np.nan if day is None else day // 7 for day in timestamps], dtype=np.float64),
        "who": np.array(who if who is not None else [""] * rows, dtype=object),
        "x": np.arange(rows, dtype=np.float64),
        "label": np.zeros(rows),
    }
    return TypedTable(SCHEMA, columns, rows)


def divide(table: TypedTable, split: SplitSpec, classes=None, seed: int = 0) -> Partition:
    ids = hash_strings(np.array([f"row {row}" for row in range(len(table))]))
    given_classes = np.zeros(len(table), np.int64) if classes is None else np.asarray(classes, np.int64)
    return partition(table, ids, given_classes, split, seed)


def sides_of(parts: Partition, rows: int) -> np.ndarray:
    side = np.full(rows, -1)
    for index, name in enumerate(SPLITS):
        assert (side[parts.splits[name]] == -1).all()
        assert np.all(np.diff(parts.splits[name]) > 0)
        side[parts.splits[name]] = index
    return side


timestamps = st.lists(st.one_of(st.none(), st.integers(0, 40)), min_size=3, max_size=120)
shares = st.sampled_from([(0.2, 0.2), (0.1, 0.3), (0.5, 0.25)])


class TestByTime:
    @given(timestamps, shares)
    def test_the_newest_rows_are_the_test_and_ties_are_never_split(self, days, sizes):
        table = make_table(days)
        split = BY_TIME.model_copy(update={"test_share": sizes[0], "validation_share": sizes[1]})
        parts = divide(table, split)
        known = {day for day in days if day is not None}
        if len(known) < 3:
            assert [finding.severity for finding in parts.findings] == ["error"]
            assert not any(len(rows) for rows in parts.splits.values())
            return
        side = sides_of(parts, len(days))
        seen = {name: {days[row] for row in parts.splits[name]} for name in SPLITS}
        assert all(seen.values())
        assert max(seen["train"]) < min(seen["validation"])
        assert max(seen["validation"]) < min(seen["test"])
        assert [day for day, index in zip(days, side, strict=True) if index == -1] == [None] * parts.without_time
        assert parts.without_time == days.count(None)

    def test_shares_are_met_as_nearly_as_ties_allow(self):
        parts = divide(make_table(list(range(100))), BY_TIME)
        assert [len(parts.splits[name]) for name in SPLITS] == [60, 20, 20]
        parts = divide(make_table([0] * 50 + [1] * 30 + [2] * 20), BY_TIME)
        assert [len(parts.splits[name]) for name in SPLITS] == [50, 30, 20]

    @given(timestamps, st.randoms(use_true_random=False))
    def test_order_and_seed_do_not_matter(self, days, random):
        order = list(range(len(days)))
        random.shuffle(order)
        straight = sides_of(divide(make_table(days), BY_TIME), len(days))
        shuffled = sides_of(divide(make_table([days[row] for row in order]), BY_TIME, seed=9), len(days))
        assert shuffled.tolist() == straight[order].tolist()

    def test_a_number_may_be_the_time(self):
        parts = divide(make_table(list(range(70))), SplitSpec(by="time", column="week"))
        assert parts.description["test_from"] == 8.0
        assert len(parts.splits["test"]) == 14

    def test_the_manifest_says_where_the_borders_are_and_that_they_move(self):
        description = divide(make_table(list(range(10))), BY_TIME).description
        assert description["test_from"] == "2026-01-09T00:00:00Z"
        assert description["validation_from"] == "2026-01-07T00:00:00Z"
        assert "moves with time" in description["holdout"]

    def test_rows_without_a_time_are_left_out_and_counted(self):
        parts = divide(make_table([*range(10), None, None]), BY_TIME)
        assert parts.without_time == 2
        (found,) = parts.findings
        assert (found.severity, found.count) == ("warning", 2)

    def test_a_class_that_a_side_lacks_is_an_error(self):
        classes = [0, 1] * 40 + [0] * 20
        (found,) = divide(make_table(list(range(100))), BY_TIME, classes).findings
        assert found.severity == "error"
        assert "test" in found.message

    @pytest.mark.parametrize(("column", "told"), [("who", "is category"), ("nowhere", "not in the model's schema")])
    def test_a_column_that_tells_no_time_is_an_error(self, column, told):
        (found,) = divide(make_table(list(range(10))), SplitSpec(by="time", column=column)).findings
        assert found.severity == "error"
        assert told in found.message


entities = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=150)


class TestByGroup:
    @given(entities, st.integers(0, 3))
    def test_no_entity_is_on_two_sides(self, rows, seed):
        who = [f"household {entity}" if entity else "" for entity, _ in rows]
        classes = [label for _, label in rows]
        parts = divide(make_table([0] * len(rows), who), BY_GROUP, classes, seed)
        side = sides_of(parts, len(rows))
        assert (side >= 0).all()
        for entity in set(who) - {""}:
            assert len({int(index) for index, name in zip(side, who, strict=True) if name == entity}) == 1
        present = {name: {classes[row] for row in parts.splits[name]} for name in SPLITS}
        complete = all(found == set(classes) for found in present.values())
        assert complete == (not parts.findings)

    def test_an_entity_keeps_its_side_when_its_next_rows_come(self):
        who = [f"household {row % 300}" for row in range(900)]
        few = sides_of(divide(make_table([0] * 600, who[:600]), BY_GROUP), 600)
        many = sides_of(divide(make_table([0] * 900, who), BY_GROUP), 900)
        assert many[:600].tolist() == few.tolist()

    def test_shares_are_those_of_the_entities(self):
        who = [f"household {row}" for row in range(5_000)]
        split = SplitSpec(by="group", column="who", test_share=0.1, validation_share=0.3)
        parts = divide(make_table([0] * 5_000, who), split)
        found = [len(parts.splits[name]) / 5_000 for name in ("test", "validation")]
        assert found == pytest.approx([0.1, 0.3], abs=0.02)

    def test_another_seed_is_another_split(self):
        who = [f"household {row}" for row in range(100)]
        table = make_table([0] * 100, who)
        assert (
            sides_of(divide(table, BY_GROUP), 100).tolist() != sides_of(divide(table, BY_GROUP, seed=1), 100).tolist()
        )

    def test_an_entity_may_be_a_number_or_a_date(self):
        table = make_table([row % 50 for row in range(200)])
        for name in ("week", "at"):
            side = sides_of(divide(table, SplitSpec(by="group", column=name)), 200)
            values = table.columns[name]
            assert all(len(set(side[values == value].tolist())) == 1 for value in np.unique(values))


class TestByChance:
    def test_shares_are_those_of_the_spec(self):
        parts = divide(make_table([0] * 5_000), SplitSpec(test_share=0.1, validation_share=0.1))
        found = [len(parts.splits[name]) / 5_000 for name in SPLITS]
        assert found == pytest.approx([0.8, 0.1, 0.1], abs=0.02)
        assert parts.description["by"] == "random"
