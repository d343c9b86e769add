"""The dataset report shows what was stored about an upload, all of it escaped, and nothing that is sensitive."""

import copy
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from millrace.data.profile import profile_table
from millrace.data.typed_table import TypedTable
from millrace.documents import to_plain
from millrace.reports import render_dataset_report
from millrace.reports.dataset_report import MAX_CARDS
from millrace.schema import Column, ColumnRules, TableSchema

ATTACK = "<script>alert('x')</script>"
N = 300
ROWS = np.arange(N)
FINDING = {
    "severity": "warning",
    "check": "range",
    "column": "age",
    "message": "12 values of 'age' are out of range",
    "count": 12,
    "share": 0.04,
    "examples": ["-1", "200"],
    "rows": [{"line": 17, "value": "-1"}, {"line": 1204, "value": "200"}],
}
ROW = {"line": 4321, "reason": "'age' should be a number, not 'old'", "column": "age", "value": "old", "text": "7,old"}


def build(task: str = "binary", classes: tuple[str, ...] = ("no", "yes"), extra: int = 0) -> dict[str, Any]:
    columns = [
        Column("key", "integer", "identifier", reason="named like an identifier"),
        Column("age", "number", nullable=True, minimum=0.0, maximum=90.0, rules=ColumnRules(maximum=120.0)),
        Column("since", "datetime", minimum=0.0, maximum=1e9),
        Column("plan", "category", categories=("basic", "gold plan", ATTACK)),
        Column("notes", "text", "ignored", reason="free text"),
        *(Column(f"extra_{i:03d}", "number") for i in range(extra)),
        Column("y", "number" if task == "regression" else "category", "target"),
    ]
    arrays = {
        "key": np.array([f"secret-key-{i}" for i in ROWS], dtype=object),
        "age": np.where(ROWS % 10 == 0, np.nan, ROWS * 0.3),
        "since": np.datetime64("2024-01-01", "us") + ROWS * 86_400_000_000,
        "plan": np.array(["basic", "gold plan", ATTACK], dtype=object)[ROWS % 3],
        "notes": np.array([f"private note {i}" for i in ROWS], dtype=object),
        **{f"extra_{i:03d}": (ROWS * (i + 7) % 101).astype(float) for i in range(extra)},
        "y": ROWS * 2.0 if task == "regression" else np.array(classes, dtype=object)[ROWS % len(classes)],
    }
    schema = TableSchema(tuple(columns), task, classes)
    validation = {
        "file": "incoming/churn/may.csv",
        "version_id": "v-1",
        "uploaded_at": "2026-05-03T14:15:00+00:00",
        "run_id": "20260503T141500-0f3a9c2b7d1e",
        "dataset_id": "ab" * 32,
        "outcome": "accepted",
        "reasons": [],
        "rows": N + 75,
        "usable_rows": N,
        "quarantined_rows": 75,
        "format": {"format": "delimited text", "encoding": "utf-8"},
        "target": "y",
        "task": task,
        "classes": list(classes),
        "columns": [{"name": c.name, "type": c.type, "role": c.role, "reason": c.reason} for c in columns],
        "findings": [FINDING],
    }
    document = {
        "model": "churn",
        "validation": validation,
        "profile": profile_table(TypedTable(schema, arrays, N)),
        "manifest": {"dataset_id": "ab" * 32, "schema_version": 3, "sha256": {"data.parquet": "cd" * 32}},
        "schema": schema.to_dict(),
        "quarantine": [ROW | {"line": 4000 + i} for i in range(50)],
        "datasheet": {"motivation": "To keep customers.\n\nAnd to learn why they go."},
        "split": {"by": "time", "column": "since", "test_share": 0.2, "validation_share": 0.1},
    }
    return to_plain(document)


class Page(HTMLParser):
    """A page as a reader sees it: its text by section, and every element."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.markup = markup
        self.sections: dict[str, str] = {"": ""}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._section, self._skipped = "", False
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._skipped = tag in ("style", "script")
        if tag == "section":
            self._section = dict(attrs)["id"]
            self.sections[self._section] = ""

    def handle_endtag(self, tag):
        self._skipped = False
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if not self._skipped:
            self.sections[self._section] += data + " "

    @property
    def text(self) -> str:
        return " ".join(self.sections.values())

    def count(self, tag: str, css_class: str = "") -> int:
        return sum(
            name == tag and css_class in (attributes.get("class") or "").split() if css_class else name == tag
            for name, attributes in self.tags
        )


def page(document: dict[str, Any]) -> Page:
    return Page(render_dataset_report(document))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return build()


@pytest.fixture
def changed(document) -> dict[str, Any]:
    return copy.deepcopy(document)


@pytest.fixture(scope="module")
def seen(document) -> Page:
    return page(document)


def test_the_header_says_what_became_of_which_upload(seen):
    head = seen.sections[""]
    for told in ("churn", "accepted", "abababababab", "may.csv", "2026-05-03 14:15 UTC", "300", "of 375 in the file"):
        assert told in head
    assert "rejected" not in head


def test_findings_show_severity_check_column_count_share_and_examples(seen):
    checks = seen.sections["checks"]
    for told in ("warning", "range", "age", FINDING["message"], "12 affected (4.0 %)", "line 1,204", "200"):
        assert told in checks


def test_errors_come_before_warnings(changed):
    changed["validation"]["findings"].append(FINDING | {"severity": "error", "message": "worse"})
    checks = page(changed).sections["checks"]
    assert checks.index("worse") < checks.index(FINDING["message"])


def test_every_column_has_a_card_with_its_figure(seen):
    assert seen.count("article", "card") == 6
    assert seen.count("figure", "chart") == 2, "age and since"
    cards = seen.sections["columns"]
    for told in ("Missing", "Distinct", "Outliers", "With target", "Median", "gold plan", "2024-01-01", "y: yes"):
        assert told in cards


def test_the_rarer_of_two_values_is_no_outlier(changed):
    (age,) = [column for column in changed["profile"]["columns"] if column["name"] == "age"]
    assert "Outliers" in page(changed).sections["columns"]
    age |= {"distinct": 2, "outliers": {"lower": 0.0, "upper": 0.0, "below": 0, "above": 930, "count": 930}}
    for column in changed["profile"]["columns"]:
        if column["name"] != "age":
            column.pop("outliers", None)

    assert "Outliers" not in page(changed).sections["columns"]


def test_figures_are_described_in_words(seen):
    described = [attributes["aria-label"] for tag, attributes in seen.tags if attributes.get("role") == "img"]
    assert len(described) == 2
    assert re.match(
        r"Histogram of age with \d+ bars, the first 0.3 to .* 89.7; the tallest, .* holds \d+ rows", described[0]
    )
    assert "2024-01-01" in described[1]


def test_columns_are_ranked_by_their_association(seen, document):
    strengths = {
        column["name"]: column["association"]["strength"]
        for column in document["profile"]["columns"]
        if column["association"]
    }
    ranking = seen.sections["association"]
    expected = sorted(strengths, key=strengths.__getitem__, reverse=True)
    assert re.findall(r"\b(?:age|since|plan)\b", ranking)[: len(expected)] == expected


def test_the_schema_lists_every_column(seen, document):
    schema = seen.sections["schema"]
    for column in document["schema"]["columns"]:
        assert column["name"] in schema
    for told in (
        "identifier",
        "named like an identifier",
        "0 to 90",
        "must be: at most 120",
        "1970-01-01 to 2001-09-09",
        "gold plan",
    ):
        assert told in schema


def test_quarantined_rows_show_line_and_reason_and_how_many_more_there_are(seen):
    rows = seen.sections["quarantine"]
    for told in ("4,000", "4,049", "should be a number, not 'old'", "7,old", "25 further rows"):
        assert told in rows


def test_the_datasheet_answers_what_it_can_and_says_what_nobody_answered(seen):
    sheet = seen.sections["datasheet"]
    for told in (
        "To keep customers.",
        "And to learn why they go.",
        "Not answered: collection process, uses, licence, maintenance",
        "300 rows in 6 columns",
        "no 50 %",
        "incoming/churn/may.csv",
        "v-1",
        "cd" * 32,
        "75 rows of 375 (20 %) were quarantined",
        "notes (free text)",
        "the newest rows of 'since' are the test split",
        "70 % training, 10 % validation",
        "12 values of 'age' are out of range.",
        "With 300 rows",
    ):
        assert told in sheet


def test_values_of_identifiers_and_free_text_are_not_shown(seen):
    assert "secret-key" not in seen.markup
    assert "private note" not in seen.markup


def test_a_rejected_upload_says_why_first():
    rejected = {
        "model": "churn",
        "validation": {
            "file": "incoming/churn/may.csv",
            "outcome": "rejected",
            "dataset_id": None,
            "findings": [FINDING | {"severity": "error", "check": "missing_column", "message": "no target column"}],
        },
    }
    shown = page(rejected)
    assert "rejected" in shown.sections[""]
    assert shown.sections[""].index("no target column") < shown.sections[""].index("Rows")
    assert set(shown.sections) == {"", "checks", "datasheet"}
    assert "none: the upload was rejected" in shown.sections["datasheet"]


def test_a_rejected_upload_that_came_far_shows_its_columns(changed):
    del changed["profile"], changed["manifest"]
    changed["validation"] |= {"outcome": "rejected", "dataset_id": None, "reasons": ["too old"], "findings": []}
    shown = page(changed)
    assert "too old" in shown.sections[""]
    assert "gold plan" in shown.sections["schema"]
    assert "columns" not in shown.sections
    assert "Every check passed" not in shown.text


def poison(value: Any) -> Any:
    """Put markup into every text and every name of a document, but for the words that the page goes by."""
    kept = {"accepted", "rejected", "error", "warning", "auc", "spearman", "cramers_v", "correlation_ratio", "binary"}
    kept |= {"feature", "target", "ignored", "identifier", "integer", "number", "category", "datetime", "text", "time"}
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poison(item) for item in value]
    return f'{value}"><img src=x onerror=alert(1)>' if isinstance(value, str) and value not in kept else value


def test_no_name_category_or_message_becomes_markup(document):
    shown = page(poison(document))
    assert shown.count("img") == 0
    assert shown.count("script") == 1
    assert not [name for _, attributes in shown.tags for name in attributes if name.startswith("on")]
    assert shown.text.count("<img src=x onerror=alert(1)>") > 100
    assert ATTACK in shown.text


def test_counts_are_whole_numbers(seen, changed):
    for shown in (seen, page(json.loads(json.dumps(changed), parse_int=float))):
        text = shown.sections["columns"]
        assert re.search(r"Outliers\s+0\s+With", text), text
        assert re.search(r"Characters\s+15\.6\s+up to 16\s", text), text
        assert not re.search(r"(Missing|Distinct|Outliers)\s+\d+\.", text)


def test_sensitive_values_are_nowhere_on_the_page(changed):
    changed["sensitive"] = ["plan", "age"]
    changed["validation"]["findings"] = [
        FINDING,
        FINDING | {"column": "plan", "message": "an unknown plan, 'gold plan'", "examples": ["gold plan"], "rows": []},
    ]
    changed["quarantine"] = [
        ROW,
        ROW | {"column": "plan", "value": "gold plan", "reason": "'plan' is not 'gold plan'", "text": "gold plan"},
        ROW | {"column": None, "value": None, "reason": "3 fields where the header has 6", "text": "1,gold plan"},
    ]
    shown = page(changed)
    for secret in ("gold plan", "basic", "'old'", "7,old", "89.7", ">200<", ">-1<"):
        assert secret not in shown.markup
    assert "line 1,204" in shown.text, "where it is may be told"
    assert "sensitive" in shown.sections["columns"]
    assert "age, plan" in shown.sections["datasheet"]


def test_columns_that_the_profile_or_the_schema_marks_are_sensitive_too(changed):
    changed["profile"]["columns"][1]["sensitive"] = True
    changed["schema"]["columns"][3]["sensitive"] = True
    shown = page(changed)
    assert "gold plan" not in shown.markup
    assert "89.7" not in shown.markup


def test_rows_that_were_masked_when_they_were_read_are_shown(changed):
    changed["sensitive"] = ["plan"]
    changed["quarantine"] = [ROW | {"text": "key=7, plan=***"}]
    assert "key=7, plan=***" in page(changed).sections["quarantine"]


def test_many_columns_have_cards_for_the_strongest_and_a_table_for_the_rest():
    wide = build(extra=2 * MAX_CARDS)
    shown = page(wide)
    assert shown.count("article", "card") == MAX_CARDS
    names = [column["name"] for column in wide["schema"]["columns"]]
    assert all(name in shown.sections["columns"] for name in names)
    first = next(dict(attributes) for tag, attributes in shown.tags if tag == "article")
    assert first["data-name"] == "y"


def test_fifty_columns_fit_in_one_and_a_half_megabytes():
    assert len(render_dataset_report(build(extra=50)).encode()) < 1_500_000


@pytest.mark.parametrize(
    ("task", "classes"),
    [("regression", ()), ("multiclass", ("a", "b", "c")), ("multiclass", tuple("abcdefghijklmnop"))],
)
def test_other_tasks_have_reports_too(task, classes):
    shown = page(build(task, classes))
    assert task in shown.sections[""]
    assert shown.count("figure", "chart") == (3 if task == "regression" else 2)
    assert ("mean y" in shown.text) == (task == "regression")


def test_the_same_documents_give_the_same_page(document):
    assert render_dataset_report(document) == render_dataset_report(copy.deepcopy(document))


def test_tags_are_balanced(seen):
    for tag in ("div", "table", "tr", "td", "th", "dl", "section", "article", "figure", "svg", "g", "ul", "li", "span"):
        assert len(re.findall(rf"<{tag}[ >]", seen.markup)) == seen.markup.count(f"</{tag}>"), tag
