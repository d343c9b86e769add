"""A row's side follows from what it is, and every class is on every side."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data.splits import assign_sides, hash_copies, hash_rows, hash_strings
from millrace.features import FeatureMatrix
from millrace.layout import SPLITS

HASHES = [622244951608660776, 1317266120920213106]
STRING_HASHES = [13020603013274838756, 3394012004367669963, 3394012004367669963]


def features(rows: int = 1_000, seed: int = 1) -> FeatureMatrix:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, 3)).astype(np.float32)
    numbers[generator.random((rows, 3)) < 0.1] = np.nan
    return FeatureMatrix(numbers, generator.choice(["a", "b", ""], size=(rows, 2)))


def test_hashes_are_what_they_were():
    # A changed hash would move rows between training and holdout: these values are a promise.
    matrix = FeatureMatrix(np.array([[1.5, np.nan], [-0.0, 2.0]], np.float32), np.array([["a"], [""]]))
    assert hash_rows(matrix, np.array([0, 1])).tolist() == HASHES
    assert hash_strings(np.array(["", "é", "é"])).tolist() == STRING_HASHES


def test_hashes_are_the_same_in_another_process():
    program = (
        "import numpy as np; from millrace.data.splits import hash_strings; "
        "print(hash_strings(np.array(['', 'é', 'é'])).tolist())"
    )
    output = subprocess.run(  # noqa: S603  # our own interpreter
        [sys.executable, "-X", "utf8", "-c", program],
        capture_output=True,
        check=True,
        text=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
    )
    assert output.stdout.strip() == str(STRING_HASHES)


def test_equal_rows_have_equal_hashes_and_others_do_not():
    zero = FeatureMatrix(np.array([[0.0], [-0.0], [np.nan]], np.float32), np.array([["a"], ["a"], ["a"]]))
    hashes = hash_rows(zero, np.array([1, 1, 1]))
    assert hashes[0] == hashes[1] != hashes[2]
    matrix = features()
    assert len(np.unique(hash_rows(matrix, np.arange(1_000)))) == 1_000
    swapped = FeatureMatrix(np.array([[1.0, 2.0], [2.0, 1.0]], np.float32), np.empty((2, 0), np.str_))
    assert len(np.unique(hash_rows(swapped, np.zeros(2)))) == 2


def test_shares_are_as_promised():
    ids = hash_rows(features(20_000), np.arange(20_000))
    sides = assign_sides(ids, np.zeros(20_000, np.int64), seed=0)
    shares = [len(sides[name]) / 20_000 for name in SPLITS]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.015)


def test_a_row_keeps_its_side_when_more_rows_come():
    matrix, target = features(2_000), np.arange(2_000) % 2
    ids = hash_rows(matrix, target)
    few = assign_sides(ids[:1_000], target[:1_000], seed=3)
    many = assign_sides(ids[::-1], target[::-1], seed=3)
    for name in SPLITS:
        assert set(ids[few[name]]) <= set(ids[::-1][many[name]])


def test_another_seed_is_another_split():
    ids = hash_rows(features(), np.arange(1_000))
    groups = np.zeros(1_000, np.int64)
    assert assign_sides(ids, groups, 0)["test"].tolist() != assign_sides(ids, groups, 1)["test"].tolist()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 5))
def test_every_row_is_on_one_side_equal_rows_together_and_no_class_is_absent(rows, seed):
    ids = hash_strings(np.array([f"{value}-{group}" for value, group in rows]))
    groups = np.array([group for _, group in rows], np.int64)
    sides = assign_sides(ids, groups, seed)
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
    straight = assign_sides(ids, groups, 0)
    shuffled = assign_sides(ids[order], groups[order], 0)
    for name in SPLITS:
        assert set(ids[straight[name]]) == set(ids[order][shuffled[name]])


def test_copies_of_a_row_are_told_apart_by_their_number_alone():
    hashes = np.array([7, 9, 7, 7, 9], dtype=np.uint64)
    ids = hash_copies(hashes)
    assert ids[[0, 1]].tolist() == [7, 9]
    assert len(set(ids.tolist())) == 5
    assert hash_copies(np.array([9, 7, 7], dtype=np.uint64))[[1, 2]].tolist() == ids[[0, 2]].tolist()


@pytest.mark.parametrize("distinct", [4, 32])
def test_few_distinct_rows_are_split_without_contradiction(distinct):
    generator = np.random.default_rng(0)
    differences = []
    for seed in range(20):
        kind = generator.integers(0, distinct, 2_000)
        share = generator.random(distinct)[kind]
        target = (generator.random(2_000) < share).astype(np.int64)
        matrix = FeatureMatrix(kind[:, None].astype(np.float32), np.empty((2_000, 0), dtype=np.str_))
        sides = assign_sides(hash_copies(hash_rows(matrix, target)), target, seed)
        for value in range(distinct):
            rates = [target[rows][kind[rows] == value].mean() for rows in (sides["train"], sides["test"])]
            differences.append(abs(rates[0] - rates[1]))
    # Two samples of one rate differ by chance; sides that contradict each other differ by nearly one.
    assert np.mean(differences) < 0.15
