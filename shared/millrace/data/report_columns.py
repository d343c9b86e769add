"""The columns of a dataset report: a card each with its distribution, and a table of those that are too many."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from millrace.data.report_association import association_text, strength
from millrace.data.report_schema import ROLE_TONES, values_in_words
from millrace.data.report_subject import Subject
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, badge, facts, filter_box, table
from millrace.reporting.figures import Series, bar_list, histogram, round_ticks
from millrace.reporting.html import Html, element, join

#: Cards of one page; further columns stand in a table.
MAX_CARDS = 48
#: Values of a column that its card shows, and classes of the target.
SHOWN_VALUES = 8
SHOWN_CLASSES = 12

_INTEGER_STEPS = 6
_ROUNDING = 1e-12


Column = Mapping[str, Any]


def ordered_columns(subject: Subject) -> list[dict[str, Any]]:
    """Return the columns as the page shows them: the target first; the strongest first where there are too many."""
    columns = subject.columns
    if len(columns) <= MAX_CARDS:
        return sorted(columns, key=lambda column: column.get("role") != "target")
    return sorted(columns, key=lambda column: (column.get("role") != "target", -strength(column)))


def column_cards(subject: Subject) -> Html:
    """Return a card for each column, and a table of those that are too many for cards."""
    columns = ordered_columns(subject)
    cards = [_card(subject, column) for column in columns[:MAX_CARDS]]
    rest = columns[MAX_CARDS:]
    return join(
        filter_box("columns", "Find a column:") if len(columns) > SHOWN_VALUES else None,
        element("div", cards, class_="cards"),
        [
            element("h3", f"The other {len(rest):,} columns", class_="more"),
            _rest_table(subject, rest),
        ]
        if rest
        else None,
    )


def _card(subject: Subject, column: Column) -> Html:
    heading = element(
        "div",
        element("h3", column["name"]),
        badge(str(column.get("type", "unknown"))),
        badge(str(column["role"]), ROLE_TONES.get(column["role"], "plain"))
        if column.get("role") != "feature"
        else None,
        badge("sensitive", "warn") if column["name"] in subject.sensitive else None,
        class_="card-head",
    )
    notes = [
        subject.masked_message(finding.get("column"), finding["message"], finding.get("examples") or ())
        for finding in subject.findings
        if finding.get("column") == column["name"]
    ]
    return element(
        "article",
        heading,
        element("p", str(column["reason"]), class_="quiet") if column.get("reason") else None,
        _figure(subject, column),
        facts(_facts(subject, column)),
        facts(_spread(subject, column), roomy=True),
        element("ul", [element("li", note) for note in notes], class_="notes") if notes else None,
        class_="card",
        data_filter="columns",
        data_name=column["name"],
    )


def _facts(subject: Subject, column: Column) -> list[tuple[str, str, str]]:
    entries = [("Missing", wording.count(column.get("missing")), _share_hint(column.get("missing_share")))]
    entries.append(("Distinct", wording.count(column.get("distinct")), ""))
    outliers = column.get("outliers")
    if outliers and subject.usable_rows and not _is_class_label(subject, column):
        entries.append(
            ("Outliers", wording.count(outliers["count"]), _share_hint(outliers["count"] / subject.usable_rows))
        )
    length = column.get("length") or {}
    if column.get("type") == "text" and length.get("mean") is not None:
        entries.append(("Characters", wording.number(round(length["mean"], 1)), f"up to {length['maximum']:,}"))
    if column.get("association"):
        entries.append(("With target", association_text(column["association"]), ""))
    return entries


def _share_hint(share: float | None) -> str:
    return wording.share(share) if share else ""


def _spread(subject: Subject, column: Column) -> list[tuple[str, str, str]]:
    """Return a column's quantiles; the extremes are single rows' values, so a sensitive column's are not told."""
    quantiles = column.get("quantiles") or {}
    is_date = column.get("type") == "datetime"
    write = wording.moment if is_date else wording.number
    if _is_class_label(subject, column):
        return []
    if column["name"] in subject.sensitive:
        return [("Median", write(quantiles["0.5"]), "")] if "0.5" in quantiles else []
    if quantiles and is_date:
        ends = [("Earliest", column.get("minimum")), ("Latest", column.get("maximum"))]
        return [(label, write(value)[:10], "") for label, value in [ends[0], ("Median", quantiles.get("0.5")), ends[1]]]
    if quantiles:
        picked: list[tuple[str, Any]] = [
            ("Minimum", column.get("minimum")),
            *((f"{float(level):.0%}".replace("%", " %"), quantiles.get(level)) for level in ("0.05", "0.25")),
            ("Median", quantiles.get("0.5")),
            *((f"{float(level):.0%}".replace("%", " %"), quantiles.get(level)) for level in ("0.75", "0.95")),
            ("Maximum", column.get("maximum")),
            ("Mean", _without_noise(column.get("mean"), column.get("standard_deviation"))),
            ("Std. dev.", column.get("standard_deviation")),
        ]
        return [(label, write(value), "") for label, value in picked]
    return []


def _without_noise(mean: float | None, deviation: float | None) -> float | None:
    """Return a mean, or 0 where it is only what rounding left of one."""
    return 0.0 if mean and deviation and abs(mean) < _ROUNDING * deviation else mean


def _is_class_label(subject: Subject, column: Column) -> bool:
    return column.get("role") == "target" and bool(subject.target.get("classes"))


def _figure(subject: Subject, column: Column) -> Html | None:
    if _is_class_label(subject, column):
        return _classes(subject)
    if column.get("histogram"):
        # Where a bar begins and ends is some row's value, and a bar of one row gives that row away.
        hidden = element("p", "The distribution of a sensitive column is not drawn.", class_="quiet")
        return hidden if column["name"] in subject.sensitive else _histogram(subject, column)
    if column.get("top") and column.get("type") not in ("text",) and column.get("role") != "identifier":
        return _values(subject, column)
    return None


def _classes(subject: Subject) -> Html:
    counts: Mapping[str, int] = subject.target["classes"]
    total, most = max(1, sum(counts.values())), max(1, *counts.values())
    name = subject.target["name"]
    drawn: list[tuple[Html | str, float, str, str]] = [
        (element("span", subject.shown(name, label), class_="clip"), count / most, _amount(count, total), "")
        for label, count in list(counts.items())[:SHOWN_CLASSES]
    ]
    if len(counts) > SHOWN_CLASSES:
        rest = sum(list(counts.values())[SHOWN_CLASSES:])
        drawn.append((element("em", f"{len(counts) - SHOWN_CLASSES} other"), rest / most, _amount(rest, total), ""))
    return bar_list(drawn, caption=f"Classes of {name}", heads=("Class", "Rows"))


def _histogram(subject: Subject, column: Column) -> Html:
    drawn = column["histogram"]
    edges, counts = drawn["edges"], drawn["counts"]
    is_date = column.get("type") == "datetime"
    write = _day if is_date else wording.short_number
    names = _bar_names(column, edges)
    figure = histogram(
        edges,
        _series(subject, drawn),
        description=_in_words(column["name"], names, counts),
        wording=write,
        ticks=_ticks(column, edges),
        bar_names=names,
    )
    hidden = [f"{wording.count(drawn[side], 'row')} {side}" for side in ("below", "above") if drawn.get(side)]
    note = element("p", f"Not drawn: {' and '.join(hidden)}, far from the others.", class_="quiet") if hidden else None
    return join(figure, note)


def _ticks(column: Column, edges: Sequence[float]) -> list[float] | None:
    """Label dates where their words have room, integers at integers, and other numbers at round ones."""
    low, high = edges[0], edges[-1]
    if column.get("type") == "datetime":
        return [low + (high - low) * eighths / 8 for eighths in (1, 3, 5, 7)]
    if column.get("type") == "integer":
        return round_ticks(low, high, _INTEGER_STEPS, least=1.0)
    return None


def _series(subject: Subject, drawn: Mapping[str, Any]) -> list[Series]:
    """Split the bars of a binary task by class."""
    target, counts = subject.target, drawn["counts"]
    means = drawn.get("target_means")
    if not means or target.get("task") != "binary" or not target.get("positive"):
        return [Series("", counts)]
    positive = [round((mean or 0.0) * count) for mean, count in zip(means, counts, strict=True)]
    other = next((name for name in target["classes"] if name != target["positive"]), "other")
    rest = [count - part for count, part in zip(counts, positive, strict=True)]
    named = subject.shown(target["name"], other), subject.shown(target["name"], target["positive"])
    return [Series(f"{target['name']}: {named[0]}", rest), Series(f"{target['name']}: {named[1]}", positive)]


def _day(seconds: float) -> str:
    return wording.seconds(seconds)[:10]


def _bar_names(column: Column, edges: Sequence[float]) -> list[str]:
    """Name bars by what is in them: an integer's by the integers, whose bars begin and end half-way between two."""
    if column.get("type") == "integer" and all(edge % 1 == 0.5 for edge in edges):  # noqa: PLR2004  # half-way
        ends = [(left + 0.5, right - 0.5) for left, right in pairwise(edges)]
        return [_span(wording.number(low), wording.number(high)) for low, high in ends]
    write = _day if column.get("type") == "datetime" else wording.number
    return [_span(write(left), write(right)) for left, right in pairwise(edges)]


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _in_words(name: str, bar_names: Sequence[str], counts: Sequence[int]) -> str:
    tallest = max(range(len(counts)), key=counts.__getitem__)
    total = sum(counts)
    share = f" ({wording.share(counts[tallest] / total)})" if total else ""
    return (
        f"Histogram of {name} with {wording.count(len(counts), 'bar')}, the first {bar_names[0]}, the last "
        f"{bar_names[-1]}; the tallest, {bar_names[tallest]}, holds {wording.count(counts[tallest], 'row')}{share}."
    )


def _values(subject: Subject, column: Column) -> Html:
    rows = max(1, subject.usable_rows)
    top = column["top"][:SHOWN_VALUES]
    most = max([entry["count"] for entry in top] + [1])
    write, head = _target_wording(subject)
    named = any("target_mean" in entry for entry in top)
    drawn: list[tuple[Html | str, float, str, str]] = [
        (
            element("span", subject.shown(column["name"], entry["value"]), class_="clip"),
            entry["count"] / most,
            _amount(entry["count"], rows),
            write(entry.get("target_mean")) if named else "",
        )
        for entry in top
    ]
    others = column.get("distinct", len(top)) - len(top)
    if others > 0:
        count = column.get("other", 0) + sum(entry["count"] for entry in column["top"][SHOWN_VALUES:])
        drawn.append((element("em", f"{others:,} other"), count / most, _amount(count, rows), ""))
    if column.get("missing"):
        drawn.append((element("em", "missing"), column["missing"] / most, _amount(column["missing"], rows), ""))
    heads = ("Value", "Rows", head) if named else ("Value", "Rows")
    return bar_list(drawn, caption=f"Commonest values of {column['name']}", heads=heads)


def _target_wording(subject: Subject) -> tuple[Any, str]:
    """Return how a group's average target is written, and the heading for it."""
    target = subject.target
    if target.get("task") == "binary":
        return wording.share, subject.shown(target["name"], target.get("positive"))
    return wording.number, f"mean {target.get('name')}"


def _amount(count: int, rows: int) -> str:
    return f"{wording.short_number(count)} · {wording.share(count / rows)}"


def _rest_table(subject: Subject, columns: Sequence[Column]) -> Html:
    heads = (
        TableColumn("Column"),
        TableColumn("Type"),
        TableColumn("Role"),
        TableColumn("Missing", "number"),
        TableColumn("Distinct", "number"),
        TableColumn("Values", "wide"),
        TableColumn("With target", "number"),
    )
    rows = [
        (
            column["name"],
            column.get("type"),
            column.get("role"),
            wording.share(column.get("missing_share")),
            wording.count(column.get("distinct")),
            values_in_words(subject, column),
            association_text(column["association"]) if column.get("association") else wording.NOT_KNOWN,
        )
        for column in columns
    ]
    return table(heads, rows, caption="The other columns", filter_name="columns")
