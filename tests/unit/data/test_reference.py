"""Reference statistics: plain numbers that new data can be compared with."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.reference import BINS, MAX_REFERENCE_CATEGORIES, describe_column, describe_reference
from millrace.documents import to_plain
from millrace.histograms.bins import EdgeFinder
from millrace.histograms.tables import ReferenceDocument
from millrace.schema import Column, TableSchema
from millrace.stats.distances import population_stability_index

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


def test_every_feature_and_the_target_are_described_and_nothing_else():
    schema = TableSchema(
        (
            Column("id", "text", "identifier"),
            Column("age", "number"),
            Column("plan", "category", sensitive=True),
            Column("active", "boolean"),
            Column("since", "datetime"),
            Column("review", "text"),
            Column("label", "boolean", "target", true_values=("yes",), false_values=("no",)),
        ),
        "binary",
        ("no", "yes"),
        version=3,
    )
    columns = {
        "age": np.array([1.0, np.nan, 3.0, 4.0]),
        "plan": np.array(["a", "a", "", "b"], dtype=object),
        "active": np.array([1.0, 0.0, np.nan, 1.0]),
        "since": np.array(["1970-01-02", "NaT", "1970-01-03", "1970-01-04"], dtype="datetime64[us]"),
        "review": np.array(["so late", "", "never again, never", "fine"], dtype=object),
    }
    document = describe_reference(schema, columns, np.array([0, 1, 1, 1]))
    reference = to_plain(document)
    features = {feature["name"]: feature for feature in reference["features"]}
    assert list(features) == ["age", "plan", "active", "since", "review"]
    assert (reference["rows"], reference["task"], reference["schema_version"]) == (4, "binary", 3)
    assert [feature["missing_share"] for feature in features.values()] == [0.25] * 5
    assert features["plan"]["shares"] == {"a": 0.5, "b": 0.25}
    assert features["plan"]["sensitive"]
    assert features["active"]["shares"] == {"true": 0.5, "false": 0.25}
    assert features["since"]["minimum"] == 86_400.0
    assert (features["review"]["minimum"], features["review"]["mean"], features["review"]["maximum"]) == (1.0, 2.0, 3.0)
    assert "late" not in json.dumps(reference)
    assert reference["target"]["shares"] == {"no": 0.25, "yes": 0.75}
    assert ReferenceDocument.read(document.write()) == document


def test_a_quantity_as_target_has_a_histogram():
    schema = TableSchema((Column("y", "number", "target"),), "regression")
    target = describe_reference(schema, {}, np.arange(100.0)).target
    assert len(target.histogram.counts) == BINS
    assert target.mean == 49.5


@given(numbers)
def test_bins_hold_every_row_once_and_count_new_rows_alike(values):
    known = np.array(values)
    histogram = describe_column(Column("x", "number"), known).histogram
    assert histogram.counts.sum() == len(known)
    assert len(histogram.counts) == len(histogram.edges) + 1 <= BINS
    np.testing.assert_array_equal(count(known, histogram.edges), histogram.counts)


def count(values, edges):
    return np.bincount(EdgeFinder(edges).locate(values), minlength=len(edges) + 1)


def test_bins_are_about_equal_where_values_differ():
    known = np.random.default_rng(0).normal(size=10_000)
    histogram = describe_column(Column("x", "number"), known).histogram
    assert histogram.counts.tolist() == pytest.approx([1_000] * BINS, abs=2)
    index = population_stability_index(
        histogram.counts.astype(float), count(known + 1.0, histogram.edges).astype(float)
    )
    assert index.value > 0.5


def test_a_column_without_values_has_no_numbers_but_a_form():
    described = describe_column(Column("x", "number", nullable=True), np.full(3, np.nan))
    assert described.missing_share == 1.0
    assert (described.mean, to_plain(described.histogram)) == (None, {"edges": [], "counts": [0]})
    strings = describe_column(Column("x", "category", nullable=True), np.array(["", ""], dtype=object))
    assert (strings.shares, strings.distinct) == ({}, 0)


def test_rare_categories_share_one_place():
    strings = np.array([f"w{i:03d}" for i in range(150)] + ["w000"] * 50, dtype=object)
    described = describe_column(Column("x", "category"), strings)
    assert len(described.shares) == MAX_REFERENCE_CATEGORIES
    assert next(iter(described.shares)) == "w000"
    assert sum(described.shares.values()) + described.other_share == pytest.approx(1.0)
