"""Distributions lose no row, whatever the numbers are."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.profile import (
    MAX_BARS,
    QUANTILES,
    TOP_VALUES,
    describe_numbers,
    describe_strings,
)

FINITE = st.floats(min_value=-3e38, max_value=3e38, allow_nan=False)


@given(st.lists(FINITE, min_size=1, max_size=60), st.booleans())
def test_every_row_is_in_one_bar_and_one_bin(values, whole):
    numbers = np.array([round(value) if whole else value for value in values], dtype=np.float64)
    found = describe_numbers(numbers, np.ones(len(numbers)), whole=whole)
    json.dumps(found, allow_nan=False)
    drawn, bins = found["histogram"], found["bins"]
    assert sum(drawn["counts"]) + drawn["below"] + drawn["above"] == len(numbers)
    assert len(drawn["edges"]) == len(drawn["counts"]) + 1 == len(drawn["target_means"]) + 1
    assert np.all(np.diff(drawn["edges"]) > 0)
    assert sum(bins["counts"]) == len(numbers)
    assert min(bins["counts"]) > 0
    assert len(bins["counts"]) == len(bins["edges"]) + 1 <= 20
    expected = np.histogram(numbers, bins=drawn["edges"])[0]
    assert drawn["counts"] == expected.tolist()


@given(st.lists(FINITE, min_size=1, max_size=40))
def test_quantiles_are_numpys(values):
    found = describe_numbers(np.array(values), None, whole=False)
    expected = np.quantile(np.array(values), QUANTILES)
    # Between two numbers that nearly cancel, what is left is rounding.
    rounding = 1e-12 * max(map(abs, values)) + 1e-300
    assert list(found["quantiles"].values()) == pytest.approx(expected, rel=1e-6, abs=rounding)
    assert found["distinct"] == len(set(values))


def test_integers_have_bars_of_their_own_and_wide_ones_are_not_cut():
    few = describe_numbers(np.repeat(np.arange(1.0, 6.0), 4), None, whole=True)["histogram"]
    assert few["edges"] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]
    assert few["counts"] == [4] * 5
    many = describe_numbers(np.arange(10_000.0), None, whole=True)["histogram"]
    assert len(many["counts"]) <= MAX_BARS
    assert all(edge % 1 == 0.5 for edge in many["edges"])
    assert len(set(np.diff(many["edges"]).tolist())) == 1


def test_what_is_far_out_is_counted_and_does_not_flatten_the_rest():
    numbers = np.array([*np.linspace(0, 1, 200), 1e6, -1e6, 1e6])
    found = describe_numbers(numbers, None, whole=False)
    assert found["outliers"]["count"] == 3
    assert (found["outliers"]["below"], found["outliers"]["above"]) == (1, 2)
    assert (found["histogram"]["below"], found["histogram"]["above"]) == (1, 2)
    assert found["histogram"]["edges"][-1] < 10
    assert (found["minimum"], found["maximum"]) == (-1e6, 1e6)


def test_mostly_the_same_value_still_shows_the_others():
    numbers = np.array([0.0] * 900 + list(np.linspace(1, 50, 100)))
    drawn = describe_numbers(numbers, None, whole=False)["histogram"]
    assert len(drawn["counts"]) > 5
    assert drawn["below"] + drawn["above"] < 50


def test_bars_average_the_target_and_say_nothing_where_it_is_missing():
    numbers = np.array([1.0, 1.0, 2.0, 3.0])
    drawn = describe_numbers(numbers, np.array([0.0, 1.0, np.nan, 5.0]), whole=True)["histogram"]
    assert drawn["target_means"] == [0.5, None, 5.0]


def test_bins_hold_about_the_same_number_of_rows_and_heavy_values_alone():
    even = describe_numbers(np.random.default_rng(0).permutation(1000.0 * np.ones(1000) + np.arange(1000)), None,
                                   whole=False)["bins"]  # fmt: skip
    assert len(even["counts"]) == 10
    assert max(even["counts"]) - min(even["counts"]) <= 2
    heavy = describe_numbers(np.array([0.0] * 95 + [1.0] * 5), None, whole=False)["bins"]
    assert heavy == {"edges": [1.0], "counts": [95, 5]}
    mixed = describe_numbers(np.array([0.0] * 50 + list(np.arange(1.0, 51.0))), None, whole=False)["bins"]
    assert (mixed["edges"][0], mixed["counts"][0]) == (1.0, 50)
    constant = describe_numbers(np.full(9, 2.5), None, whole=False)["bins"]
    assert constant == {"edges": [], "counts": [9]}


def test_the_commonest_words_come_first_and_the_others_are_counted():
    words = np.array([f"w{i:02d}" for i in range(30)] + ["b"] * 3 + ["a"] * 3, dtype=object)
    found = describe_strings(words, np.arange(36.0))
    assert [entry["value"] for entry in found["top"][:3]] == ["a", "b", "w00"]
    assert found["top"][0] == {"value": "a", "count": 3, "target_mean": 34.0}
    assert len(found["top"]) == TOP_VALUES
    assert found["other"] + sum(entry["count"] for entry in found["top"]) == 36
    assert (found["distinct"], found["singletons"]) == (32, 30)
    assert found["length"] == {"minimum": 1, "mean": pytest.approx(96 / 36), "maximum": 3}


def test_no_words_and_long_words():
    empty = describe_strings(np.array([], dtype=object), None)
    assert (empty["distinct"], empty["top"], empty["other"]) == (0, [], 0)
    assert empty["length"]["mean"] is None
    (entry,) = describe_strings(np.array(["x" * 5000], dtype=object), None)["top"]
    assert len(entry["value"]) == 200
