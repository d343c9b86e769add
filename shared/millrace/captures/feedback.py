"""Recording feedback: ground truth for predictions, validated report by report and stored before the reply.

Either all reports of a request are stored or none, and each wrong one is named. Sending a request again is safe: an
object's key follows from its content, and joining counts a repeated report once.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

from millrace.captures.joining import CLOCK_TOLERANCE
from millrace.captures.records import FeedbackRecord, Outcome, format_timestamp
from millrace.documents import parse_timestamp
from millrace.errors import (
    ArtifactNotFoundError,
    FieldError,
    InvalidInputError,
    PayloadTooLargeError,
    SchemaNotFoundError,
)
from millrace.layout import feedback_key, schema_key
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import Column, TableSchema
from millrace.serving.capture import MAX_ROW_ID_LENGTH, write_row_id
from millrace.serving.rows import read_number, read_numeric_text

#: Reports that one request may hold; all of their errors are named.
MAX_RECORDS = 5_000

#: Classes that a message lists.
_LISTED_CLASSES = 10
_FIELDS = ("prediction_id", "row_id", "outcome", "observed_at")
_PREDICTION_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z")


def outcome_reader(schema: TableSchema) -> Callable[[Any], Outcome]:
    """Return the function that reads one outcome; it raises ``ValueError`` with a message for the caller.

    A class may be written as a label of a reply, or as in the training data: ``7``, ``7.0`` and ``"7"`` are one class
    of an integer target, ``true`` and its string one of a boolean target. Numbers may be text, as in a CSV file. Text
    is read as training read the target's: by the schema's missing values and its notation of numbers.
    """
    if schema.task == "regression":
        return partial(_read_number, schema.target)
    known = {name: name for name in schema.classes}
    if schema.target.type == "boolean":
        known = {name.lower(): name for name in schema.classes}
        known = _boolean_strings(schema) | known
    listed = ", ".join(map(repr, schema.classes[:_LISTED_CLASSES]))
    more = f" or {len(schema.classes) - _LISTED_CLASSES} others" if len(schema.classes) > _LISTED_CLASSES else ""
    # Whoever may report ground truth need not know the classes of a sensitive target.
    expected = "the model's classes" if schema.target.sensitive else f"{listed}{more}"

    def read(value: Any) -> str:
        text = _class_text(value, schema)
        if text is None or (text in schema.target.missing_strings and text not in known):
            raise ValueError("is missing")
        name = known.get(text.lower() if schema.target.type == "boolean" else text)
        if name is None:
            raise ValueError(f"expects one of {expected}")
        return name

    return read


def _boolean_strings(schema: TableSchema) -> dict[str, str]:
    """Return the class of each string for true and false."""
    target = schema.target
    strings: dict[str, str] = {}
    for name in schema.classes:
        is_true = name.lower() in target.true_values if target.true_values else name == "true"
        synonyms = ("true", "1", *target.true_values) if is_true else ("false", "0", *target.false_values)
        strings |= dict.fromkeys(synonyms, name)
    return strings


def _class_text(value: Any, schema: TableSchema) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) and schema.target.type == "boolean":
        return "true" if value else "false"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value)
    if not isinstance(value, str):
        raise ValueError("expects a string or a number")  # noqa: TRY004 - callers catch one kind of error
    text = value.strip()
    if text not in schema.classes and schema.target.type in ("integer", "number"):
        with suppress(ValueError):
            number = read_numeric_text(text, schema.target)
            return text if number is None else _number_text(number)
    return text


def _number_text(value: float) -> str:
    return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)


def _read_number(target: Column, value: Any) -> float:
    number = read_numeric_text(value, target) if isinstance(value, str) else value
    if number is None or number != number:  # noqa: PLR0124 - only NaN differs from itself
        raise ValueError("is missing")
    return read_number(number)


def record_feedback(
    model: str, document: Mapping[str, Any], *, caller: str, registry: Registry, data_store: ObjectStore, now: datetime
) -> dict[str, Any]:
    """Validate the reports of a request, and store all of them or, when one is wrong or too many came, none.

    ``document`` is one report, or ``{"feedback": [report, ...]}``. A report has ``prediction_id`` or ``row_id`` (or the
    name of the model's id column), ``outcome`` (or the name of its target) and optionally ``observed_at``. Bad fields
    are named as ``row 3: outcome`` (rows count from 0). Raises ``SchemaNotFoundError`` for a model without a schema
    yet.
    """
    state = registry.get_state(model)
    state.ensure_not_deleted()
    version = state.current_schema_version
    if not version:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema yet: it is inferred from the first accepted upload"
        )
    reports, reader = _list_reports(document), _ReportReader(model, version, data_store, now, caller)
    records = [record for row, report in enumerate(reports) if (record := reader.read(row, report))]
    if wrong := len(reports) - len(records):
        reports_are = "report is" if wrong == 1 else "reports are"
        raise InvalidInputError(f"{wrong} of {len(reports)} {reports_are} wrong; none was stored", reader.errors)
    lines = "".join(f"{record.to_line()}\n" for record in records)
    name = hashlib.sha256("\n".join(record.feedback_id for record in records).encode()).hexdigest()[:32]
    data_store.put(feedback_key(model, now, name), lines.encode(), "application/x-ndjson")
    return {"model": model, "received": len(records), "received_at": format_timestamp(now)}


def _list_reports(document: Mapping[str, Any]) -> Sequence[Any]:
    if "feedback" not in document:
        return [document]
    reports = document["feedback"]
    unknown = sorted(set(document) - {"feedback"})
    if unknown:
        errors = [FieldError(name[:100], "is not a part of a request") for name in unknown]
        raise InvalidInputError("the request holds unknown keys beside 'feedback'", errors)
    if not isinstance(reports, list) or not reports:
        raise InvalidInputError("'feedback' has to be a list of reports", [FieldError("feedback", "expects a list")])
    if len(reports) > MAX_RECORDS:
        raise PayloadTooLargeError(
            f"the request holds {len(reports)} reports; one request may hold {MAX_RECORDS}: send them in batches"
        )
    return reports


class _ReportReader:
    """Reads the reports of a model by its schemas, and collects their errors, so that all of them can be named."""

    def __init__(self, model: str, version: int, store: ObjectStore, now: datetime, caller: str) -> None:
        self.errors: list[FieldError] = []
        self._model, self._version, self._store, self._now, self._caller = model, version, store, now, caller
        schema = self._load(version)
        self._read_current = outcome_reader(schema)
        self._identifier = schema.identifier
        own_names = {schema.target.name: "outcome"} | ({schema.identifier.name: "row_id"} if schema.identifier else {})
        self._names = own_names | {name: name for name in _FIELDS}

    def _load(self, version: int) -> TableSchema:
        return TableSchema.from_dict(json.loads(self._store.get(schema_key(self._model, version))))

    @cached_property
    def _earlier(self) -> list[Callable[[Any], Outcome]]:
        """Readers of outcomes by the schemas before: an outcome may be of a version that is gone."""
        readers = []
        for version in range(self._version - 1, 0, -1):
            with suppress(ArtifactNotFoundError):
                readers.append(outcome_reader(self._load(version)))
        return readers

    def _read_outcome(self, value: Any) -> Outcome:
        try:
            return self._read_current(value)
        except ValueError:
            for read in self._earlier:
                with suppress(ValueError):
                    return read(value)
            raise

    def read(self, row: int, report: Any) -> FeedbackRecord | None:
        """Return the record of a report; None if it has errors."""
        before = len(self.errors)

        def read(field: str, read_value: Callable[[Any], Any]) -> Any:
            value = fields.get(field)
            try:
                return None if value is None and field != "outcome" else read_value(value)
            except ValueError as error:
                self._add_error(row, field, str(error))
                return None

        if not isinstance(report, dict):
            self._add_error(row, "report", "expects an object")
            return None
        fields = self._rename(row, report)
        prediction_id = read("prediction_id", _read_prediction_id)
        row_id = read("row_id", _read_row_id)
        outcome = read("outcome", self._read_outcome)
        observed_at = read("observed_at", self._read_timestamp)
        if fields.get("prediction_id") is None and fields.get("row_id") is None:
            row_id_name = f"row_id (or {self._identifier.name!r})" if self._identifier else "row_id"
            self._add_error(row, "prediction_id", f"is missing, and so is {row_id_name}; one of them is needed")
        if len(self.errors) > before:
            return None
        observed = observed_at and format_timestamp(observed_at)
        content = [self._model, prediction_id, row_id, outcome, observed, self._caller]
        return FeedbackRecord(
            feedback_id=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32],
            model=self._model,
            prediction_id=prediction_id,
            row_id=row_id,
            outcome=outcome,
            # A clock that is ahead must not make a report outlast the corrections of the next minutes.
            observed_at=min(observed_at or self._now, self._now),
            received_at=self._now,
            caller=self._caller,
            position=row,
        )

    def _add_error(self, row: int, field: str, message: str) -> None:
        self.errors.append(FieldError(f"row {row}: {field}", message))

    def _rename(self, row: int, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return a report's fields by their standard names: the id column and the target may go by their own."""
        fields: dict[str, Any] = {}
        for name, value in report.items():
            field = self._names.get(name)
            if field is None:
                self._add_error(row, name[:100], "is not a part of a report")
            elif field in fields:
                self._add_error(row, name[:100], f"repeats {field}")
            else:
                fields[field] = value
        return fields

    def _read_timestamp(self, value: Any) -> datetime:
        try:
            timestamp = parse_timestamp(value.strip()).astimezone(UTC)
        except (ValueError, AttributeError, OverflowError):
            raise ValueError("expects a time in ISO 8601, such as 2026-05-03T14:15:00Z") from None
        if timestamp > self._now + CLOCK_TOLERANCE:
            raise ValueError("is in the future")
        return timestamp


def _read_prediction_id(value: Any) -> str:
    if not isinstance(value, str) or not _PREDICTION_ID.match(value.strip()):
        raise ValueError("expects a prediction_id of a reply, followed by '-<row>' if it had several rows")
    return value.strip()


def _read_row_id(value: Any) -> str:
    text = write_row_id(value)
    if text is None:
        raise ValueError(f"expects text, of at most {MAX_ROW_ID_LENGTH} characters, or a number within 64 bits")
    return text
