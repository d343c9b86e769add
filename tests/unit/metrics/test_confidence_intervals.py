"""Intervals of metrics: they hold the true value about as often as they say, and are none where rows say too little.

``benchmarks/intervals/coverage.py`` measures the same on real tables, with narrow tolerances.
"""

from statistics import NormalDist

import numpy as np
import pytest
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.catalogue import CATALOGUE, METRICS, METRICS_BY_NAME, compute_metrics
from millrace.metrics.confidence_intervals import (
    TooFewRows,
    mean_interval,
    normal_quantile,
    squares_interval_beside,
    student_quantile,
)
from scipy import stats

DRAWS = 250
#: Coverage of 250 draws has a standard error of 1.4 points.
TOLERATED = (0.90, 0.996)


def population(kind: str, rows: int = 100_000) -> tuple[str, np.ndarray, np.ndarray]:
    """Return a task, targets and predictions."""
    rng = np.random.default_rng(8)
    if kind in ("light", "heavy"):
        target = 5 * rng.normal(size=rows)
        noise = (
            rng.normal(size=rows) if kind == "light" else rng.normal(size=rows) * np.exp(0.7 * rng.normal(size=rows))
        )
        return "regression", target, target + noise
    if kind == "classes":
        scores = rng.normal(size=(rows, 3))
        shares = np.exp(1.5 * scores) / np.exp(1.5 * scores).sum(axis=1, keepdims=True)
        return "multiclass", (shares.cumsum(axis=1) < rng.random((rows, 1))).sum(axis=1), shares
    signal = 2 * rng.normal(size=rows) + {"balanced": 0.0, "rare": -4.6}[kind]
    positive = 1 / (1 + np.exp(-signal))
    stated = 1 / (1 + np.exp(-1.1 * signal))
    return "binary", (rng.random(rows) < positive).astype(np.int64), np.stack([1 - stated, stated], axis=1)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [("light", 60), ("heavy", 60), ("heavy", 300), ("balanced", 60), ("rare", 60), ("rare", 300), ("classes", 60)],
)
def test_intervals_hold_the_true_value_about_as_often_as_they_say(kind, rows):
    task, target, predictions = population(kind)
    truth = compute_metrics(task, target, predictions)
    held: dict[str, list[bool]] = {name: [] for name in truth}
    generator = np.random.default_rng(rows)
    for _ in range(DRAWS):
        drawn = generator.integers(0, len(target), rows)
        for metric in METRICS[task]:
            interval = metric.interval(target[drawn], predictions[drawn], 0.95)
            if isinstance(interval, ConfidenceInterval):
                held[metric.name].append(interval.low <= truth[metric.name] <= interval.high)

    covered = {name: float(np.mean(given)) for name, given in held.items() if len(given) > DRAWS / 2}
    low, high = TOLERATED
    assert {name: share for name, share in covered.items() if not low <= share <= high} == {}
    assert len(covered) >= (3 if kind == "rare" and rows == 60 else len(truth) - 2)


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_interval_holds_its_own_value_and_is_wider_with_more_confidence_and_fewer_rows(metric):
    kind = {"binary": "balanced", "multiclass": "classes", "regression": "heavy"}[metric.tasks[0]]
    _, target, predictions = population(kind)
    narrow, usual, wide = (
        metric.interval(target[:rows], predictions[:rows], confidence)
        for rows, confidence in ((2_000, 0.95), (400, 0.95), (400, 0.99))
    )

    assert usual.low < metric.compute(target[:400], predictions[:400]) < usual.high
    assert wide.low < usual.low < usual.high < wide.high
    assert narrow.high - narrow.low < usual.high - usual.low
    low, high = metric.range
    assert low <= wide.low < wide.high <= high


BINARY = np.array([[0.9, 0.1], [0.2, 0.8]])
FEW = {
    "three positives": ("roc_auc", np.r_[1, 1, 1, np.zeros(57, int)], np.linspace(0, 1, 60), "3 rows of one class"),
    "nine positives": ("pr_auc", np.r_[np.ones(9, int), np.zeros(51, int)], np.linspace(0, 1, 60), "9 positives"),
    "a perfect order": ("roc_auc", np.r_[np.zeros(30, int), np.ones(30, int)], np.linspace(0, 1, 60), "separated"),
    "one mistake": ("log_loss", np.r_[np.zeros(59, int), 1], np.full(60, 0.1), "1 rows are predicted wrong"),
    "no mistake": ("brier", np.zeros(60, int), np.full(60, 0.1), "0 rows are predicted wrong"),
    "no member": ("f1", np.zeros(60, int), np.full(60, 0.1), "0 rows have the second class"),
    "two members": ("f1", np.r_[np.ones(2, int), np.zeros(58, int)], np.full(60, 0.1), "2 rows have the second class"),
}


@pytest.mark.parametrize("case", FEW)
def test_too_few_rows_have_a_reason_instead_of_an_interval(case):
    name, target, positive, reason = FEW[case]
    interval = METRICS_BY_NAME[name].interval(target, np.stack([1 - positive, positive], axis=1), 0.95)

    assert isinstance(interval, TooFewRows)
    assert reason in interval.reason


@pytest.mark.parametrize("metric", METRICS["regression"], ids=lambda metric: metric.name)
def test_few_or_equal_errors_have_no_interval(metric):
    rng = np.random.default_rng(0)
    few = metric.interval(rng.normal(size=5), np.zeros(5), 0.95)
    perfect = metric.interval(np.arange(60.0), np.arange(60.0), 0.95)

    assert isinstance(few, TooFewRows) or metric.name == "error_p50"
    assert isinstance(perfect, TooFewRows)


def test_of_thirty_right_rows_one_in_nine_could_be_wrong():
    right = METRICS_BY_NAME["accuracy"].interval(np.zeros(30, int), np.tile([0.9, 0.1], (30, 1)), 0.95)

    assert (right.low, right.high) == (pytest.approx(0.8865, abs=1e-4), pytest.approx(1.0))


def test_a_rare_class_of_several_has_no_average():
    target = np.r_[np.zeros(50, int), np.ones(46, int), np.full(4, 2)]
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    for name in ("macro_f1", "roc_auc_ovr"):
        assert "4 rows of one class" in METRICS_BY_NAME[name].interval(target, predictions, 0.95).reason


@pytest.mark.parametrize("degrees", [4, 10, 59, 1000])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_quantiles_are_scipys(degrees, confidence):
    assert normal_quantile(confidence) == pytest.approx(NormalDist().inv_cdf(0.5 + confidence / 2))
    assert student_quantile(confidence, degrees) == pytest.approx(stats.t.ppf(0.5 + confidence / 2, degrees), rel=0.02)


@pytest.mark.parametrize("rows", [40, 2_000, 60_000])
def test_ranks_of_a_quantile_are_those_of_the_binomial_distribution(rows):
    errors = np.arange(1.0, rows + 1)
    interval = METRICS_BY_NAME["error_p90"].interval(np.zeros(rows), errors, 0.95)
    low, high = stats.binom.ppf([0.025, 0.975], rows, 0.9)

    assert (interval.low, interval.high) == (pytest.approx(low + 1, abs=1), pytest.approx(high + 1, abs=1))


@pytest.mark.parametrize(("name", "size"), [("rmse", 60), ("r2", 120)])
def test_other_rows_show_the_errors_that_a_small_holdout_has_not(name, size):
    """A hundredth of the rows makes 69 % of the mean, as of fares; most samples of 60 have none of them."""
    rng = np.random.default_rng(4)
    target, noise = 5 * rng.normal(size=100_000), rng.normal(size=100_000)
    noise[rng.random(100_000) < 0.01] *= 15
    metric, held = METRICS_BY_NAME[name], {"alone": [], "beside others": []}
    truth = metric.compute(target, target + noise)
    for _ in range(300):
        drawn = rng.integers(0, len(target), 5 * size)
        rows, others = ((target[part], (target + noise)[part]) for part in (drawn[:size], drawn[size:]))
        for label, further in (("alone", None), ("beside others", others)):
            interval = metric.interval(*rows, 0.95, further)
            held[label].append(interval.low <= truth <= interval.high)

    assert np.mean(held["alone"]) < 0.75
    assert np.mean(held["beside others"]) > 0.8, "5 % of 300 rows have no such row, and then nothing shows it"


def test_an_r2_of_fewer_than_a_hundred_rows_has_no_interval_and_the_same_rows_have_the_same_one():
    rng, metric = np.random.default_rng(4), METRICS_BY_NAME["r2"]
    target = rng.normal(size=1_000)
    values = target + 0.5 * rng.normal(size=1_000)
    few = metric.interval(target[:99], values[:99], 0.95, (target[99:], values[99:]))
    assert few == TooFewRows("99 rows; an interval needs 100")
    one, again = (metric.interval(target[:100], values[:100], 0.95, (target[100:], values[100:])) for _ in range(2))
    assert one == again
    assert one.low < metric.compute(target, values) < one.high
    assert metric.interval(target[:100], target[:100], 0.95, (target, values)) == TooFewRows(
        "every row has the same loss"
    )
    # Of very many rows it is that of a mean, which is as wide.
    many = np.tile(target, 3), np.tile(values, 3)
    sampled, limit = (
        metric.interval(*(part[:rows] for part in many), 0.95, (target, values)) for rows in (2_000, 2_001)
    )
    assert limit.high - limit.low == pytest.approx(sampled.high - sampled.low, rel=0.25)


@pytest.mark.parametrize(
    ("rows", "samples", "factor"),
    [(30, 4, 4.0), (60, 4, 2.0), (60, 1, 1.5), (100, 4, 1.2), (200, 4, 0.6), (200, 1, 0.9), (1_000, 1, 0.9)],
)
def test_an_unseen_error_is_a_multiple_of_the_largest_that_other_rows_let_one_expect(rows, samples, factor):
    generator = np.random.default_rng(rows)
    squares, elsewhere = generator.chisquare(1, rows), generator.chisquare(1, samples * rows)
    elsewhere[:samples] = 300.0, *[100.0] * (samples - 1)
    expected = (300 + 100 * (samples - 1)) / samples

    found = squares_interval_beside(squares, elsewhere, 0.95)

    alone = mean_interval(squares, factor * expected / squares.max(), 0.95)
    assert found.high == pytest.approx(alone.high)
    assert found.low == squares_interval_beside(squares, elsewhere / 100, 0.95).low


@pytest.mark.parametrize(
    ("draw", "factor"),
    [
        (lambda generator, size: generator.normal(size=size), 0.0),
        (lambda generator, size: np.exp(9.0 * generator.random(size)), 1.6),
        (lambda generator, size: np.exp(1.5 * generator.normal(size=size)), 2.0),
        (lambda generator, size: generator.normal(size=size) * np.where(generator.random(size) < 0.02, 10, 1), 2.0),
    ],
    ids=["normal", "log-uniform", "lognormal", "rare and large"],
)
def test_an_unseen_error_of_few_rows_goes_by_the_tail_of_all(draw, factor):
    """One factor for all tails would make the intervals of light ones a half wider."""
    generator, found = np.random.default_rng(1), []
    for _ in range(100):
        squares = draw(generator, 300) ** 2
        rows, elsewhere = squares[:60], squares[60:]
        unseen = max(1.0, factor * np.sort(elsewhere)[-4:].mean() / rows.max())
        found.append((squares_interval_beside(rows, elsewhere, 0.95).high, mean_interval(rows, unseen, 0.95).high))
    high, wanted = np.median(found, axis=0)
    assert high == pytest.approx(wanted, rel=0.05)


def test_an_unseen_error_of_rows_that_are_mostly_right_is_that_of_a_heavy_tail():
    squares, elsewhere = (
        np.append(np.zeros(size), np.arange(1.0, largest + 1)) for size, largest in ((55, 5), (230, 10))
    )
    found = squares_interval_beside(squares, elsewhere, 0.95)
    assert found.high == pytest.approx(mean_interval(squares, 2.0 * 8.5 / 5.0, 0.95).high)
