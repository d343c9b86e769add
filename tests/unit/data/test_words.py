"""Counting words by their hashes gives what counting the words themselves does."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.profile import TOP_VALUES, describe_strings, describe_texts
from millrace.data.typed_table import count_distinct, hash_text

words = st.lists(st.sampled_from(["a", "b", "é", "long word", "", None, *map(str, range(40))]), max_size=120)


def parts_of(drawn, size):
    return lambda: (pa.array(drawn[start : start + size], type=pa.string()) for start in range(0, len(drawn), size))


@settings(deadline=None)  # the machine may be busy
@given(words, st.integers(1, 50))
def test_text_is_described_as_words_are(drawn, size):
    known = [word for word in drawn if word]
    averaged = np.arange(len(known), dtype=np.float64)
    found = describe_texts(parts_of(drawn, size), averaged)
    counts = Counter(known)  # by count, and among equals by the first place
    expected = sorted(counts.most_common(TOP_VALUES), key=lambda pair: (-pair[1], pair[0]))
    assert [(entry["value"], entry["count"]) for entry in found["top"]] == expected
    for entry in found["top"]:
        assert np.isclose(entry["target_mean"], np.mean([i for i, word in enumerate(known) if word == entry["value"]]))
    assert found["distinct"] == len(counts)
    assert found["singletons"] == sum(count == 1 for count in counts.values())
    assert found["other"] == len(known) - sum(count for _, count in expected)
    lengths = [len(word) for word in known]
    assert found["length"]["minimum"] == min(lengths, default=None)
    assert found["length"]["maximum"] == max(lengths, default=None)
    assert found["length"]["mean"] == (sum(lengths) / len(lengths) if lengths else None)


@given(words)
def test_strings_in_memory_are_described_alike(drawn):
    known = np.array([word for word in drawn if word], dtype=object)
    assert describe_strings(known, None) == describe_texts(parts_of(drawn, 7), None)


@settings(deadline=None)  # the machine may be busy
@given(words, st.integers(1, 50))
def test_different_words_are_counted(drawn, size):
    assert count_distinct(parts_of(drawn, size)()) == len(Counter(drawn))


def test_dictionaries_are_hashed_as_their_words():
    plain = pa.array(["b", "a", "b"])
    assert hash_text(plain).tolist() == hash_text(plain.dictionary_encode()).tolist()
