"""Spec of a model's data: columns, checks, reading and the split; all of it optional.

A stated field overrides the inferred one.
"""

import codecs
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, ValidationInfo, field_validator

from millrace.schema import ColumnType, Role
from millrace.spec.part import SpecPart

Severity = Literal["error", "warning"]

#: Population stability index of a moderate and of a large shift (Siddiqi 2006, *Credit Risk Scorecards*, p. 136): the
#: thresholds of the checks of datasets, of their comparison and of monitoring.
MODERATE_SHIFT, LARGE_SHIFT = 0.1, 0.25

#: Syntax that RE2, which runs in linear time on any file, does not support: look-around, back-references, atomic
#: groups, possessive quantifiers, conditionals.
_NOT_RE2 = re.compile(r"\(\?(?:[=!>]|<[=!]|P=|\()|(?<!\\)(?:\\\\)*\\[1-9]|(?<!\\)[*+?}]\+")

#: Directives of ``strptime``.
_DIRECTIVE = re.compile(r"%(.)")
_DIRECTIVES = frozenset("aAwdbBmyYHIpMSfzZjUWcxX%GuV")


def _check_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as fault:
        raise ValueError(f"is not a regular expression: {fault}") from fault
    if _NOT_RE2.search(pattern):
        raise ValueError("look-around, back-references, atomic groups and possessive quantifiers are not supported")
    return pattern


def _check_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as fault:
        raise ValueError(f"{name!r} is no known encoding; utf-8, latin-1, cp1252 and utf-16 are some") from fault
    return name


def _check_format(form: str) -> str:
    unknown = [letter for letter in _DIRECTIVE.findall(form) if letter not in _DIRECTIVES]
    if form != "iso" and (unknown or "%" not in form):
        raise ValueError(f"{form!r} is no date format: write 'iso', or strptime's directives such as %d/%m/%Y")
    return form


def _as_text(value: Any) -> Any:
    """Let numbers stand for the text a file would hold; a YAML ``yes`` is a boolean by mistake."""
    if isinstance(value, bool):
        raise ValueError("put yes, no, true, false in quotes: YAML reads them as booleans")  # noqa: TRY004  # pydantic reports ValueError
    return repr(value) if isinstance(value, int | float) else value


def _check_not_empty(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise ValueError("needs at least one value")
    return values


Pattern = Annotated[str, Field(max_length=1_000), AfterValidator(_check_pattern)]
Encoding = Annotated[str, AfterValidator(_check_encoding)]
DateFormat = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_format)]
FileValue = Annotated[str, BeforeValidator(_as_text), Field(max_length=1_000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Prose = Annotated[str, Field(max_length=10_000)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class ColumnSpec(SpecPart):
    """Spec of one column.

    Parameters
    ----------
    type, role : ColumnType, Role or None, default=None
        Override the inferred ones.
    nullable : bool or None, default=None
        False makes a missing value an error; True allows missing values.
    minimum, maximum : float or None, default=None
        The range allowed, both ends included; seconds since 1970 for datetimes.
    allowed : tuple of str or None, default=None
        The values allowed, as a file would hold them.
    pattern : str or None, default=None
        A regular expression (RE2's syntax) that a value must match from its first character to its last.
    unique : bool, default=False
        Whether values must differ; of rows with one value the first is kept.
    max_null_share : float or None, default=None
        Largest share of missing values.
    formats : tuple of str, default=()
        ``strptime`` formats for dates; ``iso`` stands for ISO 8601.
    sensitive : bool, default=False
        Whether values are masked in examples and reports.
    severity : {'error', 'warning'}, default='error'
        Of these rules: an error quarantines rows, a warning reports them.
    """

    type: ColumnType | None = None
    role: Role | None = None
    nullable: bool | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    allowed: Annotated[tuple[FileValue, ...], Field(max_length=1_000), AfterValidator(_check_not_empty)] | None = None
    pattern: Pattern | None = None
    unique: bool = False
    max_null_share: Share | None = None
    formats: tuple[DateFormat, ...] = ()
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

    Parameters
    ----------
    name : str
        Name of the finding.
    expression : str
        Such as ``start <= end and (amount > 0 or kind == 'refund')``: columns and literals, compared, combined with
        ``and``, ``or``, ``not``, ``+``, ``-``, ``*``, ``/`` and parentheses.
    severity : {'error', 'warning'}, default='error'
        An error quarantines the rows that do not meet it.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    expression: Annotated[str, Field(min_length=1, max_length=1_000)]
    severity: Severity = "error"


class TableChecks(SpecPart):
    """Checks of a whole dataset.

    Parameters
    ----------
    min_rows, max_rows : int or None, default=None
        Bounds of the number of rows.
    row_count_factor : float or None, default=None
        Largest ratio of the rows to the median of the earlier datasets, and of that median to the rows.
    max_duplicate_share : float or None, default=None
        Largest share of rows that repeat another one.
    freshness_column : str or None, default=None
        The datetime column whose newest value gives the age of the data.
    max_age_days : float or None, default=None
        Largest age of that value at the upload.
    label_share_tolerance : float or None, default=None
        Largest change of a class's share from the dataset before.
    expressions : tuple of ExpressionCheck, default=()
        Conditions over several columns; their names must differ.
    leakage_threshold : float, default=0.999
        Association with the target from which a feature counts as a leak.
    shift_threshold : float, default=0.25
        Population stability index above which a column has shifted since the dataset before.
    skew_threshold : float or None, default=None
        Population stability index above which a feature is skewed between the dataset and recent predictions; None
        does not check.
    min_group_share : float, default=0.01
        Share of the rows below which a sensitive group is under-represented.
    min_label_rate_ratio : float, default=0.8
        Least ratio of two sensitive groups' label rates (the four-fifths rule, 29 CFR 1607.4 D).
    """

    min_rows: Annotated[int, Field(ge=0)] | None = None
    max_rows: Annotated[int, Field(gt=0)] | None = None
    row_count_factor: Annotated[Number, Field(gt=1.0)] | None = None
    max_duplicate_share: Share | None = None
    freshness_column: str | None = None
    max_age_days: Annotated[Number, Field(gt=0.0)] | None = None
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

    Parameters
    ----------
    delimiter : str or None, default=None
        One character between the values of a delimited file.
    encoding : str or None, default=None
        Of a text file, as Python calls it.
    decimal : {'.', ','} or None, default=None
        Before a number's fraction.
    thousands : {',', '.', ' ', "'", '_'} or None, default=None
        Between groups of a number's digits.
    null_values : tuple of str or None, default=None
        Strings that stand for a missing value; None takes :data:`millrace.schema.NULL_STRINGS`. The empty string always
        does.
    date_order : {'day_first', 'month_first'} or None, default=None
        Order of dates whose day and month could be swapped.
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

    Parameters
    ----------
    by : {'random', 'time', 'group'}, default='random'
        ``random`` by a hash of the row (or its identifier), ``time`` so that the newest rows are the test, ``group``
        so that every row of one entity is in one split.
    column : str or None, default=None
        The datetime column, or the entity's; a random split needs none.
    test_share, validation_share : float, default=0.2
        Shares of the rows; the rest is for training.
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

    Parameters
    ----------
    motivation, collection, uses, maintenance, licence : str, default=""
        After the questions of Gebru et al., "Datasheets for Datasets", Communications of the ACM 64 (12), 2021.
    """

    motivation: Prose = ""
    collection: Prose = ""
    uses: Prose = ""
    maintenance: Prose = ""
    licence: Prose = ""
