"""Counting words by their hashes gives what counting the words themselves does."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.profile import describe_strings, describe_texts
from millrace.data.typed_table import count_distinct, hash_text

words = st.lists(st.sampled_from(["a", "b", "é", "long word", "", None, *map(str, range(40))]), max_size=120)


def parts_of(drawn, size):
    return lambda: (pa.array(drawn[start : start + size], type=pa.string()) for start in range(0, len(drawn), size))


@settings(deadline=None)  # the machine may be busy
@given(words, st.integers(1, 50))
def test_text_is_described_as_words_are(drawn, size):
    known = np.array([word for word in drawn if word], dtype=object)
    averaged = np.arange(len(known), dtype=np.float64)
    found = describe_texts(parts_of(drawn, size), averaged)
    expected = describe_strings(known, averaged)
    for entry, other in zip(found["top"], expected["top"], strict=True):
        assert (entry["value"], entry["count"]) == (other["value"], other["count"])
        assert np.isclose(entry["target_mean"], other["target_mean"])
    assert {**found, "top": [], "length": []} == {**expected, "top": [], "length": []}
    assert found["length"]["minimum"] == expected["length"]["minimum"]
    assert found["length"]["maximum"] == expected["length"]["maximum"]


@settings(deadline=None)  # the machine may be busy
@given(words, st.integers(1, 50))
def test_different_words_are_counted(drawn, size):
    assert count_distinct(parts_of(drawn, size)()) == len(Counter(drawn))


def test_dictionaries_are_hashed_as_their_words():
    plain = pa.array(["b", "a", "b"])
    assert hash_text(plain).tolist() == hash_text(plain.dictionary_encode()).tolist()
