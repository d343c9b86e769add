"""Samples and folds follow from the rows themselves, and keep what a sample must keep."""

import numpy as np
import pytest
from millrace.data.prepared import dump_split, load_split
from millrace.training.fitting import MIN_CLASS_ROWS, assign_folds, sample_positions

from tests.prepared_data import make_dataset

IDS = np.random.default_rng(0).integers(0, 2**63, 3_000).astype(np.uint64)
CLASSES = (np.arange(3_000) % 100 == 0).astype(np.int64)


def test_a_sample_keeps_the_shares_of_the_classes():
    rows = sample_positions(IDS, CLASSES, 600, seed=1)

    assert len(rows) == 600
    assert CLASSES[rows].sum() == 6
    assert (np.diff(rows) > 0).all()


def test_a_small_sample_keeps_some_rows_of_every_class_and_lies_inside_a_larger_one():
    small, large = (sample_positions(IDS, CLASSES, rows, seed=1) for rows in (50, 600))

    assert CLASSES[small].sum() == MIN_CLASS_ROWS
    assert set(small) <= set(large)
    assert set(sample_positions(IDS, CLASSES, 50, seed=2)) != set(small)


def test_a_sample_of_all_is_all():
    np.testing.assert_array_equal(sample_positions(IDS, CLASSES, 5_000, seed=1), np.arange(3_000))


def test_folds_share_rows_and_classes_evenly_and_keep_copies_of_a_row_together():
    ids = IDS.copy()
    ids[2] = ids[1]

    folds = assign_folds(ids, CLASSES, 5, seed=1)

    assert np.bincount(folds).tolist() == pytest.approx([600] * 5, abs=2)
    assert np.bincount(folds[CLASSES == 1]).tolist() == pytest.approx([6] * 5, abs=1)
    assert folds[1] == folds[2]
    np.testing.assert_array_equal(assign_folds(ids[::-1], CLASSES[::-1], 5, seed=1)[::-1], folds)


def test_some_rows_are_read_as_if_all_had_been(monkeypatch):
    monkeypatch.setattr("millrace.data.prepared.BLOCK_ROWS", 7)
    split = make_dataset("multiclass", "missing values").splits["train"]
    rows = np.array([0, 1, 6, 7, 8, 50, 199])

    some = load_split(dump_split(split), lambda *_: rows)

    whole = split.take(rows)
    np.testing.assert_array_equal(some.features.numbers, whole.features.numbers)
    np.testing.assert_array_equal(some.features.strings, whole.features.strings)
    np.testing.assert_array_equal(some.target, whole.target)
    np.testing.assert_array_equal(some.row_ids, whole.row_ids)


@pytest.mark.parametrize("mix_of", ["numbers only", "strings only"])
def test_some_rows_of_a_split_without_one_of_the_matrices(mix_of):
    split = make_dataset("binary", mix_of).splits["train"]

    some = load_split(dump_split(split), lambda *_: np.array([3, 5]))

    assert some.features.numbers.shape == (2, split.features.numbers.shape[1])
    assert some.features.strings.shape == (2, split.features.strings.shape[1])
