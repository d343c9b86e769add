"""Text can never become markup, and what is markup already is not escaped twice."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.reporting.html import Html, element, escape, join, join_words


class Reader(HTMLParser):
    """What a browser would see: the elements, their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@given(st.text(), st.text())
def test_any_text_stays_text(content, attribute):
    seen = read(element("p", content, title=attribute))
    assert [tag for tag, _ in seen.tags] == ["p"]
    assert set(seen.tags[0][1]) == {"title"}
    assert "<" not in seen.text.replace("<", "", content.count("<"))


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "' onload='x", "&lt;b&gt;"])
def test_markup_in_a_value_is_shown_as_it_is_written(text):
    seen = read(element("td", text, title=text))
    assert seen.text == text
    assert seen.tags == [("td", {"title": text})]


def test_html_is_not_escaped_again_but_text_beside_it_is():
    assert element("p", element("b", "a<b"), " & c") == "<p><b>a&lt;b</b> &amp; c</p>"
    assert join(None, ["a", ["<"]], Html("<i>")) == "a&lt;<i>"


def test_html_loses_its_privilege_when_it_is_changed_as_text():
    assert join(Html("<b>") + "<i>") == "&lt;b&gt;&lt;i&gt;"


def test_attributes_without_value_and_void_elements():
    assert element("input", type="search", hidden=True, name=None, required=False) == '<input type="search" hidden>'
    assert element("p", class_="a", aria_label="x") == '<p class="a" aria-label="x"></p>'


def test_what_cannot_be_shown_or_reorders_text_is_replaced():
    assert escape("a\x00b\u202ec\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert escape("line\nand\ttab, é, 漢, \U0001f600") == "line\nand\ttab, é, 漢, \U0001f600"
    escape("\ud800").encode()


def test_words_between_pieces():
    assert join_words(["a", Html("<b>b</b>"), "<"], " · ") == "a · <b>b</b> · &lt;"
