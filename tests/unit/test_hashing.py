"""Hashes are promises: splits, samples and folds follow from them, and are compared between runs."""

import subprocess
import sys

import numpy as np
from millrace.features import FeatureMatrix
from millrace.hashing import hash_copies, hash_rows, hash_strings, split_mix64

HASHES = [622244951608660776, 1317266120920213106]
STRING_HASHES = [13020603013274838756, 3394012004367669963, 3394012004367669963]


def features(rows: int = 1_000, seed: int = 1) -> FeatureMatrix:
    generator = np.random.default_rng(seed)
    numbers = generator.normal(size=(rows, 3)).astype(np.float32)
    numbers[generator.random((rows, 3)) < 0.1] = np.nan
    return FeatureMatrix(numbers, generator.choice(["a", "b", ""], size=(rows, 2)))


def test_split_mix64_is_the_reference_implementation():
    """Its first two outputs from seed 0."""
    golden = 0x9E3779B97F4A7C15
    states = np.array([0, golden], dtype=np.uint64)
    assert [hex(value) for value in split_mix64(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    assert split_mix64(states[:1], seed=1).tolist() == split_mix64(states[1:]).tolist()


def test_hashes_are_what_they_were():
    # A changed hash would move rows between training and holdout: these values are a promise.
    matrix = FeatureMatrix(np.array([[1.5, np.nan], [-0.0, 2.0]], np.float32), np.array([["a"], [""]]))
    assert hash_rows(matrix, np.array([0, 1])).tolist() == HASHES
    assert hash_strings(np.array(["", "é", "é"])).tolist() == STRING_HASHES


def test_hashes_are_the_same_in_another_process():
    program = (
        "import numpy as np; from millrace.hashing import hash_strings; "
        "print(hash_strings(np.array(['', 'é', 'é'])).tolist())"
    )
    output = subprocess.run(
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


def test_copies_of_a_row_are_distinguished_by_their_number_alone():
    hashes = np.array([7, 9, 7, 7, 9], dtype=np.uint64)
    ids = hash_copies(hashes)
    assert ids[[0, 1]].tolist() == [7, 9]
    assert len(set(ids.tolist())) == 5
    assert hash_copies(np.array([9, 7, 7], dtype=np.uint64))[[1, 2]].tolist() == ids[[0, 2]].tolist()
