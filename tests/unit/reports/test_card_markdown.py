"""Text of data and spec in a card's Markdown is text: no HTML, link, image, heading, list or code comes of it."""

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from millrace.reports.formatting import fence, markdown, markdown_code

from tests.unit.reports.test_model_card import make_card, markdown_of

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
FRAGMENTS = [
    "<script>alert(1)</script>", "<img src=http://127.0.0.1:9/x onerror=y>", "<details open ontoggle=z>",
    "<!--", "-->", "[x](javascript:1)", "![i](http://e/i.png)", "[x]: http://e", "<http://e>",
    "http://evil.example", "www.evil.example", "`", "```", "~~~", "|", "\\", "\\`", "\n", "\n```\n",
    "\n# h\n", "\n---\n", "\n- a", "\n1. b", "\n> q", "    code", "===", "*a*", "__b__", "~~c~~", "&lt;",
    "&#60;", "$x$", "@me", "<", ">", "!", "[", "]", "(", ")", "_", "a_b", "é", "\t", " ",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.characters()), max_size=8).map(
    lambda parts: "".join(parts) + "x"
)
HARMLESS = {"text", "text_special", "code_inline", "softbreak", "strong_open", "strong_close"}


def structure(text: str) -> tuple[list[str], set[str]]:
    """Return the types of the blocks, and those of the marks within them."""
    tokens: list[Token] = PARSER.parse(text)
    inline = {child.type for token in tokens for child in token.children or ()}
    return [token.type for token in tokens], inline


def written_by_others(text: str) -> dict[str, Any]:
    """Return a card in which every text that is not ours is ``text``."""
    card = copy.deepcopy(make_card("binary"))
    evaluation = card["evaluation"]
    one_paragraph = re.sub("\n{2,}", "\n", text)
    card["stated"] = {"limitations": one_paragraph, "owner": one_paragraph}
    card["data"]["findings"] = [{"check": "leakage", "severity": "warning", "message": text}]
    card["data"]["datasets"][0]["dataset_id"] = text
    evaluation["reasons"] = [text]
    evaluation["threshold"]["positive_class"] = text
    evaluation["fit"]["explanation"] = text
    for part in (*evaluation["slices"], *evaluation["importance"]["columns"]):
        part["name"] = text
    evaluation["target"] = text
    for entry in evaluation["leaderboard"]:
        entry["reason"] = text
    for check in evaluation["gate"]:
        check |= {"name": text, "explanation": text}
    for column in evaluation["fairness"]:
        column["column"] = text
        for gap in column["gaps"].values():
            if gap:
                gap |= {"highest": text, "lowest": text}
    for column in card["schema"]["columns"]:
        column["name"] = text
    card["example"] = {text: text}
    return card


@given(TEXTS)
def test_foreign_text_changes_nothing_of_a_card_but_its_text(text):
    blocks, inline = structure(markdown_of(written_by_others(text)))
    plain_blocks, _ = structure(markdown_of(written_by_others("x")))

    assert blocks == plain_blocks
    assert inline <= HARMLESS


@given(TEXTS)
def test_escaped_text_reads_as_it_was(text):
    (paragraph,) = [token for token in PARSER.parse(f"{markdown(text)}\n") if token.type == "inline"]
    shown = "".join(child.content for child in paragraph.children or ())

    assert {child.type for child in paragraph.children or ()} <= {"text", "text_special"}
    assert shown.split() == " ".join(text.replace("\0", "\ufffd").split()).split()


@pytest.mark.parametrize("text", ["https://evil.example/a", "www.evil.example", "ask me@evil.example"])
def test_addresses_are_not_linked_by_themselves(text):
    assert all(part not in markdown(text) for part in ("s://", "www.", "me@"))


def test_words_of_ours_stay_readable():
    explanation = "rmse is 25,870 and must be at most 20,000; roc_auc, log_loss (version 3)"
    assert markdown(explanation) == explanation


@given(TEXTS)
def test_a_code_span_and_a_code_block_hold_their_text(text):
    (paragraph,) = [token for token in PARSER.parse(f"`{markdown_code(text)}` end\n") if token.type == "inline"]
    assert [child.type for child in paragraph.children or ()] == ["code_inline", "text"]
    line = json.dumps(text, ensure_ascii=False)
    tokens = PARSER.parse(f"{fence(line)}\n{line}\n{fence(line)}\n")
    assert [token.type for token in tokens] == ["fence"]
