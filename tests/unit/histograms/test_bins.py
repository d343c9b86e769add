"""Bins: fast location, factorization and block-wise counting give the same numbers as numpy."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from millrace.data.reference import QUANTILES, describe_column
from millrace.histograms.bins import CategoryBins, EdgeFinder, factorize
from millrace.histograms.tables import count_in_bins
from millrace.schema import Column

from tests.unit.monitoring.builders import make_columns, make_reference

floats = st.floats(-1e308, 1e308)
edge_lists = st.lists(floats, min_size=0, max_size=120).map(lambda values: np.unique(np.array(values)))


def many(values):
    """Repeat values until there are enough of them for the quick way."""
    return np.resize(values, 2_000)


@given(edge_lists, stn.arrays(np.float64, st.integers(1, 50), elements=floats))
def test_any_value_is_in_the_bin_that_a_binary_search_says(edges, values):
    tried = many(np.concatenate([values, edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)]))
    np.testing.assert_array_equal(EdgeFinder(edges).locate(tried), np.searchsorted(edges, tried, "right"))


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal", "standard_cauchy"])
def test_values_of_common_distributions_are_found_as_a_binary_search_finds_them(draw):
    values = getattr(np.random.default_rng(0), draw)(size=20_000)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 101)[1:-1]))
    np.testing.assert_array_equal(EdgeFinder(edges).locate(values), np.searchsorted(edges, values, "right"))


def test_words_are_coded_by_their_first_rows_and_a_missing_number_is_one_value():
    coded = factorize(np.array(["b", "a", "b", ""], dtype=object))
    assert (coded.values, coded.codes.tolist(), coded.counts().tolist()) == (("b", "a", ""), [0, 1, 0, 2], [2, 1, 1])
    truths = factorize(np.array([1.0, np.nan, 0.0, np.nan]))
    assert (truths.values, truths.codes.tolist()) == ((1.0, None, 0.0), [0, 1, 2, 1])
    assert coded[1:3].counts().tolist() == [1, 1, 0]


def test_unseen_categories_are_counted_over_blocks_of_rows():
    bins = CategoryBins(("a", "b"))
    words = np.array(["a", "z", "b", "y"] * 20_000, dtype=object)
    found = count_in_bins({"x": words}, len(words), {"x": bins}, make_reference().plan).columns["x"]
    assert found.unseen == {"z": 20_000, "y": 20_000}


@given(stn.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6)))
def test_a_number_is_described_as_numpy_describes_it(values):
    described = describe_column(Column("x", "number"), values)
    bins = described.fine_histogram
    located = np.searchsorted(bins.edges, values, "right")
    np.testing.assert_array_equal(bins.counts, np.bincount(located, minlength=len(bins.counts)))
    sums = np.bincount(located, weights=values, minlength=len(bins.counts))
    np.testing.assert_allclose(bins.sums, sums, rtol=1e-9, atol=1e-6)
    quantiles = np.quantile(values, QUANTILES)
    np.testing.assert_allclose(list(described.quantiles.values()), quantiles, rtol=1e-12, atol=1e-9)


def test_a_histogram_in_blocks_is_what_all_rows_at_once_give():
    reference = make_reference()
    rows = 70_000
    columns = make_columns(rows, 5, missing=0.1)
    found = count_in_bins(columns, rows, reference.bins, reference.plan)
    scores = np.zeros((len(reference.plan), rows))
    for name, bins in reference.bins.items():
        values = columns[name]
        if isinstance(bins, CategoryBins):
            located = np.array([bins.positions([value])[0] for value in values.tolist()])
            known = located >= 0
        else:
            known = np.isfinite(values)
            located = np.searchsorted(bins.edges, np.where(known, values, 0.0), "right")
            sums = np.bincount(located[known], weights=values[known], minlength=len(bins))
            np.testing.assert_allclose(found.columns[name].sums, sums)
        counts = np.bincount(located[known], minlength=len(bins))
        np.testing.assert_array_equal(found.columns[name].counts, counts)
        assert found.columns[name].missing == rows - known.sum()
        for position in reference.plan.positions(name):
            scores[position, known] = reference.plan.scores[position].table[located[known]]
    np.testing.assert_allclose(found.correlations.sums, scores.sum(axis=1), rtol=1e-9, atol=1e-6)
    upper = np.triu_indices(len(scores))
    np.testing.assert_allclose(found.correlations.products, (scores @ scores.T)[upper], rtol=1e-4, atol=0.05)


def test_ten_times_the_rows_need_no_more_memory_to_count():
    reference = make_reference()
    peaks = []
    for rows in (40_000, 400_000):
        columns = make_columns(rows, 5)
        tracemalloc.start()
        count_in_bins(columns, rows, reference.bins, reference.plan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
