"""Groups are compared by what is done to them, with intervals that do not trust a dozen rows."""

import numpy as np
import pytest
from millrace.documents import to_plain
from millrace.evaluation.fairness import compare_groups, group_labels, row_measures
from millrace.metrics.bootstrap import wilson
from millrace.schema import Column

SEX = Column("sex", "category")


def example(rows: int = 2_000, seed: int = 0):
    rng = np.random.default_rng(seed)
    sex = rng.choice(["f", "m"], rows)
    target = rng.integers(0, 2, rows)
    predicted = np.where(sex == "m", rng.random(rows) < 0.6, rng.random(rows) < 0.3).astype(np.int64)
    probabilities = np.stack([1 - target * 0.8, target * 0.8], axis=1)
    return sex, target, probabilities, predicted


def compare(column, values, measures, **options):
    return to_plain(compare_groups(column, values, measures, **{"min_rows": 30, "confidence": 0.95, **options}))


def test_rates_are_those_of_the_definitions():
    sex, target, probabilities, predicted = example()
    document = compare(SEX, sex, row_measures("binary", target, probabilities, predicted))
    men = next(group for group in document["groups"] if group["name"] == "m")
    of_men = sex == "m"
    measures = men["measures"]
    assert measures["selection_rate"]["value"] == pytest.approx(predicted[of_men].mean())
    assert measures["true_positive_rate"]["value"] == pytest.approx(predicted[of_men & (target == 1)].mean())
    assert measures["false_positive_rate"]["value"] == pytest.approx(predicted[of_men & (target == 0)].mean())
    assert measures["accuracy"]["value"] == pytest.approx((predicted == target)[of_men].mean())
    assert measures["calibration"]["value"] == pytest.approx(-0.2 * target[of_men].mean())
    assert measures["true_positive_rate"]["rows"] == int((of_men & (target == 1)).sum())


def test_the_gap_is_between_the_groups_farthest_apart_and_covers_the_truth():
    sex, target, probabilities, predicted = example()
    gap = compare(SEX, sex, row_measures("binary", target, probabilities, predicted))["gaps"]["selection_rate"]
    assert (gap["highest"], gap["lowest"]) == ("m", "f")
    assert gap["low"] < 0.3 < gap["high"]
    assert gap["clear"]
    assert gap["ratio"] == pytest.approx(0.5, abs=0.06)


def test_equal_groups_are_rarely_predicted_apart():
    rng = np.random.default_rng(1)
    clear = 0
    for _ in range(60):
        groups = rng.choice(list("abcdef"), 400)
        predicted = rng.integers(0, 2, 400)
        rates = row_measures("binary", rng.integers(0, 2, 400), np.full((400, 2), 0.5), predicted)
        clear += compare(SEX, groups, rates)["gaps"]["selection_rate"]["clear"]
    assert clear <= 6


def test_a_dozen_rows_all_alike_are_no_certainty():
    groups = np.array(["few"] * 32 + ["many"] * 300)
    predicted = np.r_[np.ones(32), np.tile([1, 1, 1, 1, 0], 60)].astype(np.int64)
    target = np.r_[np.ones(12), np.zeros(20), np.ones(300)].astype(np.int64)
    gap = compare(SEX, groups, row_measures("binary", target, np.full((332, 2), 0.5), predicted))["gaps"][
        "true_positive_rate"
    ]
    assert gap["highest"] == "few"
    assert not gap["clear"]


def test_small_groups_are_shown_and_not_compared():
    groups = np.array(["few"] * 5 + ["many"] * 100 + [""] * 50)
    rates = row_measures("binary", np.zeros(155, int), np.full((155, 2), 0.5), np.zeros(155, int))
    document = compare(SEX, groups, rates)
    assert [group["name"] for group in document["groups"]] == ["many", "missing", "few"]
    gap = document["gaps"]["selection_rate"]
    assert {gap["highest"], gap["lowest"]} <= {"many", "missing"}
    assert document["gaps"]["true_positive_rate"] is None
    assert "true_positive_rate" not in document["groups"][0]["measures"]


def test_a_group_needs_rows_enough_and_each_measure_counted_rows_enough():
    """The few are predicted as nobody else is, and are too few; of the some, too few are positive."""
    groups = np.array(["few"] * 29 + ["some"] * 40 + ["many"] * 100 + ["more"] * 100)
    predicted = np.r_[np.ones(29), np.zeros(40), np.tile([1, 0], 100)].astype(np.int64)
    target = np.r_[np.zeros(29), np.ones(9), np.zeros(31), np.tile([1, 1, 0, 0], 50)].astype(np.int64)
    gaps = compare(SEX, groups, row_measures("binary", target, np.full((269, 2), 0.5), predicted))["gaps"]
    assert (gaps["selection_rate"]["highest"], gaps["selection_rate"]["lowest"]) == ("many", "some")
    assert gaps["true_positive_rate"]["value"] == 0.0
    assert (
        compare(SEX, groups, row_measures("binary", target, np.full((269, 2), 0.5), predicted), min_rows=29)["gaps"][
            "selection_rate"
        ]["highest"]
        == "few"
    )


def test_a_gaps_interval_is_the_published_one():
    # 56 of 70 and 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, "Interval estimation for the difference", method 10).
    groups = np.array(["a"] * 70 + ["b"] * 80)
    predicted = np.r_[np.ones(56), np.zeros(14), np.ones(48), np.zeros(32)].astype(np.int64)
    rates = row_measures("binary", predicted, np.full((150, 2), 0.5), predicted)
    gap = compare(SEX, groups, rates)["gaps"]["selection_rate"]
    assert gap["value"] == pytest.approx(0.2)
    assert (gap["low"], gap["high"]) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_a_sensitive_columns_groups_are_numbered():
    sex, target, probabilities, predicted = example()
    column = Column("sex", "category", sensitive=True)
    document = compare(column, sex, row_measures("binary", target, probabilities, predicted))
    assert {group["name"] for group in document["groups"]} == {"group 1", "group 2"}
    assert document["gaps"]["selection_rate"]["highest"] in {"group 1", "group 2"}


def test_numbers_of_many_values_are_grouped_by_quartile_and_booleans_by_word():
    ages = group_labels(Column("age", "number"), np.r_[np.arange(100.0), np.nan])
    assert sorted(set(ages)) == ["at least 74", "below 24", "from 24 to below 49", "from 49 to below 74", "missing"]
    column = Column("b", "boolean", true_values=("ja",), false_values=("nein",))
    assert group_labels(column, np.array([0.0, 1.0, np.nan])).tolist() == ["nein", "ja", "missing"]


def test_other_tasks_have_measures_of_their_own():
    sex, _, _, _ = example(200)
    values = np.random.default_rng(0).normal(size=200)
    regression = compare(SEX, sex, row_measures("regression", values, values + (sex == "m"), np.zeros(200)))
    assert regression["gaps"]["mean_error"]["value"] == pytest.approx(1.0)
    assert regression["gaps"]["mean_error"]["ratio"] is None
    target = np.arange(200) % 3
    multiclass = compare(SEX, sex, row_measures("multiclass", target, np.eye(3)[target], target))
    assert multiclass["gaps"]["accuracy"]["value"] == 0.0


def test_wilson_is_the_published_interval():
    # 81 of 263, 95 %: 0.2553 to 0.3662 (Newcombe 1998, "Two-sided confidence intervals", table I).
    low, high = wilson(81 / 263, 263, 1.959964)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
