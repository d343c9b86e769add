"""Words become numbers: the same in every process and version, bounded, whatever the text holds."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.features import (
    MAX_CHARACTERS,
    MAX_TOKEN_LENGTH,
    count_tokens,
    fill_token_counts,
    split_tokens,
    token_counts,
)
from millrace.schema import MAX_TOKEN_COLUMNS, TOKEN_COLUMNS, Column, TableSchema


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Late AGAIN, by 2 hours!", ["late", "again", "by", "2", "hours"]),
        ("don't re-open", ["don", "t", "re", "open"]),
        ("\t\x01\x02 a\x0bb\r\n", ["a", "b"]),
        ("Straße ÉTÉ", ["strasse", "été"]),
        ("e\u0301te\u0301", ["été"]),
        ("\uff37\uff29\uff24\uff25 \u2460", ["wide", "1"]),
        ("好 служба", ["好", "служба"]),
        ("great \N{THUMBS UP SIGN}\N{GRINNING FACE}service", ["great", "service"]),
        ("\N{GRINNING FACE}", []),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("الْعَرَبِيَّة", ["الْعَرَبِيَّة"]),
        ("İstanbul naïve", ["i\u0307stanbul", "naïve"]),
    ],
)
def test_words_are_letters_and_digits_of_any_script_in_one_case(text, words):
    assert split_tokens(text) == words


def test_a_text_is_read_so_far_and_a_word_told_apart_so_far():
    assert split_tokens("a" * 10_000_000) == ["a" * MAX_TOKEN_LENGTH]
    assert len(split_tokens("ab " * MAX_CHARACTERS)) == -(-MAX_CHARACTERS // 3)
    assert split_tokens("é" * 50 + " " * MAX_CHARACTERS + "lost") == ["é" * MAX_TOKEN_LENGTH]


def test_a_words_column_and_sign_never_change():
    """Models that were trained yesterday depend on them."""
    numbers = token_counts("late delivery late", 256)
    assert numbers[0] == 3.0
    assert {place: value for place, value in enumerate(numbers[1:]) if value} == {16: -1.0, 149: -2.0}


def test_a_missing_text_is_zeros_and_has_no_count():
    assert token_counts("", 4) == [0.0] * 5
    np.testing.assert_array_equal(count_tokens(np.array(["", "two words", "!"], dtype=object)), [np.nan, 2.0, 0.0])
    np.testing.assert_array_equal(count_tokens(np.array([None, 3.0, "a"], dtype=object)), [np.nan, np.nan, 1.0])


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(1, 300))
def test_many_texts_have_the_numbers_that_each_has_alone(texts, width):
    matrix = np.empty((len(texts), 1 + width), dtype=np.float32)
    fill_token_counts(matrix, texts)
    for row, text in zip(matrix.tolist(), texts, strict=True):
        assert row == token_counts(text, width)
        assert row[0] == len(split_tokens(text))
        assert sum(map(abs, row[1:])) <= row[0]


@given(st.text(max_size=60))
def test_the_form_of_letters_does_not_matter(text):
    assert split_tokens(unicodedata.normalize("NFC", text)) == split_tokens(unicodedata.normalize("NFD", text))


@pytest.mark.parametrize(("texts", "width"), [(0, TOKEN_COLUMNS), (1, 512), (4, 512), (5, 409), (2_000, 1)])
def test_all_texts_together_have_so_many_columns(texts, width):
    columns = tuple(Column(f"t{number}", "text") for number in range(texts))
    schema = TableSchema((*columns, Column("old", "text", "ignored"), Column("y", "number", "target")), "regression")
    assert schema.token_columns == width
    assert len(schema.number_names) == texts * (1 + width) == sum(map(schema.number_width, columns))
    assert texts > MAX_TOKEN_COLUMNS or texts * width <= MAX_TOKEN_COLUMNS
