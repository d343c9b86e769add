"""Blocks of a page: badges, tiles, tables, callouts, pairs, filters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.reporting.html import Content, Html, element

Tone = Literal["good", "warn", "bad", "accent", "plain"]


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of :func:`table`.

    Parameters
    ----------
    head : str
        Its heading.
    kind : {'text', 'number', 'wide', 'code'}, default='text'
        Numbers stand to the right; wide ones hold sentences.
    """

    head: str
    kind: Literal["text", "number", "wide", "code"] = "text"

    @property
    def css_class(self) -> str | None:
        """How its cells look."""
        return {"text": None, "number": "number", "wide": "wide", "code": "wide mono"}[self.kind]


def badge(text: str, tone: Tone = "plain", *, large: bool = False) -> Html:
    """Return a short word on a coloured ground; the word alone says it, for who does not see colours."""
    return element("span", text, class_=" ".join(["badge", *([tone] if tone != "plain" else []), *["large"] * large]))


def tiles(facts: Sequence[tuple[str, str, str]]) -> Html:
    """Return the numbers that matter most: label, value and a hint, which may be empty."""
    return element(
        "dl",
        [element("div", element("dt", label), element("dd", value, _hint(hint))) for label, value, hint in facts],
        class_="tiles",
    )


def facts(entries: Sequence[tuple[str, str, str]], *, roomy: bool = False) -> Html | None:
    """Return small facts side by side: label, value and a hint, which may be empty; roomy ones have longer values."""
    if not entries:
        return None
    return element(
        "dl",
        [
            element("div", element("dt", label), element("dd", value, " " if hint else None, _hint(hint)))
            for label, value, hint in entries
        ],
        class_="facts roomy" if roomy else "facts",
    )


def _hint(hint: str) -> Html | None:
    return element("span", hint, class_="hint") if hint else None


def pairs(entries: Sequence[tuple[str, Content]]) -> Html:
    """Return names and what they are, one below the other."""
    return element("dl", [[element("dt", name), element("dd", value)] for name, value in entries], class_="pairs")


def callout(head: str, points: Sequence[Content], tone: Tone = "accent") -> Html:
    """Return a coloured paragraph with a heading and, when there are any, points."""
    body = element("ul", [element("li", point) for point in points]) if points else None
    return element("div", element("strong", head), body, class_=f"callout {tone}")


def bullets(points: Sequence[Content]) -> Html:
    """Return a list."""
    return element("ul", [element("li", point) for point in points])


def table(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[Content]], *, caption: str, filter_name: str = ""
) -> Html:
    """Return a table that scrolls sideways where it does not fit, also by keyboard.

    Parameters
    ----------
    columns : sequence of TableColumn
        The first one's cells head their rows.
    rows : sequence of sequence of Html, str or None
        The first cell must be text when ``filter_name`` is given.
    caption : str
        What the table is, for screen readers.
    filter_name : str, default=""
        The filter that narrows it.
    """
    head = element("tr", [element("th", column.head, scope="col", class_=column.css_class) for column in columns])
    body = [
        element(
            "tr",
            [
                element("td" if index else "th", cell, class_=column.css_class, scope=None if index else "row")
                for index, (column, cell) in enumerate(zip(columns, row, strict=True))
            ],
            data_filter=filter_name or None,
            data_name=str(row[0]) if filter_name else None,
        )
        for row in rows
    ]
    content = element(
        "table", element("caption", caption, class_="unseen"), element("thead", head), element("tbody", body)
    )
    return element("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def folded(summary: str, *content: Content, opened: bool = False) -> Html:
    """Return content behind a line that opens it, without JavaScript."""
    return element("details", element("summary", summary), *content, open=opened)


def filter_box(name: str, label: str) -> Html:
    """Return a field that narrows what is marked with ``name``; it shows only where JavaScript runs."""
    field = element("label", label, " ", element("input", type="search", autocomplete="off"))
    return element("div", field, element("output", aria_live="polite"), class_="filter", data_for=name, hidden=True)
