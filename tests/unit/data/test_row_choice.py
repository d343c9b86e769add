"""Which rows are trained on: none twice, the newest of each identifier, and always the same sample."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.prepare import choose_rows, prepare, split_fingerprint
from millrace.data.read import UploadLimits
from millrace.data.splits import assign_splits
from millrace.data.typed_table import TypedTable
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

ALL = 10**6


def schema(*, identified: bool) -> TableSchema:
    key = (Column("id", "text", "identifier"),) if identified else ()
    return TableSchema(
        (*key, Column("x", "number"), Column("plan", "category"), Column("label", "boolean", "target")),
        "binary",
        ("false", "true"),
    )


def table(rows: list[tuple[str, int]], *, identified: bool = False) -> TypedTable:
    values = np.array([float(value) for _, value in rows])
    columns = {
        "x": values,
        "plan": np.array([f"p{value % 3}" for _, value in rows], dtype=object),
        "label": values % 2,
    }
    if identified:
        columns["id"] = np.array([key for key, _ in rows], dtype=object)
    return TypedTable(schema(identified=identified), columns, len(rows))


keys = st.sampled_from(["", "a", "b", "c", "d", "e"])
drawn_tables = st.lists(st.lists(st.tuples(keys, st.integers(0, 4)), max_size=12), min_size=1, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(drawn_tables)
def test_the_last_row_of_the_newest_dataset_is_each_identifiers(drawn):
    tables = [table(rows, identified=True) for rows in drawn]
    choice = choose_rows(schema(identified=True), tables, ALL, 0)
    last = {key: (position, row) for position, rows in enumerate(drawn) for row, (key, _) in enumerate(rows) if key}
    nameless = [(p, row) for p, rows in enumerate(drawn) for row, (key, _) in enumerate(rows) if not key]
    chosen = [(position, row) for position, rows in enumerate(choice.rows) for row in rows.tolist()]
    assert chosen == sorted([*last.values(), *nameless])
    for position, part in enumerate(choice.contributions):
        newer = {key for rows in drawn[position + 1 :] for key, _ in rows}
        assert part.superseded == sum(key in newer for key, _ in drawn[position] if key)
        assert part.read == part.used + part.superseded + part.repeated
        assert part.left_out == 0


@settings(deadline=None)  # the machine may be busy
@given(drawn_tables)
def test_rows_without_identifier_are_kept_as_often_as_the_dataset_that_has_them_most_often(drawn):
    choice = choose_rows(schema(identified=False), [table(rows) for rows in drawn], ALL, 0)
    kept = Counter(drawn[p][row][1] for p, rows in enumerate(choice.rows) for row in rows.tolist())
    most: Counter[int] = Counter()
    for rows in drawn:
        most |= Counter(value for _, value in rows)
    assert kept == most
    assert len(set(choice.identities.tolist())) == len(choice)


@pytest.mark.parametrize("identified", [True, False])
def test_a_sample_holds_the_same_rows_whatever_order_they_come_in(identified):
    rows = [(f"k{number}", number) for number in range(3_000)]
    shape = schema(identified=identified)
    whole = choose_rows(shape, [table(rows, identified=identified)], 500, 7)
    parts = [table(rows[start : start + 1_000], identified=identified) for start in (2_000, 0, 1_000, 0)]
    divided = choose_rows(shape, parts, 500, 7)
    assert len(whole) == len(divided) == 500
    assert set(whole.identities.tolist()) == set(divided.identities.tolist())
    assert sum(part.used for part in divided.contributions) == 500
    for part in divided.contributions:
        assert part.read == part.used + part.superseded + part.repeated + part.left_out
    other = choose_rows(shape, [table(rows, identified=identified)], 500, 8)
    assert set(other.identities.tolist()) != set(whole.identities.tolist())


def test_a_smaller_sample_is_part_of_a_larger_one_and_says_nothing_about_sides():
    rows = [(f"k{number}", number) for number in range(20_000)]
    shape = schema(identified=True)
    small, large = (choose_rows(shape, [table(rows, identified=True)], limit, 0) for limit in (4_000, 8_000))
    assert set(small.identities.tolist()) <= set(large.identities.tolist())
    sides = assign_splits(small.identities, np.zeros(len(small), dtype=np.int64), 0)
    assert len(sides["test"]) / len(small) == pytest.approx(0.2, abs=0.02)


def text_table(texts: list[str]) -> TypedTable:
    columns = (Column("review", "text"), Column("label", "boolean", "target"))
    values = {"review": np.array(texts, dtype=object), "label": np.arange(len(texts)) % 2.0}
    return TypedTable(TableSchema(columns, "binary", ("false", "true")), values, len(texts))


def test_texts_of_the_same_words_are_rows_of_their_own_and_a_row_stays_itself():
    first = text_table(["late again", "x", "again late", "x"])
    choice = choose_rows(first.schema, [first, text_table(["late again", "x", "Late again", "x"])], ALL, 0)
    assert [part.repeated for part in choice.contributions] == [0, 3]
    assert len(set(choice.identities.tolist())) == len(choice) == 5


def test_a_splits_fingerprint_knows_a_text_by_its_name_alone():
    """How many columns its words become may change without a row changing sides."""
    as_text = text_table(["a"]).schema
    as_category = as_text.with_whole_texts()
    assert [column.type for column in as_category.features] == ["category"]
    assert split_fingerprint(as_text, ModelSpec()) == split_fingerprint(as_category, ModelSpec())


def test_long_texts_make_the_sample_smaller():
    tables = [text_table([f"{number} " + "long " * 400 for number in range(400)])]
    prepared = prepare(tables[0].schema, tables, ModelSpec(), UploadLimits(max_prepared_bytes=400 * 2_000))
    sample = prepared.sample()
    assert sample is not None
    assert 190 < sample["rows"] < 200  # of 2 kB as text, and 2 kB as numbers, each


def test_a_sampled_training_set_says_so():
    rows = [(f"k{number}", number) for number in range(2_000)]
    spec = ModelSpec(max_training_rows=400)
    prepared = prepare(schema(identified=True), [table(rows, identified=True)], spec)
    assert sum(len(split) for split in prepared.splits.values()) == 400
    assert prepared.summary()["sample"] == {"rows": 400, "of_rows": 2_000}
    assert prepared.contributions[0].to_dict()["left_out_of_sample"] == 1_600
    assert prepare(schema(identified=True), [table(rows, identified=True)], ModelSpec()).summary()["sample"] is None


def test_wide_rows_make_the_sample_smaller():
    rows = [(f"k{number}", number) for number in range(2_000)]
    # A number of four bytes, words of two letters, target and identity of eight each.
    limits = UploadLimits(max_prepared_bytes=300 * (4 * (1 + 2) + 16))
    prepared = prepare(schema(identified=True), [table(rows, identified=True)], ModelSpec(), limits)
    assert prepared.summary()["sample"] == {"rows": 300, "of_rows": 2_000}
    assert sum(len(split) for split in prepared.splits.values()) == 300
