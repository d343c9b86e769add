"""A row's split follows from its content, and every class is in every split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.splits import assign_splits
from millrace.features import FeatureMatrix
from millrace.hashing import hash_copies, hash_rows, hash_strings
from millrace.layout import SPLITS


def features(rows: int = 1_000, seed: int = 1) -> FeatureMatrix:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, 3)).astype(np.float32)
    numbers[generator.random((rows, 3)) < 0.1] = np.nan
    return FeatureMatrix(numbers, generator.choice(["a", "b", ""], size=(rows, 2)))


def test_shares_are_as_promised():
    ids = hash_rows(features(20_000), np.arange(20_000))
    sides = assign_splits(ids, np.zeros(20_000, np.int64), seed=0)
    shares = [len(sides[name]) / 20_000 for name in SPLITS]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.015)


def test_a_row_keeps_its_side_when_more_rows_come():
    matrix, target = features(2_000), np.arange(2_000) % 2
    ids = hash_rows(matrix, target)
    few = assign_splits(ids[:1_000], target[:1_000], seed=3)
    many = assign_splits(ids[::-1], target[::-1], seed=3)
    for name in SPLITS:
        assert set(ids[few[name]]) <= set(ids[::-1][many[name]])


def test_another_seed_is_another_split():
    ids = hash_rows(features(), np.arange(1_000))
    groups = np.zeros(1_000, np.int64)
    assert assign_splits(ids, groups, 0)["test"].tolist() != assign_splits(ids, groups, 1)["test"].tolist()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 5))
def test_every_row_is_on_one_side_equal_rows_together_and_no_class_is_absent(rows, seed):
    ids = hash_strings(np.array([f"{value}-{group}" for value, group in rows]))
    groups = np.array([group for _, group in rows], np.int64)
    sides = assign_splits(ids, groups, seed)
    assert sorted(np.concatenate([sides[name] for name in SPLITS]).tolist()) == list(range(len(rows)))
    found = [set(ids[sides[name]].tolist()) for name in SPLITS]
    assert sum(map(len, found)) == len(set().union(*found))
    for group in set(groups.tolist()):
        if len(set(ids[groups == group].tolist())) >= 3:
            assert all((groups[sides[name]] == group).any() for name in SPLITS)


def test_the_order_of_rows_does_not_matter():
    ids = hash_rows(features(30), np.arange(30))
    groups = np.arange(30) % 8
    order = np.random.default_rng(0).permutation(30)
    straight = assign_splits(ids, groups, 0)
    shuffled = assign_splits(ids[order], groups[order], 0)
    for name in SPLITS:
        assert set(ids[straight[name]]) == set(ids[order][shuffled[name]])


@pytest.mark.parametrize("distinct", [4, 32])
def test_few_distinct_rows_are_split_without_contradiction(distinct):
    generator = np.random.default_rng(0)
    differences = []
    for seed in range(20):
        kind = generator.integers(0, distinct, 2_000)
        share = generator.random(distinct)[kind]
        target = (generator.random(2_000) < share).astype(np.int64)
        matrix = FeatureMatrix(kind[:, None].astype(np.float32), np.empty((2_000, 0), dtype=np.str_))
        sides = assign_splits(hash_copies(hash_rows(matrix, target)), target, seed)
        for value in range(distinct):
            rates = [target[rows][kind[rows] == value].mean() for rows in (sides["train"], sides["test"])]
            differences.append(abs(rates[0] - rates[1]))
    # Two samples of one rate differ by chance; sides that contradict each other differ by nearly one.
    assert np.mean(differences) < 0.15
