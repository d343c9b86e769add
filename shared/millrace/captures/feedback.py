"""Taking in feedback: what became true of predictions, checked row by row and durable before it is answered.

All or nothing: where one report is wrong none is kept, and each wrong one is named, so that a caller can mend them and
send the same again. Sending the same again is always safe: an object's key follows from what was said, and joining
takes a repeated report for one.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from millrace.captures.joining import CLOCK_TOLERANCE
from millrace.captures.records import FeedbackRecord, Outcome, write_moment
from millrace.errors import (
    ArtifactNotFoundError,
    FieldError,
    InvalidInputError,
    PayloadTooLargeError,
    SchemaNotFoundError,
)
from millrace.layout import feedback_key, schema_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.lifecycle import insist_on_living
from millrace.schema import MISSING_WORDS, TableSchema
from millrace.serving.capture import MAX_ROW_ID_LENGTH, write_row_id

#: Classes that a message lists.
_LISTED = 10


def outcome_reader(schema: TableSchema) -> Callable[[Any], Outcome]:
    """Return the function that reads one outcome; it raises ``ValueError``, which says in words what is wrong.

    A class may be written as the reply writes its label, or as the training data did: ``7``, ``7.0`` and ``"7"`` are
    one class of a target of whole numbers, ``true`` and the word for it one of a boolean target. Numbers may be text,
    as in a CSV file.
    """
    if schema.task == "regression":
        return _read_number
    known = {name: name for name in schema.classes}
    if schema.target.type == "boolean":
        known = {name.lower(): name for name in schema.classes}
        known |= {word: name for word, name in _boolean_words(schema).items() if word not in known}
    listed = ", ".join(map(repr, schema.classes[:_LISTED]))
    more = f" or {len(schema.classes) - _LISTED} others" if len(schema.classes) > _LISTED else ""

    def read(value: Any) -> str:
        text = _class_text(value, schema)
        if text is None or text in MISSING_WORDS - set(known):
            raise ValueError("is missing")
        name = known.get(text.lower() if schema.target.type == "boolean" else text)
        if name is None:
            raise ValueError(f"expects one of {listed}{more}")
        return name

    return read


def _boolean_words(schema: TableSchema) -> dict[str, str]:
    """Return the class that true and false stand for; the schema has the false one first, or says its words."""
    target = schema.target
    words: dict[str, str] = {}
    for name in schema.classes:
        is_true = name.lower() in target.true_values if target.true_values else name == "true"
        words |= dict.fromkeys(
            ("true", "1", *target.true_values) if is_true else ("false", "0", *target.false_values), name
        )
    return words


def _class_text(value: Any, schema: TableSchema) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) and schema.target.type == "boolean":
        return "true" if value else "false"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value)
    if not isinstance(value, str):
        raise ValueError("expects a word or a number")  # noqa: TRY004 - callers catch one kind of error
    text = value.strip()
    if text not in schema.classes and schema.target.type in ("integer", "number"):
        try:
            return _number_text(float(text))
        except ValueError:
            return text
    return text


def _number_text(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and float(value).is_integer() else repr(value)


def _read_number(value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip() in MISSING_WORDS):
        raise ValueError("is missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expects a number")  # noqa: TRY004 - as above
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("expects a number") from None
    if not math.isfinite(number):
        raise ValueError("expects a finite number")
    return number


#: Reports that one request may hold; all of their faults are named.
MAX_RECORDS = 5_000

_FIELDS = ("prediction_id", "row_id", "outcome", "observed_at")
_PREDICTION_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z")


def record_feedback(
    model: str, document: Mapping[str, Any], *, registry: Registry, data_store: ObjectStore, now: datetime
) -> dict[str, Any]:
    """Check what was sent, store it, and only then say so.

    Parameters
    ----------
    document : mapping
        One report, or ``{"feedback": [report, ...]}``. A report has ``prediction_id`` or ``row_id`` (or the name of
        the model's id column), ``outcome`` (or the name of its target) and perhaps ``observed_at``.

    Returns
    -------
    dict
        ``model``, ``received`` (how many) and ``received_at``.

    Raises
    ------
    ModelNotFoundError, SchemaNotFoundError
        When there is no such model, or it has never seen data.
    InvalidInputError
        Names every report that is wrong, as ``row 3: outcome`` (rows count from 0).
    PayloadTooLargeError
        When there are more than :data:`MAX_RECORDS`.
    ServiceUnavailableError
        When it could not be stored; the same call may work later.
    """
    state = registry.get_state(model)
    insist_on_living(state)
    version = state.current_schema_version
    if not version:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema yet: it is inferred from the first accepted upload"
        )
    reports = _reports(document)
    records = _read_reports(reports, _Schemas(model, version, data_store), now)
    lines = "".join(f"{record.to_line()}\n" for record in records)
    name = hashlib.sha256("\n".join(record.feedback_id for record in records).encode()).hexdigest()[:32]
    data_store.put(feedback_key(model, now, name), lines.encode(), "application/x-ndjson")
    return {"model": model, "received": len(records), "received_at": write_moment(now)}


@dataclass(frozen=True)
class _Schemas:
    """A model's schemas, the current one first; an outcome may be of a version that is gone."""

    model: str
    version: int
    store: ObjectStore

    @cached_property
    def current(self) -> TableSchema:
        """The schema that the next upload is held to."""
        return TableSchema.from_dict(json.loads(self.store.get(schema_key(self.model, self.version))))

    @cached_property
    def _readers(self) -> list[Callable[[Any], Outcome]]:
        return [outcome_reader(self.current)]

    def read_outcome(self, value: Any) -> Outcome:
        """Read an outcome by the current schema, or else by an earlier one; raises ``ValueError``."""
        try:
            return self._readers[0](value)
        except ValueError:
            for reader in self._earlier:
                try:
                    return reader(value)
                except ValueError:
                    continue
            raise

    @cached_property
    def _earlier(self) -> list[Callable[[Any], Outcome]]:
        found: list[Callable[[Any], Outcome]] = []
        for version in range(self.version - 1, 0, -1):
            try:
                document = json.loads(self.store.get(schema_key(self.model, version)))
            except ArtifactNotFoundError:
                continue
            found.append(outcome_reader(TableSchema.from_dict(document)))
        return found


def _reports(document: Mapping[str, Any]) -> Sequence[Any]:
    if "feedback" not in document:
        return [document]
    reports = document["feedback"]
    unknown = sorted(set(document) - {"feedback"})
    if unknown:
        raise InvalidInputError(
            "beside 'feedback' nothing is expected", [FieldError(name[:100], "is not a part of it") for name in unknown]
        )
    if not isinstance(reports, list) or not reports:
        raise InvalidInputError("'feedback' has to be a list of reports", [FieldError("feedback", "expects a list")])
    if len(reports) > MAX_RECORDS:
        raise PayloadTooLargeError(
            f"{len(reports)} reports at once: send at most {MAX_RECORDS}, one request after another"
        )
    return reports


def _read_reports(reports: Sequence[Any], schemas: _Schemas, now: datetime) -> list[FeedbackRecord]:
    faults: list[FieldError] = []
    records: list[FeedbackRecord] = []
    wrong = 0
    for row, report in enumerate(reports):
        found = _Report(report, schemas, now)
        here = [FieldError(f"row {row}: {field}", message) for field, message in found.faults()]
        faults += here
        wrong += bool(here)
        if not here:
            records.append(found.record())
    if faults:
        what = "report is" if wrong == 1 else "reports are"
        raise InvalidInputError(f"{wrong} of {len(reports)} {what} wrong, and none was kept", faults)
    return records


class _Report:
    """One report as it came; wrong fields are collected, so that all of them can be named."""

    def __init__(self, report: Any, schemas: _Schemas, now: datetime) -> None:
        self._faults: list[tuple[str, str]] = []
        self._schemas = schemas
        self._now = now
        if not isinstance(report, dict):
            self._faults.append(("report", "expects an object"))
            return
        fields = self._named(report)
        self._prediction_id = self._read("prediction_id", fields.get("prediction_id"), _read_prediction_id)
        self._row_id = self._read("row_id", fields.get("row_id"), _read_row_id)
        self._outcome = self._read("outcome", fields.get("outcome"), schemas.read_outcome)
        self._observed_at = self._read("observed_at", fields.get("observed_at"), self._read_moment)
        if fields.get("prediction_id") is None and fields.get("row_id") is None:
            self._faults.append(("prediction_id", f"is missing, and so is {self._row_id_name}; one of them is needed"))

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, as field and message."""
        return iter(self._faults)

    def record(self) -> FeedbackRecord:
        """Return the record of a report without faults."""
        observed = None if self._observed_at is None else write_moment(self._observed_at)
        said = [self._schemas.model, self._prediction_id, self._row_id, self._outcome, observed]
        return FeedbackRecord(
            feedback_id=hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32],
            model=self._schemas.model,
            prediction_id=self._prediction_id,
            row_id=self._row_id,
            outcome=self._outcome,
            observed_at=self._observed_at or self._now,
            received_at=self._now,
        )

    def _named(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields by our names: the id column and the target may go by their own."""
        schema = self._schemas.current
        ours = dict.fromkeys(_FIELDS)
        aliases = {schema.target.name: "outcome"}
        self._row_id_name = "row_id"
        if schema.identifier is not None:
            aliases[schema.identifier.name] = "row_id"
            self._row_id_name = f"row_id (or {schema.identifier.name!r})"
        fields: dict[str, Any] = {}
        for name, value in report.items():
            ours_name = name if name in ours else aliases.get(name)
            if ours_name is None:
                self._faults.append((name[:100], "is not a part of a report"))
            elif ours_name in fields:
                self._faults.append((name[:100], f"says {ours_name} a second time"))
            else:
                fields[ours_name] = value
        return fields

    def _read(self, field: str, value: Any, read: Callable[[Any], Any]) -> Any:
        try:
            return read(value)
        except ValueError as error:
            self._faults.append((field, str(error)))
            return None

    def _read_moment(self, value: Any) -> datetime | None:
        if value is None:
            return None
        try:
            moment = datetime.fromisoformat(value.strip())
            moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, AttributeError, OverflowError):
            raise ValueError("expects a time in ISO 8601, such as 2026-05-03T14:15:00Z") from None
        if moment > self._now + CLOCK_TOLERANCE:
            raise ValueError("is in the future")
        return moment


def _read_prediction_id(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _PREDICTION_ID.match(value.strip()):
        raise ValueError("expects a prediction_id of a reply, with '-<row>' behind it where there were several rows")
    return value.strip()


def _read_row_id(value: Any) -> str | None:
    if value is None:
        return None
    text = write_row_id(value)
    if text is None:
        raise ValueError(f"expects text or a number, of at most {MAX_ROW_ID_LENGTH} characters")
    return text
