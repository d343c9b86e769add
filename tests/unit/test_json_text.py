"""JSON by orjson: what it says is what the standard library says, or the standard library is asked."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.json_text import read_json, write_json

texts = st.text(st.sampled_from('aé":{}[],\\ \n\ud800'), max_size=6)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


class Strict:
    """Reads as the standard library does, refuses repeated keys, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, text: str) -> Any:
        self.asked += 1
        return json.loads(text, object_pairs_hook=self._members)

    @staticmethod
    def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("repeated")
        return dict(pairs)


@given(documents, st.sampled_from([None, 1]), st.booleans())
def test_what_is_read_is_what_the_standard_library_reads(document, indent, ascii_only):
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    assert read_json(text, Strict()) == document


@given(documents)
def test_what_is_written_is_ascii_and_reads_as_it_was(document):
    text = write_json(document)
    assert text.isascii()
    assert json.loads(text) == document


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"rows": [{"a": 1}, {"b": 2, "b": 2}]}',
        '{"a" :1,"b": {"c"\n:1, "c": "12:00"}}',
        '{"a": [[{"b": 1, "b": 1}]]}',
        '{"\\u0061": 1, "a": 2}',
        # As many members as keys that end in a quote and a colon would be there but for the text.
        '{"a": "{", "b": 1, "b": 2}',
    ],
)
def test_a_repeated_key_is_never_overlooked(text):
    with pytest.raises(ValueError, match="repeated"):
        read_json(text, Strict())


@pytest.mark.parametrize(
    "text", ['{"data": [[1, "12:00", null]]}', '[{"a": 1, "b": {"c": []}}, {"a": "x:y"}]', "3", "[]", "{}"]
)
def test_a_plain_document_is_read_once(text):
    strict = Strict()
    assert read_json(text, strict) == json.loads(text)
    assert strict.asked == 0


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "1e999", '"\\ud800"'])
def test_what_only_the_standard_library_reads_is_left_to_it(text):
    strict = Strict()
    read_json(text, strict)
    assert strict.asked == 1


def test_an_integer_past_64_bits_is_the_nearest_float():
    assert read_json(str(2**64), Strict()) == float(2**64)
    assert write_json(2**70) == str(2**70)


def test_a_number_that_is_not_finite_is_null():
    assert write_json([math.nan, math.inf]) == "[null,null]"
    assert json.loads(write_json({"é": math.nan})) == {"é": None}


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError):
        write_json({"a": object()})
