"""The dataset report: one HTML page about an upload, whether it became a dataset or was rejected."""

from collections.abc import Mapping
from typing import Any

from millrace.data.datasheet import datasheet
from millrace.data.report_association import association_ranking
from millrace.data.report_columns import MAX_CARDS, column_cards
from millrace.data.report_findings import findings_list, quarantine_table
from millrace.data.report_schema import schema_table
from millrace.data.report_subject import Subject
from millrace.reporting import wording
from millrace.reporting.blocks import badge, callout, tiles
from millrace.reporting.html import Content, Html, element, join
from millrace.reporting.page import Section, render_page

SHOWN_REASONS = 5
_ID_LENGTH = 12


def render_dataset_report(document: Mapping[str, Any]) -> str:
    """Return a self-contained HTML page about an upload.

    Parameters
    ----------
    document : mapping
        ``model`` and ``validation`` (``validation.json``), and where there are such ``profile`` (``profile.json``),
        ``manifest`` (``manifest.json``), ``schema`` (the schema's JSON), ``quarantine`` (the first rows set aside),
        ``split`` and ``datasheet`` (the spec's) and ``sensitive`` (names of columns to mask, beside those that the
        profile or the schema marks).

    Returns
    -------
    str
        The same document gives the same page.
    """
    subject = Subject.of(document)
    return render_page(
        title=subject.model,
        kicker="Dataset report",
        badge=badge("accepted", "good", large=True) if subject.accepted else badge("rejected", "bad", large=True),
        subtitle=_subtitle(subject),
        summary=join(_why(subject), tiles(_tiles(subject))),
        sections=_sections(subject),
        footer=_footer(subject),
    )


def _subtitle(subject: Subject) -> Content:
    identity = subject.dataset_id
    return join(
        join("Dataset ", element("code", identity[:_ID_LENGTH], title=identity), " from ") if identity else "Upload ",
        element("code", subject.file_name),
        f", uploaded {wording.moment(subject.validation.get('uploaded_at'))}"
        if subject.validation.get("uploaded_at")
        else None,
    )


def _why(subject: Subject) -> Html | None:
    if subject.accepted:
        return None
    reasons = [
        subject.masked_message(finding.get("column"), str(finding["message"]), finding.get("examples") or ())
        for finding in subject.findings_of("error")
    ] or [str(reason) for reason in subject.validation.get("reasons") or ()]
    more = len(reasons) - SHOWN_REASONS
    shown = [*reasons[:SHOWN_REASONS], *([f"{more:,} more, below"] if more > 0 else [])]
    return callout("This upload was rejected and nothing was trained on it:", shown, "bad")


def _tiles(subject: Subject) -> list[tuple[str, str, str]]:
    columns = subject.columns
    features = sum(column.get("role") == "feature" for column in columns)
    errors, warnings = len(subject.findings_of("error")), len(subject.findings_of("warning"))
    target = subject.target
    aside = wording.share(subject.quarantined_share) if subject.quarantined_rows else ""
    return [
        ("Rows", wording.count(subject.usable_rows), f"of {subject.rows:,} in {_files(subject)}"),
        ("Columns", wording.count(len(columns)) if columns else wording.NOT_KNOWN, _counted(features, "feature")),
        ("Target", str(target.get("name") or wording.NOT_KNOWN), str(target.get("task") or "")),
        ("Set aside", wording.count(subject.quarantined_rows), aside or "no row"),
        ("Missing", _missing(subject), "of all cells"),
        ("Checks", "passed" if not errors else _counted(errors, "error"), _counted(warnings, "warning")),
    ]


def _files(subject: Subject) -> str:
    files = len(subject.validation.get("files") or ())
    return wording.count(files, "file") if files else "the file"


def _counted(amount: int, noun: str) -> str:
    return f"no {noun}s" if not amount else wording.count(amount, noun)


def _missing(subject: Subject) -> str:
    cells = subject.usable_rows * len(subject.profile.get("columns") or ())
    return wording.share(subject.profile["missing_mask"] / cells) if cells else wording.NOT_KNOWN


def _sections(subject: Subject) -> list[Section]:
    profiled = bool(subject.profile.get("columns"))
    too_many = len(subject.columns) > MAX_CARDS
    sections = [
        Section("checks", "Check results", findings_list(subject)),
        Section(
            "columns",
            "Columns",
            column_cards(subject),
            f"The target and the {MAX_CARDS - 1} columns closest to it have a card; the others are in the table below."
            if too_many
            else "",
        )
        if profiled
        else None,
        Section(
            "target",
            "Association with the target",
            association_ranking(subject),
            f"How closely each feature alone goes with {subject.target.get('name')}. The bar is the strength, from 0 "
            "(none) to 1 (gives it away); an arrow says whether the target rises or falls as the column grows.",
            "Target",
        )
        if any(column.get("association") for column in subject.columns)
        else None,
        Section("schema", "Schema", schema_table(subject)) if subject.columns else None,
        Section(
            "quarantine",
            "Rows set aside",
            quarantine_table(subject),
            "Rows that could not be used, with the line of the file where each begins.",
        )
        if subject.quarantine
        else None,
        Section(
            "datasheet",
            "Datasheet",
            datasheet(subject),
            "What to know before relying on this dataset, after Gebru et al., “Datasheets for Datasets”.",
        ),
    ]
    return [section for section in sections if section is not None]


def _footer(subject: Subject) -> Content:
    identity = subject.dataset_id
    return join(
        "Made by Millrace from validation.json, profile.json and manifest.json, which lie beside this page",
        join("; dataset ", element("code", identity)) if identity else None,
        ".",
    )
