"""Spec of a model's data: columns, checks, reading and the split; all of it optional.

A stated field overrides the inferred one.
"""

import codecs
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationInfo, field_validator

from millrace.errors import InvalidInputError
from millrace.schema import ColumnType, Role
from millrace.spec.expressions import parse_expression
from millrace.spec.part import SpecPart
from millrace.spec.patterns import check_pattern

Severity = Literal["error", "warning"]

#: Population stability index of a moderate and of a large shift (Siddiqi 2006, *Credit Risk Scorecards*, p. 136): the
#: thresholds of the checks of datasets, of their comparison and of monitoring.
MODERATE_SHIFT, LARGE_SHIFT = 0.1, 0.25

#: Directives of ``strptime`` that pandas reads as well, in any combination; each may occur once.
_DIRECTIVE = re.compile(r"%(.|\Z)", re.DOTALL)
_DIRECTIVES = frozenset("aAwdbBmyYHIpMSfzZj%")
_A_TIME = datetime(2024, 3, 5, 14, 7, 9, 123456, UTC)

#: Encodings of Python that are none of files.
_NO_FILES = frozenset({"idna", "mbcs", "oem", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"})
_SAMPLE = "a,b\n1,2\n"


def _check_encoding(name: str) -> str:
    try:
        codec = codecs.lookup(name)
        decoder = codecs.getincrementaldecoder(name)()
        reads = codec.name not in _NO_FILES and decoder.decode(_SAMPLE.encode(name), final=True) == _SAMPLE
    except (LookupError, UnicodeError, TypeError, ValueError):
        reads = False
    if not reads:
        raise ValueError(f"{name!r} is no known encoding of text; utf-8, latin-1, cp1252 and utf-16 are some")
    return name


def _check_format(form: str) -> str:
    if form == "iso":
        return form
    found = _DIRECTIVE.findall(form)
    once = [letter for letter in found if letter != "%"]
    if not once or not _DIRECTIVES.issuperset(found) or len(set(once)) < len(once) or {"z", "Z"} <= set(once):
        raise ValueError(
            f"{form!r} is no date format: write 'iso', or strptime's directives such as %d/%m/%Y, each once, without "
            "weeks and the locale's own"
        )
    try:
        datetime.strptime(_A_TIME.strftime(form), form)  # noqa: DTZ007  # only whether it parses
    except (ValueError, re.error) as fault:
        raise ValueError(f"{form!r} cannot be read back: {fault}") from fault
    return form


def _check_unit(unit: str) -> str:
    if unit != unit.strip() or any(letter.isdigit() or letter in "+-.,()" for letter in unit):
        raise ValueError(f"{unit!r} is no sign or unit: write it without digits, signs, points and blanks around it")
    return unit


def _check_expression(text: str) -> str:
    try:
        parse_expression(text)
    except InvalidInputError as fault:
        raise ValueError(fault.message) from fault
    return text


def _as_text(value: Any) -> Any:
    """Let numbers stand for the text a file would hold; a YAML ``yes`` is a boolean by mistake."""
    if isinstance(value, bool):
        raise ValueError("put yes, no, true, false in quotes: YAML reads them as booleans")  # noqa: TRY004  # pydantic reports ValueError
    return repr(value) if isinstance(value, int | float) else value


def check_not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list; pydantic's own bound would also count a value that is refused itself."""
    if not values:
        raise ValueError("needs at least one value")
    return values


Pattern = Annotated[str, Field(max_length=1_000), AfterValidator(check_pattern)]
Encoding = Annotated[str, AfterValidator(_check_encoding)]
DateFormat = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_format)]
FileValue = Annotated[str, BeforeValidator(_as_text), Field(max_length=1_000)]
#: Days of any period.
MAX_DAYS = 36_500
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Prose = Annotated[str, Field(max_length=10_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class ColumnSpec(SpecPart):
    """Spec of one column; type and role override the inferred ones.

    ``nullable`` False makes a missing value an error. The range includes both ends, in seconds since 1970 for
    datetimes; ``allowed`` values are as a file would hold them. A value must match ``pattern`` (RE2's syntax) from end
    to end. Of rows with one ``unique`` value the first is kept. ``formats`` are ``strptime``'s; ``iso`` stands for ISO
    8601. ``unit`` is a currency, ``%`` or a unit before or after each number. ``sensitive`` masks values in examples
    and reports. An error quarantines rows, a warning reports them.
    """

    type: ColumnType | None = None
    role: Role | None = None
    nullable: bool | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    allowed: Annotated[tuple[FileValue, ...], Field(max_length=1_000), AfterValidator(check_not_empty)] | None = None
    pattern: Pattern | None = None
    unique: bool = False
    max_null_share: Share | None = None
    formats: tuple[DateFormat, ...] = ()
    unit: Annotated[str, Field(max_length=20), AfterValidator(_check_unit)] | None = None
    sensitive: bool = False
    severity: Severity = "error"

    @field_validator("maximum")
    @classmethod
    def _in_order(cls, value: float | None, info: ValidationInfo) -> float | None:
        lowest = info.data.get("minimum")
        if value is not None and lowest is not None and value < lowest:
            raise ValueError(f"is less than the minimum, {lowest:g}")
        return value

    @field_validator("formats")
    @classmethod
    def _only_for_dates(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        stated = info.data.get("type")
        if value and stated not in (None, "datetime"):
            raise ValueError(f"only a datetime has formats, not a column of type {stated}")
        return value


class ExpressionCheck(SpecPart):
    """A condition over several columns that every row should meet.

    For instance ``start <= end and (amount > 0 or kind == 'refund')``: columns and literals, compared, combined with
    ``and``, ``or``, ``not``, ``+``, ``-``, ``*``, ``/`` and parentheses. An error quarantines the rows that do not meet
    it.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    expression: Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_check_expression)]
    severity: Severity = "error"


class TableChecks(SpecPart):
    """Checks of a whole dataset.

    ``row_count_factor`` is the largest ratio of the rows to the median of the earlier datasets, and of that median to
    the rows. The newest value of ``freshness_column`` gives the age at the upload. ``label_share_tolerance`` is the
    largest change of a class's share from the dataset before. From ``leakage_threshold`` on, a feature's association
    with the target counts as a leak. Shift (since the dataset before) and skew (between the dataset and recent
    predictions) are population stability indexes; ``skew_threshold`` None does not check. Sensitive groups below
    ``min_group_share`` of the rows are under-represented; ``min_label_rate_ratio`` is the least ratio of two groups'
    label rates (the four-fifths rule, 29 CFR 1607.4 D).
    """

    min_rows: Annotated[int, Field(ge=0)] | None = None
    max_rows: Annotated[int, Field(gt=0)] | None = None
    row_count_factor: Annotated[Number, Field(gt=1.0)] | None = None
    max_duplicate_share: Share | None = None
    freshness_column: str | None = None
    max_age_days: Annotated[Number, Field(gt=0.0, le=MAX_DAYS)] | None = None
    label_share_tolerance: Share | None = None
    expressions: tuple[ExpressionCheck, ...] = ()
    leakage_threshold: Annotated[Number, Field(gt=0.5, le=1.0)] = 0.999
    shift_threshold: Annotated[Number, Field(gt=0.0)] = LARGE_SHIFT
    skew_threshold: Annotated[Number, Field(gt=0.0)] | None = None
    min_group_share: Share = 0.01
    min_label_rate_ratio: Share = 0.8

    @field_validator("max_rows")
    @classmethod
    def _in_order(cls, value: int | None, info: ValidationInfo) -> int | None:
        least = info.data.get("min_rows")
        if value is not None and least is not None and value < least:
            raise ValueError(f"is less than min_rows, {least}")
        return value

    @field_validator("max_age_days")
    @classmethod
    def _of_a_column(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("freshness_column") is None and "freshness_column" in info.data:
            raise ValueError("needs freshness_column, the column that holds the time")
        return value

    @field_validator("expressions")
    @classmethod
    def _named_apart(cls, value: tuple[ExpressionCheck, ...]) -> tuple[ExpressionCheck, ...]:
        names = [check.name for check in value]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"the names {', '.join(map(repr, repeated))} are used twice")
        return value


class ReadSpec(SpecPart):
    """Format of files, where it should not be detected.

    Encodings are named as in Python. ``null_values`` None takes :data:`millrace.schema.NULL_STRINGS`; the empty string
    is always missing. ``date_order`` is of dates whose day and month could be swapped.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: Encoding | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'", "_"] | None = None
    null_values: Annotated[tuple[FileValue, ...], Field(max_length=100)] | None = Field(
        default=None, validation_alias=AliasChoices("null_values", "null_words")
    )
    date_order: Literal["day_first", "month_first"] | None = None

    @field_validator("thousands")
    @classmethod
    def _unlike_decimal(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("decimal"):
            raise ValueError(f"{value!r} cannot be the decimal sign as well")
        return value


class SplitSpec(SpecPart):
    """Split of rows into training, validation and test.

    ``random`` is by a hash of the row (or its identifier), ``time`` makes the newest rows the test, ``group`` keeps
    every row of one entity in one split. The column is the datetime one, or the entity's.
    """

    by: Literal["random", "time", "group"] = "random"
    column: Annotated[str | None, Field(validate_default=True)] = None
    test_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0, validate_default=True)] = 0.2

    @field_validator("column")
    @classmethod
    def _named_when_needed(cls, value: str | None, info: ValidationInfo) -> str | None:
        by = info.data.get("by")
        if value is None and by in ("time", "group"):
            raise ValueError(f"a split by {by} needs a column")
        if value is not None and by == "random":
            raise ValueError("a random split takes no column: say by: time or by: group")
        return value

    @field_validator("validation_share")
    @classmethod
    def _leaves_some(cls, value: float, info: ValidationInfo) -> float:
        test = info.data.get("test_share")
        if test is not None and value + test >= 1.0:
            raise ValueError(f"with test_share {test:g} it leaves nothing to train on")
        return value

    @property
    def train_share(self) -> float:
        """Share that remains for training."""
        return 1.0 - self.test_share - self.validation_share


class DatasheetSpec(SpecPart):
    """Owner's statements about the data for the datasheet of every dataset report; paragraphs of plain text.

    After the questions of Gebru et al., "Datasheets for Datasets", Communications of the ACM 64 (12), 2021.
    """

    motivation: Prose = ""
    collection: Prose = ""
    uses: Prose = ""
    maintenance: Prose = ""
    licence: Prose = ""
