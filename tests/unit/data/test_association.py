"""Associations agree with reference implementations, and say nothing where nothing can be said."""

import numpy as np
import pytest
from millrace.data import association
from millrace.data.association import (
    TargetValues,
    associate,
    association_rows,
    correlation_ratio,
    cramers_v,
    mann_whitney_area,
    spearman,
)
from millrace.schema import Column
from scipy import stats
from sklearn.metrics import roc_auc_score

RNG = np.random.default_rng(3)
N = 400
NUMBERS = np.round(RNG.normal(size=N), 1)
POSITIVE = NUMBERS + RNG.normal(size=N) > 0
GROUPS = RNG.integers(0, 4, N)


def test_the_area_under_the_curve_counts_ties_half():
    assert mann_whitney_area(NUMBERS, POSITIVE) == pytest.approx(roc_auc_score(POSITIVE, NUMBERS))
    assert mann_whitney_area(np.zeros(4), np.array([True, False, True, False])) == 0.5
    assert mann_whitney_area(NUMBERS, np.ones(N, dtype=bool)) is None


def test_rank_correlation_agrees_with_scipy():
    other = NUMBERS**3 + RNG.normal(size=N)
    assert spearman(NUMBERS, other) == pytest.approx(stats.spearmanr(NUMBERS, other).statistic)
    assert spearman(NUMBERS, -NUMBERS) == pytest.approx(-1)
    assert spearman(NUMBERS, np.zeros(N)) is None


def test_cramers_v_agrees_with_chi_squared_after_its_correction():
    classes = (GROUPS + (RNG.random(N) < 0.5)) % 3
    table = stats.contingency.crosstab(GROUPS, classes).count
    phi_squared = stats.chi2_contingency(table, correction=False).statistic / N
    rows, columns = table.shape
    corrected = phi_squared - (rows - 1) * (columns - 1) / (N - 1)
    smaller = min(rows - (rows - 1) ** 2 / (N - 1), columns - (columns - 1) ** 2 / (N - 1))
    assert cramers_v(GROUPS, classes) == pytest.approx(np.sqrt(corrected / (smaller - 1)))


def test_cramers_v_is_one_for_the_same_nothing_for_chance_and_unknown_for_one_value():
    assert cramers_v(GROUPS, GROUPS) == pytest.approx(1)
    assert cramers_v(np.arange(N) // 2, RNG.integers(0, 2, N)) == pytest.approx(0, abs=0.2)
    assert cramers_v(np.arange(N), GROUPS) is None
    assert cramers_v(np.zeros(N, dtype=int), GROUPS) is None


def test_the_correlation_ratio_is_what_analysis_of_variance_explains():
    numbers = GROUPS + RNG.normal(size=N)
    f = stats.f_oneway(*(numbers[group == GROUPS] for group in range(4))).statistic
    epsilon_squared = (f - 1) / (f + (N - 4) / 3)
    assert correlation_ratio(GROUPS, numbers) == pytest.approx(np.sqrt(epsilon_squared))
    assert correlation_ratio(np.zeros(N, dtype=int), numbers) is None
    assert correlation_ratio(np.arange(N), numbers) is None
    assert correlation_ratio(GROUPS, np.zeros(N)) is None


@pytest.mark.parametrize(
    ("column", "task", "measure"),
    [
        (Column("c", "number"), "binary", "auc"),
        (Column("c", "datetime"), "binary", "auc"),
        (Column("c", "number"), "multiclass", "correlation_ratio"),
        (Column("c", "integer"), "regression", "spearman"),
        (Column("c", "category"), "binary", "cramers_v"),
        (Column("c", "boolean"), "multiclass", "cramers_v"),
        (Column("c", "category"), "regression", "correlation_ratio"),
    ],
)
def test_each_pair_of_types_has_its_measure(column, task, measure):
    values = {
        "category": np.array(["a", "b", "c", "d"], dtype=object)[GROUPS],
        "boolean": (GROUPS % 2).astype(float),
        "datetime": np.datetime64("2026-01-01", "us") + GROUPS.astype("timedelta64[D]"),
    }.get(column.type, GROUPS.astype(float))
    targets = {"binary": POSITIVE.astype(np.int64), "multiclass": GROUPS, "regression": NUMBERS}
    found = associate(column, values, TargetValues(task, 4, targets[task]))
    assert found is not None
    assert found.measure == measure
    assert 0 <= found.strength <= 1


def test_missing_numbers_and_targets_are_left_out_and_missing_words_are_a_category():
    target = POSITIVE.astype(np.int64)
    target[:50] = -1
    gaps = NUMBERS.copy()
    gaps[50:100] = np.nan
    found = associate(Column("c", "number"), gaps, TargetValues("binary", 2, target))
    assert found.value == pytest.approx(roc_auc_score(target[100:], NUMBERS[100:]))
    words = np.where(POSITIVE, "", "there").astype(object)
    assert associate(Column("c", "category"), words, TargetValues("binary", 2, target)).strength == pytest.approx(1)


def test_a_few_rows_associate_with_nothing():
    few = slice(0, association.MIN_ASSOCIATION_ROWS - 1)
    target = TargetValues("binary", 2, POSITIVE[few].astype(np.int64))
    assert associate(Column("c", "number"), NUMBERS[few], target) is None
    assert associate(Column("c", "number"), np.full(N, np.nan), TargetValues("regression", 0, NUMBERS)) is None


def test_long_tables_are_sampled_the_same_way_each_time(monkeypatch):
    monkeypatch.setattr(association, "MAX_ASSOCIATION_ROWS", 100)
    rows = association_rows(1000)
    assert len(rows) == len(set(rows.tolist())) == 100
    assert rows.tolist() == sorted(rows.tolist()) == association_rows(1000).tolist()
    assert association_rows(100).tolist() == list(range(100))
