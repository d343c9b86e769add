"""Paired quality: losses, bets, intervals, and the guards of a replay."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from millrace.releases.paired_quality import (
    classification_losses,
    compare_losses,
    confidence_sequence,
    find_hold_by_replay,
    find_worse_by_replay,
    log_wealth,
    regression_losses,
)
from millrace.releases.replay_evidence import ReplayEvidence
from millrace.spec.release import GuardSpec
from msgspec.structs import replace

NOW = datetime(2026, 11, 30, tzinfo=UTC)
LIMIT = math.log(20)


def differences(better: float, worse: float, rows: int, seed: int) -> np.ndarray:
    """Rows of which shares are better and worse with the candidate."""
    drawn = np.random.default_rng(seed).random(rows)
    return np.where(drawn < better, 1.0, np.where(drawn < better + worse, -1.0, 0.0))


def by_the_paper(values: list[float], null: float, stake: float = 0.5) -> float:
    """Return the capital of the bets of Waudby-Smith and Ramdas (2024), section B.3, row by row as written there."""
    capital, total, squares, mean, variance = 1.0, 0.0, 0.0, 0.5, 0.25
    for number, value in enumerate(values, start=1):
        bet = (mean - null) / (variance + (mean - null) ** 2)
        bet = min(max(bet, 0.0), stake / null)
        capital *= 1.0 + bet * (value - null)
        total += value
        mean = (0.5 + total) / (number + 1)
        squares += (value - mean) ** 2
        variance = (0.25 + squares) / (number + 1)
    return capital


def test_the_capital_is_that_of_the_paper():
    drawn = differences(0.3, 0.1, 50, 0)
    values = ((drawn + 1.0) / 2.0).tolist()
    for mean in (-0.2, 0.0, 0.1):
        expected = by_the_paper(values, (mean + 1.0) / 2.0)
        assert math.exp(log_wealth(drawn, mean, is_above=True)[-1]) == pytest.approx(expected)
        mirrored = by_the_paper([1.0 - value for value in values], (1.0 - mean) / 2.0)
        assert math.exp(log_wealth(drawn, mean, is_above=False)[-1]) == pytest.approx(mirrored)


def test_the_first_bets_are_those_worked_out_by_hand():
    # Nothing is known before the first row: no bet. Then the mean is 3/4, the variance (1/4 + 1/16) / 2 = 5/32,
    # and the bet against 1/2 is (1/4) / (5/32 + 1/16) = 8/7, at most 1/2 / (1/2): the capital is 1 + 1/2.
    assert np.exp(log_wealth(np.array([1.0, 1.0]), 0.0, is_above=True)).tolist() == pytest.approx([1.0, 1.5])


@pytest.mark.parametrize("is_above", [True, False])
def test_a_candidate_at_the_margin_is_found_out_in_one_of_twenty_at_most(is_above):
    found = [
        log_wealth(differences(0.06, 0.07, 1_500, seed), -0.01, is_above=is_above).max() >= LIMIT for seed in range(300)
    ]
    assert np.mean(found) <= 0.05


def test_the_interval_holds_the_mean_at_all_times_and_narrows():
    held, widths = [], []
    for seed in range(100):
        drawn = differences(0.1, 0.06, 800, seed)
        intervals = [confidence_sequence(drawn[:rows], 0.05) for rows in (50, 200, 800)]
        held.append(all(low <= 0.04 <= high for low, high in intervals))
        widths.append([high - low for low, high in intervals])
    assert np.mean(held) >= 0.95
    first, second, third = np.mean(widths, axis=0)
    assert first > second > third
    assert third < 0.15


def test_losses_of_classification_are_bounded():
    outcomes = np.array([0, 1, 1])
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.2, 0.8]])
    decided = np.array([0, 0, 1])
    assert classification_losses("accuracy", outcomes, decided, probabilities).tolist() == [0.0, 1.0, 0.0]
    logs = classification_losses("log_loss", outcomes, decided, probabilities)
    assert logs == pytest.approx([0.0, 1.0, math.log(0.8) / math.log(0.01)])
    assert classification_losses("brier", outcomes, decided, probabilities) == pytest.approx([0.0, 1.0, 0.04])


def test_errors_of_a_regression_count_up_to_the_scale():
    values, outcomes = np.array([1.0, 3.0, 100.0]), np.array([1.0, 1.0, 0.0])
    assert regression_losses("mae", outcomes, values, 4.0).tolist() == [0.0, 0.5, 1.0]
    assert regression_losses("rmse", outcomes, values, 4.0).tolist() == [0.0, 0.25, 1.0]


def make_evidence(better: float, worse: float, rows: int = 4_000) -> ReplayEvidence:
    drawn = differences(better, worse, rows, 1)
    quality = compare_losses("accuracy", (drawn > 0) * 1.0, (drawn < 0) * 1.0, 0.01)
    return ReplayEvidence(
        model="churn",
        replay_id="r-20261130T030000-0a1b2c3d",
        baseline=1,
        candidate=2,
        status="running",
        since=NOW,
        checked_at=NOW,
        quality=quality,
    )


def test_a_worse_candidate_is_found_and_a_safe_one_is_known():
    guards = {"quality": GuardSpec()}
    worse, better = make_evidence(0.03, 0.10), make_evidence(0.10, 0.03)
    found = find_worse_by_replay(worse, guards, 0.05 / 5)
    assert found is not None
    assert (found[0], found[1]["pairs"], found[1]["metric"]) == ("quality", 4_000, "accuracy")
    assert found[1]["log_e"] >= math.log(5 / 0.05)
    assert find_worse_by_replay(better, guards, 0.05 / 5) is None
    assert better.quality is not None
    assert better.quality.log_e_safe >= LIMIT
    assert better.quality.low > 0.0


@pytest.mark.parametrize(
    ("evidence", "guards"),
    [
        (make_evidence(0.03, 0.10), {}),
        (make_evidence(0.03, 0.10, rows=10), {"quality": GuardSpec()}),
        (replace(make_evidence(0.03, 0.10), status="void"), {"quality": GuardSpec()}),
        (replace(make_evidence(0.03, 0.10), quality=None), {"quality": GuardSpec()}),
        (make_evidence(0.06, 0.06), {"quality": GuardSpec()}),
    ],
    ids=["off", "too few", "void", "no ground truth", "as good"],
)
def test_nothing_is_found_without_the_guard_enough_pairs_or_a_sound_replay(evidence, guards):
    assert find_worse_by_replay(evidence, guards, 0.01) is None


def test_shifts_and_estimates_hold_where_their_guards_are_on():
    evidence = replace(make_evidence(0.1, 0.1), output_shift=0.4, estimated_drop=0.08)
    assert find_hold_by_replay(evidence, {}) is None
    assert "PSI 0.400" in str(find_hold_by_replay(evidence, {"output": GuardSpec()}))
    assert find_hold_by_replay(evidence, {"output": GuardSpec(shift=0.5)}) is None
    assert "0.080 below" in str(find_hold_by_replay(evidence, {"estimate": GuardSpec()}))
    assert find_hold_by_replay(evidence, {"estimate": GuardSpec(drop=0.1), "output": None}) is None
    assert "void" in str(find_hold_by_replay(replace(evidence, status="void"), {}))
    unknown = replace(evidence, output_shift=None, estimated_drop=None)
    assert find_hold_by_replay(unknown, {"output": GuardSpec(), "estimate": GuardSpec()}) is None
