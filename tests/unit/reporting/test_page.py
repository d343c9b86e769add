"""A page stands alone: it asks nothing of a network, and nothing in it could run that is not its own."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from millrace.reporting.blocks import TableColumn, badge, callout, filter_box, folded, pairs, table, tiles
from millrace.reporting.html import Html, element
from millrace.reporting.page import Section, render_page

ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page() -> str:
    content = table([TableColumn(ATTACK), TableColumn("n", "number")], [(ATTACK, "1")], caption=ATTACK, filter_name="t")
    return render_page(
        title=ATTACK,
        kicker="Report",
        badge=badge(ATTACK, "bad"),
        subtitle=ATTACK,
        summary=tiles([(ATTACK, ATTACK, ATTACK)]),
        sections=[Section("one", ATTACK, content, ATTACK), Section("two", "Second", folded(ATTACK, ATTACK))],
        footer=[callout(ATTACK, [ATTACK]), pairs([(ATTACK, ATTACK)]), filter_box("t", ATTACK)],
    )


def test_no_value_becomes_markup(page):
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 15


class Addresses(HTMLParser):
    """Every address that a browser would look at."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset", "poster")]


def test_nothing_is_loaded_from_anywhere(page):
    reader = Addresses()
    reader.feed(page)
    assert reader.found
    assert all(address.startswith("#") for address in reader.found)
    assert "url(" not in page
    assert "@import" not in page


def test_the_policy_allows_this_style_and_this_script_alone(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#x27;", "'")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]*\sstyle=", page), "the policy refuses style attributes"


def test_headings_contents_and_language_are_there_for_who_cannot_see_the_page(page):
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    for name in ("one", "two"):
        assert f'href="#{name}"' in page
        assert f'<section id="{name}" aria-labelledby="{name}-title">' in page
    assert '<th scope="col">' in page
    assert '<th scope="row">' in page
    assert "<caption" in page
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page


def test_the_filter_is_hidden_until_a_script_shows_it():
    assert " hidden>" in filter_box("t", "Find:").split("</div>")[0].split(">")[0] + ">"


def test_a_badge_says_in_words_what_its_colour_says():
    assert badge("rejected", "bad") == '<span class="badge bad">rejected</span>'


def test_a_table_refuses_rows_that_do_not_fit_its_heads():
    with pytest.raises(ValueError, match="zip"):
        table([TableColumn("a"), TableColumn("b")], [("only one",)], caption="c")


def test_cells_may_hold_html():
    assert element("b", "x") in table([TableColumn("a")], [(Html("<b>x</b>"),)], caption="c")
