"""The threshold follows costs, trusts calibrated scores, and listens to rows that speak against them."""

import numpy as np
import pytest
from millrace.evaluation.curves import choose_threshold, decision_costs, predict_positive
from millrace.spec.training import CostSpec


def calibrated(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random(rows)
    return (rng.random(rows) < scores).astype(np.int64), scores.astype(np.float32)


@pytest.mark.parametrize(("false_positive", "false_negative", "expected"), [(1, 1, 0.5), (1, 4, 0.2), (9, 1, 0.9)])
def test_calibrated_scores_get_the_threshold_of_least_expected_cost(false_positive, false_negative, expected):
    costs = CostSpec(false_positive=false_positive, false_negative=false_negative)
    chosen = [choose_threshold(*calibrated(500, seed), costs) for seed in range(20)]
    close = [abs(one.value - expected) < 0.12 for one in chosen]
    assert sum(close) >= 17
    assert any(one.rule == "expected_cost" and one.value == pytest.approx(expected) for one in chosen)


def test_scores_that_are_off_get_the_threshold_that_was_cheapest():
    target, scores = calibrated(2_000)
    chosen = choose_threshold(target, scores / 4, CostSpec())
    assert chosen.rule == "cheapest_on_validation"
    assert chosen.value == pytest.approx(0.125, abs=0.03)


def test_a_threshold_is_left_for_one_that_was_cheaper_by_more_than_a_standard_error():
    """Between them lie 36 of 40 rows and a cost of 6: the standard error is the root of 36 - 6**2 / 40."""
    scores = np.r_[np.linspace(0.1, 0.4, 36), np.full(4, 0.9)]
    target = np.r_[np.ones(21), np.zeros(15), np.ones(4)].astype(np.int64)
    chosen = choose_threshold(target, scores, CostSpec())
    assert (chosen.rule, chosen.validation_cost) == ("cheapest_on_validation", 15 / 40)
    target[20] = 0
    assert choose_threshold(target, scores, CostSpec()).rule == "expected_cost"


def test_the_cost_is_that_of_the_chosen_threshold():
    target, scores = calibrated(300)
    costs = CostSpec(false_positive=2.0, false_negative=7.0)
    chosen = choose_threshold(target, scores, costs)
    called = scores >= chosen.value
    assert chosen.validation_cost == pytest.approx(decision_costs(target, called, costs).mean())


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("label", [0, 1])
def test_constant_scores_and_one_class_have_a_threshold_too(value, label):
    scores = np.full(50, value)
    target = np.full(50, label)
    chosen = choose_threshold(target, scores, CostSpec())
    assert np.isfinite(chosen.value)
    assert (scores >= chosen.value).all() == bool(label) or chosen.validation_cost <= 1.0
    assert decision_costs(target, scores >= chosen.value, CostSpec()).mean() == pytest.approx(chosen.validation_cost)


def test_without_a_threshold_the_likelier_class_is_predicted():
    probabilities = np.array([[0.6, 0.4], [0.4, 0.6], [0.5, 0.5]])
    assert predict_positive(probabilities, None).tolist() == [False, True, False]
    assert predict_positive(probabilities, 0.4).tolist() == [True, True, True]
