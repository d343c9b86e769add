"""Typing the rows of a request: plain JSON values to the columns that :func:`millrace.features.build_features` takes.

``docs/serving.md`` has the table of how each type is read. The spec's rules for a column (presence, range, set; see
:class:`millrace.schema.ColumnRules`) apply too: a value that breaks one is a bad field, or a warning where the rule
only warns. No message holds a value of a sensitive column.

A ``null`` is a missing value in every column. Absence is not: a column that a row does not mention is missing only
where training saw missing values, and a bad field elsewhere. Numbers in quotes are read, with a warning; booleans in
columns of numbers and numbers that float32 cannot hold are refused. Columns that are no features are ignored.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.features import (
    FLOAT32_MAX,
    MAX_CHARACTERS,
    MISSING_STRING,
    FeatureMatrix,
    build_features,
    build_few_features,
    is_unicode,
    missing_mask,
)
from millrace.quantities import PLAIN, format_number, format_range
from millrace.schema import Column, TableSchema
from millrace.serving.request import ABSENT, RequestTable

#: A typed value: datetimes are UTC and have no zone; None is a missing datetime.
TypedValue = float | str | datetime | None
Values = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

#: A category longer than this (and than every one seen in training) is refused: a matrix of strings is as wide as its
#: longest.
MAX_TEXT_LENGTH = 1_000

_MISSING_NUMBER = float("nan")
#: Allowed values that a message lists.
_LISTED_VALUES = 10
#: Unknown columns that are compared with a missing one, that a message lists, and the characters of each.
_COMPARED_NAMES, _LISTED_NAMES, _SHOWN_CHARACTERS = 200, 5, 100
_TYPE_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
#: Up to this many rows, reading values one by one is quicker than making arrays of them.
FEW_ROWS = 16
#: Bad fields that an error lists, in all and of one row; the rest are counted.
MAX_LISTED_ERRORS = 100
MAX_LISTED_ERRORS_OF_ROW = 20

ColumnValues = Sequence[TypedValue] | npt.NDArray[np.float64]

_DTYPES: dict[str, Any] = {
    "integer": np.float64,
    "number": np.float64,
    "boolean": np.float64,
    "datetime": "datetime64[us]",
    "category": np.object_,
    "text": np.object_,
}
_PLAIN_NUMBERS = frozenset({int, float, type(None)})


def json_type(value: Any) -> str:
    """Return the type of a JSON value, never the value: ``a string``, ``null``."""
    return _TYPE_NAMES.get(type(value), "another type")


def value_reader(column: Column) -> Callable[[Any], TypedValue]:
    """Return the function that reads one value of ``column`` that is not null; it raises ``ValueError``."""
    if column.type in ("integer", "number"):
        return read_number
    if column.type == "boolean":
        return _boolean_reader(column)
    if column.type == "datetime":
        return _datetime_reader(column)
    # A text may be of any length: a model gets numbers for it.
    longest = None if column.type == "text" else longest_string(column)
    return _string_reader(longest, column.missing_strings)


def missing_value(column: Column) -> TypedValue:
    """Return the missing value of ``column``."""
    if column.type == "datetime":
        return None
    return MISSING_STRING if column.type in ("category", "text") else _MISSING_NUMBER


def read_numeric_text(text: str, column: Column) -> float | None:
    """Read a number that was written as text, None for a missing one; raises ``ValueError`` for other text.

    It is read as training read the column's: in its notation, else plainly.
    """
    text = text.strip()
    if text in column.missing_strings:
        return None
    for style in (column.notation, PLAIN):
        if style is not None and (plain := style.plain(text)) is not None:
            return read_number(float(plain))
    notation = "" if column.notation in (None, PLAIN) else f" or {column.notation.example}"
    remedy = f"; write numbers without quotes, and as 1234.5{notation}" if any(map(str.isdigit, text)) else ""
    raise ValueError(f"expects a number, got a string{remedy}")


def read_number(value: Any) -> float:
    """Read a number; raises ``ValueError`` for anything else, and for one that a 32-bit float cannot hold."""
    if type(value) not in (int, float):
        raise ValueError(f"expects a number, got {json_type(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if abs(number) > FLOAT32_MAX:
        raise ValueError("expects a number that a 32-bit float can hold")
    return number + 0.0  # makes a negative zero positive, as training does


def too_long(characters: int) -> str:
    """Return the message about a string of more characters."""
    return f"expects a string of at most {characters} characters"


def longest_string(column: Column) -> int:
    """Return the most characters of a category: a matrix of strings is as wide as its longest."""
    return max([MAX_TEXT_LENGTH, *map(len, column.categories)])


def _boolean_reader(column: Column) -> Callable[[Any], float]:
    known = dict.fromkeys(("true", *column.true_values), 1.0) | dict.fromkeys(("false", *column.false_values), 0.0)
    missing = column.missing_strings
    trained = "" if column.sensitive else " or ".join([*column.true_values[:1], *column.false_values[:1]])
    expected = f"expects true or false (or {trained})" if trained else "expects true or false"

    def read(value: Any) -> float:
        if type(value) is str:
            text = value.strip()
            number = _MISSING_NUMBER if text in missing else known.get(text.lower())
            if number is None:
                raise ValueError(f"{expected}, got another string")
            return number
        if type(value) not in (bool, int, float) or value not in (0, 1):
            raise ValueError(f"{expected}, got {json_type(value)}")
        return 1.0 if value else 0.0

    return read


def _string_reader(max_length: int | None, missing: frozenset[str]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"expects a string, got {json_type(value)}")
        if max_length is not None and len(value) > max_length:
            raise ValueError(too_long(max_length))
        if not is_unicode(value):
            raise ValueError("expects a string of whole Unicode characters, got half a surrogate pair")
        text = value.strip()
        # NumPy's strings, which training has, end before their trailing NULs.
        return MISSING_STRING if text in missing else text.rstrip("\0")

    return read


def _datetime_reader(column: Column) -> Callable[[Any], datetime | None]:
    # The formats of training come first, in its order: 20240203 is a day in ISO 8601 too, but perhaps another.
    formats, missing = tuple(dict.fromkeys((*column.formats, "iso"))), column.missing_strings

    def read(value: Any) -> datetime | None:
        if type(value) is not str:
            raise ValueError(f"expects a date as a string, got {json_type(value)}")
        text = value.strip()
        if text in missing:
            return None
        for name in formats:
            try:
                timestamp = datetime.fromisoformat(text) if name == "iso" else datetime.strptime(text, name)  # noqa: DTZ007 - the next line gives it a zone
                timestamp = timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp
            except (ValueError, OverflowError):
                continue
            return timestamp.replace(tzinfo=None)
        raise ValueError(f"expects a date in {' or '.join(formats).replace('iso', 'ISO 8601')}")

    return read


@dataclass(frozen=True, slots=True)
class ValueRule:
    """A rule of the spec: the expectation as a message, and the function that returns the mask of violations."""

    message: str
    violations: Callable[[Values], BoolArray]


def value_rules(column: Column) -> tuple[ValueRule, ...]:
    """Return the rules for a feature's typed values; none when the spec has none."""
    rules = column.rules
    found: list[ValueRule] = []
    if rules.nullable is False:
        found.append(ValueRule("may not be missing", missing_mask))
    if column.type in ("integer", "number", "datetime"):
        if rules.minimum is not None:
            found.append(_bound(column, rules.minimum, np.less, "at least"))
        if rules.maximum is not None:
            found.append(_bound(column, rules.maximum, np.greater, "at most"))
    if rules.allowed and column.type != "datetime":
        found.append(_membership(column, rules.allowed))
    return tuple(found)


def _bound(column: Column, limit: float, compare: Callable[[Any, Any], Any], adverb: str) -> ValueRule:
    bound: Any = limit
    shown = format_number(limit, digits=6)
    if column.type == "datetime":
        bound = np.datetime64(round(limit * 1e6), "us")
        shown = f"{datetime.fromtimestamp(limit, UTC):%Y-%m-%dT%H:%M:%SZ}"
    # Comparisons with NaN and "not a time" are false: a missing value breaks no bound.
    shown = "the spec's limit" if column.sensitive else shown
    return ValueRule(f"expects {adverb} {shown}", lambda values: np.asarray(compare(values, bound), np.bool_))


def _membership(column: Column, allowed: tuple[str, ...]) -> ValueRule:
    more = f" and {len(allowed) - _LISTED_VALUES} more" if len(allowed) > _LISTED_VALUES else ""
    listed = "the values that the spec allows" if column.sensitive else ", ".join(map(repr, allowed[:_LISTED_VALUES]))
    message = f"expects one of {listed}{'' if column.sensitive else more}"
    known = _typed(column, allowed)
    return ValueRule(message, lambda values: ~missing_mask(values) & ~np.isin(values, known))


def _typed(column: Column, allowed: tuple[str, ...]) -> Values:
    """Return the allowed values in the column's type, without those that are none of it."""
    if column.type in ("category", "text"):
        return np.array(allowed, dtype=np.str_)
    if column.type == "boolean":
        lowered = {text.strip().lower() for text in allowed}
        trues = {text.lower() for text in (*column.true_values, "true", "1")}
        falses = {text.lower() for text in (*column.false_values, "false", "0")}
        return np.array([*([1.0] if lowered & trues else []), *([0.0] if lowered & falses else [])])
    return np.array([number for text in allowed if (number := _parse_number(text)) is not None], dtype=np.float64)


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RowWarning:
    """A warning about a column that was scored all the same."""

    field: str
    message: str


@dataclass(slots=True)
class _Findings:
    """Errors and warnings of a request's rows; errors are kept by row where good rows will be scored."""

    partial: bool
    unknown: frozenset[str] = frozenset()  # the request's columns that the model does not know
    warnings: list[RowWarning] = field(default_factory=list)
    n_missing: int = 0
    n_unknown: int = 0
    n_errors: int = 0
    errors: list[FieldError] = field(default_factory=list)
    errors_by_row: dict[int, list[FieldError]] = field(default_factory=dict)

    def warn(self, column: str, message: str) -> None:
        self.warnings.append(RowWarning(column, message))

    def add_error(self, row: int | None, column: str, message: str) -> None:
        """Add an error of a row, or of all rows."""
        self.n_errors += 1
        if len(self.errors) < MAX_LISTED_ERRORS:
            self.errors.append(FieldError(column if row is None else f"row {row}: {column}", message))
        if row is None:
            self.partial = False
        elif self.partial:
            of_row = self.errors_by_row.setdefault(row, [])
            if len(of_row) < MAX_LISTED_ERRORS_OF_ROW:
                of_row.append(FieldError(column, message))

    def bad_rows(self, n_rows: int) -> Mapping[int, tuple[FieldError, ...]]:
        """Return the errors of each bad row; raises ``InvalidInputError`` when no row may be scored."""
        if not self.n_errors:
            return {}
        if not self.partial or len(self.errors_by_row) == n_rows:
            rest = self.n_errors - len(self.errors)
            more = f"; {rest} more are not listed" if rest else ""
            raise InvalidInputError(f"the rows have {_counted(self.n_errors, 'bad field')}{more}", self.errors)
        return {row: tuple(errors) for row, errors in sorted(self.errors_by_row.items())}


def describe_missing(column: str, unknown: frozenset[str]) -> str:
    """Return the message about a column that the rows lack; it may be among the ``unknown`` ones under another name."""
    names = sorted(unknown)[:_COMPARED_NAMES]
    if not names:
        return "is missing"
    from difflib import get_close_matches  # noqa: PLC0415 - only a refusal needs it

    by_letters = {_letters(name): name for name in names}
    if close := get_close_matches(_letters(column), by_letters, n=1, cutoff=0.75):
        name = by_letters[close[0]][:_SHOWN_CHARACTERS]
        return f"is missing; the model does not know {name!r}: did you mean {column!r}?"
    listed = ", ".join(repr(name[:_SHOWN_CHARACTERS]) for name in names[:_LISTED_NAMES])
    more = " and others" if len(names) > _LISTED_NAMES else ""
    return f"is missing; the model does not know {listed}{more}"


def _letters(name: str) -> str:
    """Return a column's name as it is compared with others: letters and digits in lower case."""
    return "".join(filter(str.isalnum, name[:_SHOWN_CHARACTERS].casefold()))


def _counted(number: int, noun: str) -> str:
    """Return ``1 value``, ``2 values``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class FeatureReader:
    """Reads the values of one feature."""

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self.column = self._column = column
        self._type = column.type
        self._read_value = value_reader(column)
        self._missing = missing_value(column)
        self._categories = frozenset(column.categories)
        self._rules = value_rules(column)
        self._is_normal = _normal_values(column)

    def read(self, table: RequestTable, findings: _Findings) -> ColumnValues:
        """Return the feature's value in every row, missing where it is bad."""
        if self.name not in table.names:
            if not self._column.nullable:
                findings.add_error(None, self.name, describe_missing(self.name, findings.unknown))
            findings.warn(self.name, "is not in the request: scored as missing")
            findings.n_missing += table.n_rows
            return [self._missing] * table.n_rows
        raw = table.column(self.name)
        if len(raw) == 1 and not self._rules and (value := self.read_regular(raw[0])) is not None:
            return [value]
        few = table.n_rows <= FEW_ROWS
        values, distinct = (self._read_few(raw, findings), None) if few else self._read_many(raw, findings)
        may_warn = not few or not all(map(self._is_normal, values))
        for rule in self._rules:
            self._apply(rule, values, findings)
        if may_warn:
            self._warn(values, values if distinct is None else distinct, findings)
        return values

    def keeps_rules(self, value: TypedValue) -> bool:
        """Return whether a typed value breaks none of the spec's rules."""
        return not any(rule.violations(self.array([value])).any() for rule in self._rules)

    def array(self, values: ColumnValues) -> npt.NDArray[Any]:
        """Return values as :func:`millrace.features.build_features` takes them."""
        return np.asarray(values, dtype=_DTYPES[self._type])

    def read_regular(self, raw: Any) -> TypedValue:
        """Read a value that needs no error or warning but those of the spec's rules; None for any other."""
        if raw is None or raw is ABSENT:
            return None
        try:
            value = self._read_value(raw)
        except ValueError:
            return None
        return value if self._is_normal(value) else None

    def _read_few(self, raw: Sequence[Any], findings: _Findings) -> list[TypedValue]:
        values: list[TypedValue] = []
        quoted = 0
        for row, each in enumerate(raw):
            value = self._missing
            try:
                if each is ABSENT:
                    if self._column.rules.nullable_override is not False and not self._column.nullable:
                        findings.add_error(row, self.name, "is missing; send null for an unknown value")
                elif type(each) is str and self._type in ("integer", "number"):
                    number = read_numeric_text(each, self._column)
                    value = self._missing if number is None else number
                    quoted += number is not None
                elif each is not None:
                    value = self._read_value(each)
            except ValueError as error:
                findings.add_error(row, self.name, str(error))
            values.append(value)
        if quoted:
            notation = self._column.notation
            shown = f"in training's notation, {notation.example}" if notation else "as written, with a decimal point"
            findings.warn(self.name, f"{_counted(quoted, 'number')} in quotes: read {shown}")
        return values

    def _read_many(self, raw: Sequence[Any], findings: _Findings) -> tuple[ColumnValues, Collection[Any] | None]:
        """Return a column's values, and each of them once, if that is known."""
        if self._type in ("integer", "number"):
            numbers = _read_numbers(raw) if set(map(type, raw)) <= _PLAIN_NUMBERS else None
            return self._read_few(raw, findings) if numbers is None else numbers, None
        try:
            distinct = set(raw)  # equal ones are read alike, whatever their types
            if ABSENT not in distinct:
                read = {each: self._missing if each is None else self._read_value(each) for each in distinct}
                return list(map(read.__getitem__, raw)), frozenset(read.values())
        except (TypeError, ValueError):
            pass  # lists and objects, and other values whose error has to name their row
        return self._read_few(raw, findings), None

    def _apply(self, rule: ValueRule, values: ColumnValues, findings: _Findings) -> None:
        rows = np.flatnonzero(rule.violations(self.array(values))).tolist()
        if self._column.rules.severity == "error":
            for row in rows:
                findings.add_error(row, self.name, rule.message)
        elif rows:
            findings.warn(self.name, f"{_counted(len(rows), 'value')}: {rule.message}")

    def _warn(self, values: ColumnValues, distinct: Collection[Any], findings: _Findings) -> None:
        """Add warnings about values that training has not seen or that are missing."""
        missing = self._count_missing(values)
        if self._type == "category" and self._categories:
            new = set(distinct) - self._categories - {""}
            unknown = sum(map(new.__contains__, values)) if new else 0
            if unknown:
                findings.n_unknown += unknown
                findings.warn(self.name, f"{_counted(unknown, 'value')} not seen in training")
        elif self._type in ("integer", "number"):
            self._warn_of_numbers(values, findings)
        elif self._type == "text":
            cut = sum(len(value) > MAX_CHARACTERS for value in values if isinstance(value, str))
            if cut:
                limit = f"read up to character {MAX_CHARACTERS:,}, as in training"
                findings.warn(self.name, f"{_counted(cut, 'value')} {limit}")
        if missing:
            findings.n_missing += missing
            unseen = "" if self._column.nullable else ", though none was in training"
            findings.warn(self.name, f"{_counted(missing, 'value')} missing{unseen}")

    def _count_missing(self, values: ColumnValues) -> int:
        if isinstance(values, np.ndarray):
            return int(np.isnan(values).sum())
        if self._type in ("category", "text", "datetime"):
            return values.count(self._missing)
        return sum(value != value for value in values)  # noqa: PLR0124 - only NaN differs from itself

    def _warn_of_numbers(self, values: Any, findings: _Findings) -> None:
        """Warn of fractions among integers, and of numbers outside the range of training."""
        low, high = self._column.minimum, self._column.maximum
        # Every comparison with a missing number is false.
        if isinstance(values, np.ndarray):
            fractions = int((values % 1 > 0).sum()) if self._type == "integer" else 0
            outside = int(((values < low) | (values > high)).sum()) if low is not None and high is not None else 0
        else:
            fractions = sum(value % 1 > 0 for value in values) if self._type == "integer" else 0
            outside = sum(value < low or value > high for value in values) if None not in (low, high) else 0
        if fractions:
            findings.warn(self.name, f"{_counted(fractions, 'value')} with a fraction; training saw whole numbers")
        if outside:
            shown = ""
            if low is not None and high is not None and not self._column.sensitive:
                shown = f", {format_range(low, high)}"
            findings.warn(self.name, f"{_counted(outside, 'value')} outside the range of training{shown}")


def _normal_values(column: Column) -> Callable[[Any], bool]:
    """Return a quick test of a value; true means that it needs no warning, false means nothing."""
    low, high = column.minimum, column.maximum
    if column.type == "category":
        return (frozenset(column.categories) - {""}).__contains__
    if column.type == "text":
        return lambda value: 0 < len(value) <= MAX_CHARACTERS
    if column.type == "datetime":
        return lambda value: value is not None
    if column.type == "boolean" or low is None or high is None:
        return float.is_integer if column.type == "integer" else _is_number
    if column.type == "integer":
        return lambda value: low <= value <= high and value.is_integer()
    return lambda value: low <= value <= high


def _is_number(value: float) -> bool:
    return value == value  # noqa: PLR0124 - only NaN differs from itself


def _read_numbers(raw: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """Read a column of plain numbers at once; None when one of them is bad."""
    try:
        array = np.fromiter(raw, np.float64, len(raw))
    except OverflowError:
        return None
    fits = np.abs(array) <= FLOAT32_MAX
    # A negative zero becomes positive, as in training.
    return array + 0.0 if bool((fits | np.isnan(array)).all()) else None


@dataclass(frozen=True)
class TypedRows:
    """Rows that are ready to be scored.

    ``values`` holds every feature: floats (NaN is missing), strings ('' is missing) or datetimes (None is missing);
    ``n_missing`` and ``n_unknown`` count in all features together. ``bad_rows`` are the request's other rows, by
    number.
    """

    reader: "RowReader"
    values: Mapping[str, ColumnValues]
    n_rows: int
    warnings: tuple[RowWarning, ...] = ()
    n_missing: int = 0
    n_unknown: int = 0
    bad_rows: Mapping[int, tuple[FieldError, ...]] = field(default_factory=dict)

    @property
    def good_rows(self) -> Sequence[int]:
        """Numbers, in the request, of the rows that are here."""
        if not self.bad_rows:
            return range(self.n_rows)
        return [row for row in range(self.n_rows + len(self.bad_rows)) if row not in self.bad_rows]

    @cached_property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Every feature as the array that :func:`millrace.features.build_features` takes."""
        return {feature.name: feature.array(self.values[feature.name]) for feature in self.reader.features}

    def features(self, start: int, stop: int) -> FeatureMatrix:
        """Return the two matrices of some rows; few rows come all at once."""
        if self.n_rows <= FEW_ROWS:
            reader = self.reader
            return build_few_features(reader.plan, self.values, self.n_rows, reader.token_columns, reader.centres)
        chunk = {name: values[start:stop] for name, values in self.columns.items()}
        return build_features(self.reader.schema, chunk, stop - start, texts=object)


class RowReader:
    """Types the rows of requests by the schema that a model was trained under; built once for a model."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.features = [FeatureReader(column) for column in schema.features]
        self.plan = [(column.name, column.type) for column in schema.features]
        self.token_columns = schema.token_columns
        self.centres = schema.centres
        self._known_names = frozenset(column.name for column in schema.columns)

    def read(self, table: RequestTable, partial: bool = False) -> TypedRows:
        """Type every feature of every row; ``partial`` leaves out rows with a bad field, if others are good.

        Otherwise ``InvalidInputError`` names the first :data:`MAX_LISTED_ERRORS` bad fields, as ``row 3: age`` (from
        0).
        """
        findings = _Findings(partial, table.names - self._known_names)
        values = {feature.name: feature.read(table, findings) for feature in self.features}
        bad_rows = findings.bad_rows(table.n_rows)
        if bad_rows:
            good_rows = self.read(table.select([row for row in range(table.n_rows) if row not in bad_rows]))
            return replace(good_rows, bad_rows=bad_rows)
        if findings.unknown:
            findings.warn("*", f"{_counted(len(findings.unknown), 'column')} unknown to the model: ignored")
        warnings = tuple(findings.warnings)
        return TypedRows(self, values, table.n_rows, warnings, findings.n_missing, findings.n_unknown)
