"""The findings and the quarantine of a dataset report."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.data.report_subject import MASK, Subject
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, badge, callout, folded, table
from millrace.reporting.html import Html, element, join, join_words

#: Rows of the quarantine that a page shows, and example rows of a finding.
SHOWN_QUARANTINED = 50
SHOWN_UNFOLDED = 10
SHOWN_FINDINGS = 100
SHOWN_EXAMPLES = 5
MAX_TEXT = 200


def findings_list(subject: Subject) -> Html:
    """Return what the checks found, each with its count, share and examples."""
    found = subject.findings
    if not found:
        reasons = [str(reason) for reason in subject.validation.get("reasons") or ()]
        return callout("Every check passed.", [], "good") if subject.accepted else callout("Rejected:", reasons, "bad")
    shown = [_finding(subject, finding) for finding in found[:SHOWN_FINDINGS]]
    more = len(found) - SHOWN_FINDINGS
    note = element("p", f"{more:,} further findings are in validation.json.", class_="quiet") if more > 0 else None
    return join(element("ul", shown, class_="findings panel"), note)


def _finding(subject: Subject, finding: Mapping[str, Any]) -> Html:
    column = finding.get("column")
    examples = finding.get("examples") or ()
    is_error = finding.get("severity") == "error"
    about = [
        element("code", str(finding.get("check") or "")),
        join("column ", element("strong", str(column))) if column else None,
        _extent(finding),
    ]
    return element(
        "li",
        badge("error" if is_error else "warning", "bad" if is_error else "warn"),
        element(
            "div",
            element("p", subject.masked_message(column, str(finding.get("message") or ""), examples)),
            element("p", join_words([part for part in about if part], " · "), class_="about"),
            _examples(subject, finding),
        ),
        class_="finding",
    )


def _extent(finding: Mapping[str, Any]) -> str:
    count, share = finding.get("count"), finding.get("share")
    if not count:
        return ""
    return f"{count:,} affected" + (f" ({wording.share(share)})" if share is not None else "")


def _examples(subject: Subject, finding: Mapping[str, Any]) -> Html | None:
    """Return the values that a finding gives as examples, with their lines where it knows them."""
    column = finding.get("column")
    rows = [(_place(row), row.get("value")) for row in finding.get("rows") or ()]
    given = rows or [("", value) for value in finding.get("examples") or ()]
    if not given:
        return None
    shown = [
        element("li", f"{place} " if place else None, element("code", _cut(subject.shown(column, value))))
        for place, value in given[:SHOWN_EXAMPLES]
    ]
    return element("ul", shown, class_="examples")


def _place(row: Mapping[str, Any]) -> str:
    """Return where a row is: its line and, of several files, which."""
    line, file = row.get("line"), row.get("file")
    return f"line {line:,}{f' of {file}' if file else ''}" if line else ""


def quarantine_table(subject: Subject) -> Html:
    """Return the first rows that were set aside, with their lines and reasons."""
    shown = subject.quarantine[:SHOWN_QUARANTINED]
    more = subject.quarantined_rows - len(shown)
    note = f"{wording.count(more, 'further row')} {'is' if more == 1 else 'are'} in rows.jsonl." if more > 0 else ""
    withheld = f"{MASK} stands for what is sensitive." if subject.sensitive else ""
    told = " ".join(part for part in (note, withheld) if part)
    rest = shown[SHOWN_UNFOLDED:]
    return join(
        _rows_table(subject, shown[:SHOWN_UNFOLDED], "Rows that were set aside"),
        folded(f"The next {len(rest):,} rows", _rows_table(subject, rest, "Further rows that were set aside"))
        if rest
        else None,
        element("p", told, class_="quiet after") if told else None,
    )


def _rows_table(subject: Subject, rows: Sequence[Mapping[str, Any]], caption: str) -> Html:
    heads = [TableColumn("Line", "number"), TableColumn("Reason", "wide"), TableColumn("Row", "code")]
    body = [[wording.count(row.get("line")), _reason(subject, row), _row_text(subject, row)] for row in rows]
    if any(row.get("file") for row in rows):
        heads.insert(0, TableColumn("File", "code"))
        body = [[str(row.get("file") or ""), *cells] for row, cells in zip(rows, body, strict=True)]
    return table(heads, body, caption=caption)


def _reason(subject: Subject, row: Mapping[str, Any]) -> str:
    return subject.masked_message(row.get("column"), str(row.get("reason") or ""), [row.get("value")])


def _row_text(subject: Subject, row: Mapping[str, Any]) -> str:
    # What does not fit the table cannot be masked by column: it is shown only where it was masked when it was read.
    text = str(row.get("text") or "")
    return MASK if subject.sensitive and MASK not in text else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
