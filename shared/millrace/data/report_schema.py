"""The schema of a dataset report: what each column is, what values it takes, and what the spec demands of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.data.report_subject import MASK, Subject
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, Tone, badge, table
from millrace.reporting.html import Html

SHOWN_CATEGORIES = 6

ROLE_TONES: Mapping[str, Tone] = {"target": "accent", "identifier": "plain", "ignored": "warn", "feature": "plain"}

Column = Mapping[str, Any]


def schema_table(subject: Subject) -> Html:
    """Return every column with its type, role and what values it takes."""
    heads = (
        TableColumn("Column"),
        TableColumn("Type"),
        TableColumn("Role"),
        TableColumn("Missing allowed"),
        TableColumn("Values", "wide"),
        TableColumn("Remark", "wide"),
    )
    rows = [
        (
            column["name"],
            column.get("type"),
            badge(str(column.get("role")), ROLE_TONES.get(str(column.get("role")), "plain")),
            _nullable(column),
            values_in_words(subject, column),
            _remark(subject, column),
        )
        for column in subject.schema_columns
    ]
    return table(heads, rows, caption="Schema", filter_name="schema")


def _nullable(column: Column) -> str:
    return wording.NOT_KNOWN if "nullable" not in column else "yes" if column["nullable"] else "no"


def _remark(subject: Subject, column: Column) -> str:
    return "; ".join(part for part in (str(column.get("reason") or ""), *_rules(subject, column)) if part)


def _rules(subject: Subject, column: Column) -> list[str]:
    """Say what the spec demands of a column."""
    rules: Mapping[str, Any] = column.get("rules") or {}
    low, high, allowed = rules.get("minimum"), rules.get("maximum"), rules.get("allowed") or ()
    told = [
        f"at least {_bound(column, low)}" if low is not None else "",
        f"at most {_bound(column, high)}" if high is not None else "",
        f"one of {_some(subject, column, allowed)}" if allowed else "",
        f"matches {rules['pattern']}" if rules.get("pattern") else "",
        "unique" if rules.get("unique") else "",
        "no missing value" if rules.get("nullable") is False else "",
        f"at most {wording.share(rules['max_null_share'])} missing" if rules.get("max_null_share") is not None else "",
    ]
    demanded = [part for part in told if part]
    return (
        [f"{'should be' if rules.get('severity') == 'warning' else 'must be'}: {', '.join(demanded)}"]
        if demanded
        else []
    )


def _bound(column: Column, value: float) -> str:
    return wording.seconds(value) if column.get("type") == "datetime" else wording.number(value)


def _some(subject: Subject, column: Column, values: Sequence[Any]) -> str:
    shown = ", ".join(dict.fromkeys(subject.shown(column["name"], value) for value in values[:SHOWN_CATEGORIES]))
    more = len(values) - SHOWN_CATEGORIES
    return f"{shown} and {more:,} more" if more > 0 else shown


def values_in_words(subject: Subject, column: Column) -> str:
    """Return what values a column takes, in a few words."""
    if column["name"] in subject.sensitive:
        return MASK
    if column.get("categories"):
        return _some(subject, column, column["categories"])
    if column.get("type") in ("integer", "number", "datetime") and column.get("minimum") is not None:
        low, high = column["minimum"], column["maximum"]
        if column["type"] == "datetime":
            return f"{_moment(low)} to {_moment(high)}"
        return f"{wording.number(low)} to {wording.number(high)}"
    if column.get("type") == "boolean":
        words = [*(column.get("false_values") or ()), *(column.get("true_values") or ())]
        return ", ".join(words) or "true, false"
    return f"{column['distinct']:,} distinct" if column.get("distinct") else ""


def _moment(value: str | float) -> str:
    """Return a schema's seconds or a profile's ISO 8601 alike."""
    return wording.moment(value) if isinstance(value, str) else wording.seconds(value)
