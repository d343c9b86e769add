"""Pages stand alone, escape every value, and never use a value that a document may lack."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from millrace.card import ModelCard
from millrace.reports import render_dataset_report
from millrace.reports.model_card import render_card
from millrace.reports.monitoring_report import render_monitoring_report
from millrace.reports.render import TEMPLATES, environment
from millrace.schema import TASKS

from tests.unit.reports import documents
from tests.unit.reports.test_model_card import markdown_of, page_of
from tests.unit.reports.test_release_page import render_release

MACROS = environment().get_template("macros.html").module


def render_with_service(service: dict[str, Any]) -> str:
    return render_card(ModelCard.read(documents.minimal_card()), service)


PAGES: dict[str, tuple[Callable[[Any], str], Callable[[], dict[str, Any]]]] = {
    "dataset": (render_dataset_report, documents.full_dataset),
    "dataset, minimal": (render_dataset_report, documents.minimal_dataset),
    **{f"card, {task}": (page_of, lambda task=task: documents.full_card(task)) for task in TASKS},
    "card, minimal": (page_of, documents.minimal_card),
    "monitoring": (render_monitoring_report, documents.full_monitoring),
    "monitoring, minimal": (render_monitoring_report, documents.minimal_monitoring),
    "card with its service": (render_with_service, documents.full_service),
    "release": (render_release, documents.full_release),
    "release, minimal": (render_release, documents.minimal_release),
}
VOID = {"meta", "input", "br"}
#: Values that choose a branch, a colour or a format; every other string of a document is free text.
CODES = {
    "accepted", "rejected", "error", "warning", "auc", "spearman", "cramers_v", "correlation_ratio", "binary",
    "multiclass", "regression", "feature", "target", "ignored", "identifier", "integer", "number", "category",
    "datetime", "text", "boolean", "time", "group", "promote", "keep", "reject", "expected_cost", "empirical", "alarm",
    "breach", "ok", "unknown", "off", "staleness", "feature_drift", "succeeded", "failed", "sound",
    "overfit", "underfit", "validation", "out_of_fold", "slice", "class", "prediction",
    "running", "rolled_back", "serve", "replay", "errors", "slow", "release_advanced", "quality", "accuracy",
}  # fmt: skip
HOSTILE = "</style></title></svg><script>alert(1)</script>\"' onload='x' javascript:alert(1) ]]> {{ 7*7 }} <!--"


@pytest.fixture(scope="module", params=PAGES)
def page(request) -> str:
    render, build = PAGES[request.param]
    return render(build())


class Page(HTMLParser):
    """A page as a browser reads it: its elements and its text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def poison(value: Any) -> Any:
    """Put markup into every string of a document that is neither a code, a timestamp nor a key."""
    if isinstance(value, dict):
        if isinstance(value.get("classes"), dict):  # names of classes are text that stands in a key
            value = value | {"classes": {f"{name}{HOSTILE}": rows for name, rows in value["classes"].items()}}
        return {key: poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    is_text = isinstance(value, str) and value and value not in CODES and not value.startswith("202")
    return f"{value}{HOSTILE}" if is_text else value


@pytest.mark.parametrize("name", PAGES)
def test_a_hostile_string_is_text_wherever_it_stands(name):
    render, build = PAGES[name]
    document = poison(build())
    if "evaluation" in document:
        evaluation, clean = document["evaluation"], build()["evaluation"]
        # Names of metrics are keys elsewhere, so they are not free text.
        evaluation |= {key: clean[key] for key in ("primary_metric", "learning_curve") if key in clean}
    shown, expected = Page(render(document)), Page(render(build()))
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in expected.tags]
    assert [sorted(given) for _, given in shown.tags] == [sorted(given) for _, given in expected.tags]
    assert "<script>alert(1)</script>" in shown.text
    addresses = [given.get("href") for _, given in shown.tags if "href" in given]
    assert all(str(address).startswith("#") for address in addresses)


def test_hostile_names_in_charts_stay_text():
    shown = Page(render_monitoring_report(poison(documents.full_monitoring())))
    inside = [given for tag, given in shown.tags if tag == "svg" and given.get("role") == "img"]
    assert any("<script>" in str(given["aria-label"]) for given in inside)


def test_markdown_shows_markup_as_text():
    card = documents.full_card("binary")
    text = markdown_of(poison(card) | {"version": card["version"], "example": {}})
    shown = re.sub(r"`[^`]*`", "", text.split("## Usage", maxsplit=1)[0])
    assert "alert(1)" in shown
    assert "<script>" not in shown


@given(st.text(), st.text())
def test_any_text_stays_text(content, caption):
    shown = Page(str(MACROS.callout(content, [caption])))
    assert [tag for tag, _ in shown.tags] == ["div", "strong", "ul", "li"]


def test_characters_that_cannot_be_shown_or_reorder_text_are_replaced():
    document = documents.minimal_dataset() | {"model": "a\x00b\u202ec\ud800d\ttab é 漢 \U0001f600"}
    shown = render_dataset_report(document)
    assert "<h1>a\ufffdb\ufffdc\ufffdd\ttab é 漢 \U0001f600</h1>" in shown
    shown.encode()


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()


def test_templates_never_mistake_a_method_of_a_mapping_for_its_value():
    methods = {name for name in dir(dict) if not name.startswith("_")}
    for path in TEMPLATES.iterdir():
        code = " ".join(re.findall(r"\{[{%](.*?)[%}]\}", path.read_text(encoding="utf-8"), re.DOTALL))
        used = {name for name in re.findall(r"\.(\w+)\b(?!\()", code) if name in methods}
        assert not used, f"{path.name}: {used}"


def test_documents_as_they_are_stored_give_the_same_page():
    for render, build in PAGES.values():
        document = build()
        assert render(document) == render(json.loads(json.dumps(document)))


def test_nothing_is_loaded_from_anywhere(page):
    found = [
        value
        for _, attributes in Page(page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset", "poster")
    ]
    assert found
    assert all(str(address).startswith("#") for address in found)
    assert "url(" not in page
    assert "@import" not in page
    assert "{{" not in page


def test_the_policy_allows_this_style_and_this_script_alone(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]*\s(style|on\w+)=", page), "the policy refuses them"


def test_headings_contents_and_language_are_there_for_screen_readers(page):
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page
    assert page.count("<h1>") == 1
    sections = re.findall(r'<section id="(\w+)" aria-labelledby="(\w+)-title">', page)
    assert sections
    assert all(name == title for name, title in sections)
    assert re.findall(r'<li><a href="#(\w+)">', page) == [name for name, _ in sections]
    assert page.count("<table") == page.count("<caption")
    assert 'name="viewport" content="width=device-width, initial-scale=1"' in page


def test_the_filter_is_hidden_until_a_script_shows_it():
    assert re.match(r'\s*<div class="filter" data-for="t" hidden>', str(MACROS.filter_box("t", "Find:")))


def test_a_badge_has_a_text_beside_its_colour():
    assert MACROS.badge("rejected", "bad") == '<span class="badge bad">rejected</span>'


def test_points_beyond_those_shown_are_counted():
    shown = MACROS.callout("head", list("abcde"), shown=3)
    assert re.findall(r"<li>(.*?)</li>", shown) == ["a", "b", "c", "2 more, below"]
    assert "more" not in MACROS.callout("head", list("abc"), shown=3)


def test_points_that_stand_nowhere_else_are_folded():
    shown = str(MACROS.callout("head", list("abcde"), shown=3, folds=True))
    assert re.findall(r"<li>(.*?)</li>", shown) == list("abcde")
    assert "<summary>2 more</summary><ul><li>d</li><li>e</li></ul></details>" in shown
    assert "details" not in MACROS.callout("head", list("abc"), shown=3, folds=True)
