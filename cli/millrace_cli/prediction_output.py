"""Predictions beside their rows: tables, and CSV, Parquet and JSON files."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table

from millrace_cli.errors import RefusedError
from millrace_cli.output import make_table


class OutputFormat(StrEnum):
    """Format of predictions."""

    table = "table"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def choose_format(wanted: OutputFormat | None, file: Path | None) -> OutputFormat:
    """Return the format: the requested one, else the one of the file's suffix, else a table.

    Raises
    ------
    RefusedError
        When the format needs a file, or the file has no known suffix.
    """
    if wanted is None and file is None:
        return OutputFormat.table
    if wanted is None and file is not None:
        suffix = file.suffix.lower().removeprefix(".")
        if suffix not in ("csv", "parquet", "json"):
            raise RefusedError(f"the format of {file} is not known", "name one: --format csv, parquet or json")
        return OutputFormat(suffix)
    if wanted is OutputFormat.parquet and file is None:
        raise RefusedError("Parquet is not printed to a terminal", "name a file: --output predictions.parquet")
    return wanted or OutputFormat.table


def predictions_table(
    predictions: Sequence[Any], identifiers: Sequence[Any] | None = None, identifier: str = "id"
) -> Table:
    """Return a table of predictions: labels with probabilities, or numbers; with the rows' ids where known."""
    has_probabilities = any(isinstance(prediction, Mapping) for prediction in predictions)
    names = ["row", *([identifier] if identifiers else []), "prediction"]
    rows: list[tuple[Any, ...]] = []
    for number, prediction in enumerate(predictions):
        start = (number + 1, *([identifiers[number]] if identifiers else []))
        if isinstance(prediction, Mapping):
            rows.append((*start, prediction.get("label"), prediction.get("probabilities")))
        else:
            rows.append((*start, prediction, None)[: len(names) + has_probabilities])
    return make_table("", [*names, *(["probabilities"] if has_probabilities else [])], rows)


def joined_columns(
    columns: Mapping[str, Sequence[Any]],
    predictions: Sequence[Any],
    errors: Sequence[Mapping[str, Any]] = (),
) -> dict[str, list[Any]]:
    """Return the input columns with the predictions' columns beside them.

    Parameters
    ----------
    columns : mapping of str to sequence
        Input columns, in order.
    predictions : sequence
        Of the response: numbers, or objects with ``label``, ``probabilities`` and ``decision``.
    errors : sequence of mapping
        Of a partial response: ``row`` and ``fields``.

    Returns
    -------
    dict of str to list
        ``prediction``; for classifiers also ``decision`` and ``probability_<class>``; ``error`` where rows have errors.
        A name that an input column has gets an underscore.
    """
    added: dict[str, list[Any]] = {}
    labelled = next((prediction for prediction in predictions if isinstance(prediction, Mapping)), None)
    if labelled is None:
        added["prediction"] = list(predictions)
    else:
        added["prediction"] = [prediction.get("label") for prediction in predictions]
        if any(prediction.get("decision") is not None for prediction in predictions):
            added["decision"] = [prediction.get("decision") for prediction in predictions]
        classes = dict.fromkeys(name for prediction in predictions for name in prediction.get("probabilities") or ())
        for name in classes:
            added[f"probability_{name}"] = [
                (prediction.get("probabilities") or {}).get(name) for prediction in predictions
            ]
    if errors:
        by_row = {
            int(error["row"]): "; ".join(f"{fault['field']} {fault['message']}" for fault in error["fields"])
            for error in errors
        }
        added["error"] = [by_row.get(row) for row in range(len(predictions))]
    joined = {name: list(values) for name, values in columns.items()}
    for name, values in added.items():
        while name in joined:
            name += "_"  # noqa: PLW2901  # the name that is free
        joined[name] = values
    return joined


def csv_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """Return columns as CSV; missing values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if value is None else _csv_value(value) for value in row])
    return buffer.getvalue()


def write_predictions(
    file: Path, output: OutputFormat, columns: Mapping[str, Sequence[Any]], response: Mapping[str, Any]
) -> None:
    """Write predictions to a file: the response as JSON, or the joined columns as CSV or Parquet.

    Raises
    ------
    RefusedError
        When the file cannot be written.
    """
    try:
        if output is OutputFormat.parquet:
            _write_parquet(file, columns)
        elif output is OutputFormat.json:
            file.write_text(json.dumps(response, indent=2) + "\n", encoding="utf-8")
        else:
            file.write_text(csv_text(columns), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error.strerror}", "name another file: --output FILE") from error


def _csv_value(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _write_parquet(file: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow as pa  # noqa: PLC0415  # loads slowly, and few predictions are written as Parquet
    from pyarrow import parquet  # noqa: PLC0415  # as above

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except pa.ArrowException:  # values of several types
            arrays[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
    parquet.write_table(pa.table(arrays), file)
