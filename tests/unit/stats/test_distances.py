"""Distances and tails against scipy, on cells that both see alike."""

import numpy as np
import pytest
from millrace.stats.distances import (
    benjamini_hochberg,
    chi_square,
    chi_square_tail,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    kolmogorov_tail,
    normal_tail,
    population_stability_index,
    wasserstein,
)
from scipy import special, stats
from scipy.spatial.distance import jensenshannon

DRAW = np.random.default_rng(5)


@pytest.mark.parametrize("degrees", [1, 2, 9, 30, 200])
@pytest.mark.parametrize("statistic", [1e-6, 0.5, 5.0, 31.0, 250.0, 900.0])
def test_chi_square_tail_is_scipys(statistic, degrees):
    assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-9, abs=1e-13)


def test_chi_square_tail_of_nothing_is_one():
    assert chi_square_tail(0.0, 5) == 1.0
    assert chi_square_tail(3.0, 0) == 1.0


@pytest.mark.parametrize("z", [-3.0, 0.0, 1.5, 6.0])
def test_normal_tail_is_scipys(z):
    assert normal_tail(z) == pytest.approx(stats.norm.sf(z), rel=1e-12)


@pytest.mark.parametrize("distance", [0.001, 0.02, 0.05, 0.1, 0.3])
def test_kolmogorov_tail_is_scipys_limit(distance):
    rows = np.sqrt(1_000 * 3_000 / 4_000)
    reach = (rows + 0.12 + 0.11 / rows) * distance
    assert kolmogorov_tail(distance, 1_000, 3_000) == pytest.approx(special.kolmogorov(reach), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_distances_of_words_are_scipys(shift):
    first = DRAW.multinomial(4_000, [0.4, 0.3, 0.2, 0.1]).astype(float)
    second = DRAW.multinomial(900, [0.4 - shift / 2, 0.3, 0.2, 0.1 + shift / 2]).astype(float)
    assert jensen_shannon_distance(first, second).value == pytest.approx(
        jensenshannon(first / first.sum(), second / second.sum(), base=2), rel=1e-12
    )
    found = chi_square(first, second)
    table = np.array([first, second])
    assert found.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)
    assert found.value == pytest.approx(stats.contingency.association(table.astype(int), method="cramer"), rel=1e-9)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.3, 1.0), (0.0, 1.5), (-1.0, 0.7)])
def test_distances_of_numbers_are_scipys_on_raw_values_within_a_cell(shift, scale):
    # A hundred cells of equal share: Kolmogorov-Smirnov is at most 0.01 below the raw one, Wasserstein within 3 %.
    raw, other = DRAW.normal(size=20_000), shift + scale * DRAW.normal(size=6_000)
    edges = np.quantile(raw, np.linspace(0, 1, 101)[1:-1])
    cells = [np.searchsorted(edges, values, "right") for values in (raw, other)]
    counts = [np.bincount(one, minlength=100).astype(float) for one in cells]
    means = [
        np.bincount(one, weights=values, minlength=100) / np.maximum(count, 1)
        for one, values, count in zip(cells, (raw, other), counts, strict=True)
    ]
    smirnov = stats.ks_2samp(raw, other).statistic
    assert smirnov - 0.01 <= kolmogorov_smirnov(*counts).value <= smirnov + 1e-9
    exact = stats.wasserstein_distance(raw, other) / raw.std()
    assert wasserstein(*counts, *means, raw.std()).value == pytest.approx(exact, rel=0.03, abs=0.005)


def test_the_index_is_what_its_definition_says():
    first, second = np.array([50.0, 30.0, 20.0]), np.array([20.0, 30.0, 50.0])
    by_hand = 2 * (0.3 * np.log(0.5 / 0.2))
    assert population_stability_index(first, second).value == pytest.approx(by_hand)


def test_an_empty_cell_is_no_infinite_distance():
    first, second = np.array([100.0, 0.0, 10.0]), np.array([0.0, 100.0, 10.0])
    assert np.isfinite(population_stability_index(first, second).value)
    assert jensen_shannon_distance(first, second).value < 1.0


@pytest.mark.parametrize(
    "distance", [population_stability_index, jensen_shannon_distance, kolmogorov_smirnov, chi_square]
)
def test_of_nothing_there_is_no_distance(distance):
    nothing, something = np.zeros(4), np.array([1.0, 2.0, 3.0, 4.0])
    for pair in ((nothing, something), (something, nothing), (nothing, nothing)):
        found = distance(*pair)
        assert (found.value, found.excess, found.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("rows", [200, 2_000])
def test_excess_takes_off_what_sampling_gives(rows):
    # Means over 300 pairs of samples of one distribution: the value is far from 0, the excess is near it.
    shares = np.full(10, 0.1)
    pairs = [(DRAW.multinomial(5_000, shares), DRAW.multinomial(rows, shares)) for _ in range(300)]
    found = [population_stability_index(first.astype(float), second.astype(float)) for first, second in pairs]
    expected = 9 * (1 / 5_000 + 1 / rows)
    assert np.mean([one.value for one in found]) == pytest.approx(expected, rel=0.1)
    assert np.mean([one.p_value < 0.05 for one in found]) < 0.1
    assert np.median([one.excess for one in found]) < expected / 4


def test_discoveries_are_benjamini_and_hochbergs():
    p_values = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]
    wanted = stats.false_discovery_control(p_values) <= 0.05
    assert benjamini_hochberg(p_values, 0.05) == wanted.tolist()
    assert benjamini_hochberg([], 0.05) == []
    assert benjamini_hochberg([1.0, 0.9], 0.05) == [False, False]
