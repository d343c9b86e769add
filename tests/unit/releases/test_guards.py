"""Guards: exact at three events, silent about harmless candidates, and additive over windows."""

import math
import random

import pytest
from millrace.releases.guards import ALTERNATIVES, BadEvents, is_worse, log_e_value, update_wealth


def wealth(*windows: BadEvents, ratio: float = 1.0) -> tuple[float, ...]:
    found: tuple[float, ...] = ()
    for window in windows:
        found = update_wealth(found, window, ratio)
    return found


def test_three_errors_of_a_small_canary_alone_are_enough():
    assert not is_worse(wealth(BadEvents(1_900, 100, 0, 1)), guards=1)
    assert is_worse(wealth(BadEvents(1_900, 100, 0, 3)), guards=4)


@pytest.mark.parametrize(
    "window",
    [
        BadEvents(0, 0, 0, 0),
        BadEvents(0, 100, 0, 50),  # nothing to compare with
        BadEvents(100, 0, 7, 0),
        BadEvents(900, 100, 0, 0),
    ],
)
def test_a_window_without_a_comparison_changes_nothing(window):
    assert set(wealth(window)) == {0.0}
    assert not is_worse(wealth(window), guards=1)


def test_as_many_errors_as_the_champion_are_none_of_its_fault():
    assert not is_worse(wealth(*[BadEvents(900, 100, 90, 10)] * 100), guards=1)


def test_a_tolerated_ratio_is_tolerated():
    twice = [BadEvents(900, 100, 90, 20)] * 50
    assert is_worse(wealth(*twice, ratio=1.0), guards=4)
    assert not is_worse(wealth(*twice, ratio=2.0), guards=1)


def test_evidence_survives_a_change_of_the_share():
    parts = wealth(BadEvents(950, 50, 1, 1), BadEvents(500, 500, 0, 4))
    assert all(
        one == pytest.approx(first + second)
        for one, first, second in zip(
            parts, wealth(BadEvents(950, 50, 1, 1)), wealth(BadEvents(500, 500, 0, 4)), strict=True
        )
    )


def test_the_mean_of_the_e_value_is_at_most_one_where_the_candidate_is_as_good():
    """The expectation, by summation over the binomial distribution of both arms' bad events."""
    for share, n in ((0.05, 12), (0.3, 9), (0.5, 6)):
        champion, candidate = round(1_000 * (1 - share)), round(1_000 * share)
        expected = 0.0
        for bad in range(n + 1):
            probability = math.comb(n, bad) * share**bad * (1 - share) ** (n - bad)
            e = math.exp(log_e_value(wealth(BadEvents(champion, candidate, n - bad, bad))))
            expected += probability * e
        assert expected == pytest.approx(1.0, abs=1e-9)


def test_harmless_candidates_are_rarely_found_worse_however_often_one_looks():
    generator, found = random.Random(0), 0
    for _ in range(150):
        state: tuple[float, ...] = ()
        for _ in range(48):
            bad = sum(generator.random() < 0.02 for _ in range(120))
            of_candidate = sum(generator.random() < 0.1 for _ in range(bad))
            state = update_wealth(state, BadEvents(1_080, 120, bad - of_candidate, of_candidate), 1.0)
            if is_worse(state, guards=1):
                found += 1
                break
    assert found <= 0.05 * 150 + 4


def test_alternatives_are_worse_than_tolerated():
    assert min(ALTERNATIVES) > 1.0
    assert list(ALTERNATIVES) == sorted(ALTERNATIVES)
