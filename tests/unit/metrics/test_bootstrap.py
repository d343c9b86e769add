"""Bootstrap intervals: they cover, they repeat, they pair."""

import millrace.metrics.bootstrap as intervals
import numpy as np
import pytest
from millrace.evaluation.holdout import baseline_predictions
from millrace.metrics.bootstrap import bootstrap, draw_weights, gain_interval, percentile_interval
from millrace.metrics.catalogue import MAE, RMSE
from millrace.schema import Column, TableSchema


def errors(size: float, rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(size=rows)
    return target, target + size * rng.normal(size=rows)


def test_every_draw_has_as_many_rows_as_the_holdout():
    blocks = list(draw_weights(30, 7, seed=0))

    weights = np.concatenate(blocks)
    assert weights.shape == (7, 30)
    np.testing.assert_array_equal(weights.sum(axis=1), 30)
    assert len(np.unique(weights, axis=0)) == 7


def test_draws_do_not_depend_on_the_size_of_a_block(monkeypatch):
    whole = np.concatenate(list(draw_weights(30, 7, seed=0)))
    monkeypatch.setattr(intervals, "_MAX_WEIGHTS", 60)
    blocks = list(draw_weights(30, 7, seed=0))

    assert [len(block) for block in blocks] == [2, 2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_interval_covers_the_true_value_about_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        target, values = errors(1.0, rows=150, seed=seed)
        samples = bootstrap({"mae": MAE.statistic(target, values)}, 150, seed=seed, resamples=200)["mae"]
        interval = percentile_interval(samples, 0.9)
        covered += interval.low <= np.sqrt(2 / np.pi) <= interval.high

    assert 80 <= covered <= 97


def test_same_seed_same_samples():
    target, values = errors(1.0)
    statistics = {"rmse": RMSE.statistic(target, values)}
    first, second, other = (bootstrap(statistics, 200, seed=seed)["rmse"] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_pairing_finds_a_difference_that_two_intervals_hide():
    target, noise = errors(1.0)
    slightly_better = target + 0.97 * (noise - target)
    samples = bootstrap(
        {"old": RMSE.statistic(target, noise), "new": RMSE.statistic(target, slightly_better)}, 200, seed=0
    )

    old, new = (percentile_interval(samples[name], 0.95) for name in ("old", "new"))
    gain = gain_interval(samples["new"], samples["old"], greater_is_better=False, confidence=0.95)

    assert new.high > old.low
    assert 0 < gain.low < gain.high


def test_gain_has_the_sign_of_what_is_better():
    low, high = np.zeros(100), np.ones(100)

    assert gain_interval(high, low, greater_is_better=True, confidence=0.95).low == 1.0
    assert gain_interval(high, low, greater_is_better=False, confidence=0.95).high == -1.0


def test_undefined_draws_are_left_out_until_too_few_are_left():
    samples = np.array([1.0, 2.0, np.nan, np.nan])

    assert percentile_interval(samples, 0.9).low == pytest.approx(1.05)
    assert percentile_interval(np.array([1.0, np.nan, np.nan]), 0.9) is None
    assert percentile_interval(np.array([np.nan]), 0.9) is None


def test_without_a_model_one_says_the_mean_or_each_classs_share():
    amounts = TableSchema((Column("y", "number", "target"),), "regression")
    assert baseline_predictions(amounts, np.array([1.0, 1.0, 7.0]), 2).tolist() == [3.0, 3.0]
    words = TableSchema((Column("y", "category", "target"),), "multiclass", ("a", "b", "c"))
    assert baseline_predictions(words, np.array([0, 0, 1, 0]), 1).tolist() == [[0.75, 0.25, 0.0]]
