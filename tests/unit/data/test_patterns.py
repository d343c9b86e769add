"""Words held to patterns many at a time: the verdict is the same as word by word."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data import row_rules
from millrace.data.row_rules import GROUP, unmatched

PIECES = [
    *("a", "b?", "[ab]+", "[a-c1]", r"\d", r"\w*", ".", "(ab|c)", "a{1,2}", " ", r"\.", "(a|)", "é"),
    *("[^a]", r"\s", r"\D", r"\W", "(?s).", "(?i)A", "[[:space:]]", "[[:^alpha:]]", r"\n", "\n", r"\x0a", "^", "$"),
    *(r"[\s]", r"[a\n]", r"\pZ", r"\b", r"\[^a]"),
]
words = st.one_of(st.none(), st.text(st.sampled_from("ab c1.\né[^]"), max_size=4))


def word_by_word(values, pattern):
    return [
        position
        for position, value in enumerate(values)
        if value is not None and len(unmatched(pa.array([value], pa.string()), pattern))
    ]


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    st.lists(words, min_size=1, max_size=8),
    st.lists(words, max_size=3),
)
def test_many_words_are_judged_as_each_alone(pattern, common, rare):
    values = common * (2 * GROUP) + rare
    found = unmatched(pa.array(values, pa.string()), pattern)
    assert found.tolist() == word_by_word(values, pattern)


def test_lines_of_one_word_are_no_words():
    values = ["ab"] * GROUP + ["ab\nab"] + ["ab"] * GROUP
    assert unmatched(pa.array(values), "ab").tolist() == [GROUP]


def test_a_slice_is_judged_as_itself():
    whole = pa.array(["x\ny"] + ["ab"] * 100 + ["b"] + ["ab"] * 100)
    assert unmatched(whole.slice(1), "ab").tolist() == [100]


@pytest.mark.parametrize("pattern", [r"[a-z0-9]+@[a-z]+\.com", r"[A-Z]{2}-[0-9]{4}", r"(\d+|n/a) ?\w*", r"a|b\[c\]"])
def test_usual_patterns_are_matched_many_at_a_time(monkeypatch, pattern):
    alone = []
    monkeypatch.setattr(row_rules, "_unmatched_alone", lambda words, _: alone.append(len(words)))
    unmatched(pa.array(["~"] * GROUP * 3), pattern)
    assert alone == [GROUP * 3]  # every group had to be looked at again
    matching = {"[": "a1@b.com", "[A": "AB-1234", "(": "12 ab", "a": "a"}
    word = matching.get(pattern[:2]) or matching[pattern[0]]
    unmatched(pa.array([word] * GROUP * 3), pattern)
    assert alone == [GROUP * 3, 0]


@pytest.mark.parametrize(
    "pattern",
    [
        *("a[^x]b", "(?s)a.b", r"a\sb", r"a\Db", r"a\Wb", "a[[:space:]]b", "a[[:^alpha:]]b", r"a\nb", "a\nb"),
        *(r"a\x0ab", r"a[\s]b", r"a\PLb", "(?P<all>(?s)a.b)"),
    ],
)
def test_a_line_break_between_words_is_never_part_of_one(pattern):
    # Joined, each group is a row of "a\nb", which these patterns match.
    assert len(unmatched(pa.array(["a\nb"]), pattern)) == 0
    assert unmatched(pa.array(["a", "b"] * GROUP), pattern).tolist() == list(range(2 * GROUP))


def test_a_pattern_that_is_too_large_twice_is_matched_word_by_word():
    assert unmatched(pa.array(["a", "b" * 29_970] * GROUP), ".{999}" * 30).tolist() == list(range(0, 2 * GROUP, 2))
