"""Feedback from a file: reports as the API takes them, each with the line it stands in."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.schema import MISSING_WORDS

from millrace_cli.errors import RefusedError

#: What a report may say, beside the model's own names for its id column and its target.
FIELDS = ("prediction_id", "row_id", "outcome", "observed_at")


@dataclass(frozen=True, slots=True)
class Report:
    """One report, and the line of the file that it stands in."""

    line: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """What a file holds.

    Parameters
    ----------
    reports : tuple of Report
        That say what the outcome was.
    unknown : int
        Rows without an outcome: not known yet.
    ignored : tuple of str
        Columns that say nothing of outcomes, such as the features.
    """

    reports: tuple[Report, ...]
    unknown: int
    ignored: tuple[str, ...]


def read_reports(path: Path, row_name: str | None, outcome_name: str | None) -> ReportFile:
    """Read a CSV file or JSON lines.

    Parameters
    ----------
    row_name, outcome_name : str or None
        What the model calls its id column and its target.

    Raises
    ------
    RefusedError
        When it is neither, or has no column for the outcome or for what it is the outcome of.
    """
    if not path.is_file():
        raise RefusedError(f"there is no file {path}", "name a CSV file, or one of JSON lines")
    names = [*FIELDS, *(name for name in (row_name, outcome_name) if name)]
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json")
    try:
        rows = list(_json_rows(path) if is_json else _csv_rows(path))
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not text in UTF-8", "save it in UTF-8") from error
    columns = dict.fromkeys(name for _, row in rows for name in row)
    if rows:
        _check_columns(path, columns, row_name, outcome_name)
    outcome_names = [name for name in ("outcome", outcome_name) if name in columns]
    reports: list[Report] = []
    unknown = 0
    for line, row in rows:
        body = {name: value for name, value in row.items() if name in names and not _is_empty(value)}
        if any(name in body for name in outcome_names):
            reports.append(Report(line, body))
        else:
            unknown += 1
    return ReportFile(tuple(reports), unknown, tuple(name for name in columns if name not in names))


def _check_columns(path: Path, columns: Collection[str], row_name: str | None, outcome_name: str | None) -> None:
    identifying = [name for name in ("prediction_id", "row_id", row_name) if name]
    outcomes = [name for name in ("outcome", outcome_name) if name]
    for what, wanted in (("what the outcome is of", identifying), ("the outcome", outcomes)):
        if not set(wanted) & set(columns):
            raise RefusedError(f"{path} has no column that says {what}", f"name one of them {' or '.join(wanted)}")


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                message = f"{path}: line {reader.line_num} has {len(row)} values for {len(header)} columns"
                raise RefusedError(message)
            yield reader.line_num, dict(zip(header, row, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                document = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise RefusedError(f"{path}: line {line} is not JSON", "write one object a line") from error
            if not isinstance(document, dict):
                raise RefusedError(f"{path}: line {line} is no object", "write one object a line")
            yield line, document


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in MISSING_WORDS)
