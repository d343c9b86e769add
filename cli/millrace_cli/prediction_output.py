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
    response: Mapping[str, Any], identifiers: Sequence[Any] | None = None, identifier: str = "id"
) -> Table:
    """Return a table of a response: labels with probabilities, or numbers; with the rows' ids where known."""
    predictions = response["predictions"]
    columns: list[tuple[str, Sequence[Any]]] = [("row", range(1, len(predictions) + 1))]
    if identifiers:
        columns.append((identifier, identifiers))
    if any(isinstance(prediction, Mapping) for prediction in predictions):
        for header, name in (("prediction", "label"), ("probabilities", "probabilities")):
            columns.append((header, [prediction.get(name) for prediction in predictions]))
    else:
        columns.append(("prediction", predictions))
    columns += _bounds(response).items()
    names, values = zip(*columns, strict=True)
    return make_table("", names, zip(*values, strict=True))


def _bounds(response: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the columns of intervals or sets; none where the response has none."""
    if "sets" in response:
        return {"prediction_set": list(response["sets"])}
    if "intervals" not in response:
        return {}
    ends = [interval or (None, None) for interval in response["intervals"]]
    return {"interval_low": [low for low, _ in ends], "interval_high": [high for _, high in ends]}


def joined_columns(columns: Mapping[str, Sequence[Any]], response: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the input columns with the predictions' columns beside them.

    Parameters
    ----------
    columns : mapping of str to sequence
        Input columns, in order.
    response : mapping
        ``predictions`` are numbers, or objects with ``label``, ``probabilities`` and ``decision``; ``intervals`` or
        ``sets`` are there if requested, ``errors`` in a partial response.

    Returns
    -------
    dict of str to list
        ``prediction``; for classifiers also ``decision`` and ``probability_<class>``; ``interval_low`` and
        ``interval_high``, or ``prediction_set``, if requested; ``error`` where rows have errors.
        A name that an input column has gets an underscore.
    """
    predictions, errors = response["predictions"], response.get("errors") or ()
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
    added |= _bounds(response)
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
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
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
