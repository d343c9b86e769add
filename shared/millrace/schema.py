"""The schema of a table: its columns and their types, inferred once and enforced everywhere.

The same object checks uploads, shapes the matrices that models are trained on, and types prediction requests. It needs
nothing beyond the standard library; validating it with msgspec would lengthen every cold start by msgspec's import.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from millrace.quantities import PLAIN, NumberStyle

ColumnType = Literal["integer", "number", "boolean", "category", "datetime", "text"]
Role = Literal["feature", "target", "identifier", "ignored"]
Task = Literal["binary", "multiclass", "regression"]
#: Formats of a table's file.
FileFormat = Literal["delimited", "json_lines", "parquet"]

TASKS: tuple[Task, ...] = get_args(Task)

#: Delimiters of text files and of CSV requests, with their names.
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

#: Strings that mean a missing value.
NULL_STRINGS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
#: Strings that mean a missing number, date or boolean besides; a category may be called so.
NULL_MARKS = frozenset(
    {"?", "-", "--", ".", "n/a", "na", "N.A.", "none", "NONE", "Null", "NAN", "<NA>", "NaT", "\\N", "#N/A", "#N/A N/A"}
    | {
        "#DIV/0!",
        "#VALUE!",
        "#REF!",
        "#NAME?",
        "#NUM!",
        "#NULL!",
        "#NA",
        "-nan",
        "-NaN",
        "1.#IND",
        "-1.#IND",
        "1.#QNAN",
    }
    | {"---", "\u2013", "\u2014", "n.a.", "N.A", "n.a", "NIL", "nil", "(null)", "[null]", "(blank)", "-1.#QNAN"}
)
#: Numbers as uploads and requests in CSV may write them.
NUMBER_PATTERN = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
#: Columns that a table may have.
MAX_COLUMNS = 2_000
#: Shown instead of values of sensitive columns.
MASK = "***"

#: Numeric columns that a date becomes.
DATE_PARTS = ("days", "month", "weekday", "hour")

#: Numeric columns that the tokens of one text are hashed into, and of all texts of a row together. Models that were
#: trained with them take no others.
TOKEN_COLUMNS = 512
MAX_TOKEN_COLUMNS = 2_048


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """Rules of the spec for one column's values."""

    nullable: bool | None = None  # false refuses missing values; True allows them, and the absence of the whole column
    minimum: float | None = None  # the range allowed, both ends included; seconds since 1970 for datetimes
    maximum: float | None = None
    allowed: tuple[str, ...] = ()  # the values allowed; empty allows all
    pattern: str | None = None  # pattern that a value must match as a whole, in RE2's syntax; for uploads only
    unique: bool = False  # an upload may hold each value once; of rows with the same value the first is kept
    max_null_share: float | None = None  # largest share of missing values in an upload
    severity: Literal["error", "warning"] = "error"  # a value that breaks a rule is refused or only reported

    @property
    def nullable_override(self) -> bool | None:
        """Override of the inferred ``Column.nullable``, if there is one; rules that only warn override nothing."""
        return None if self.nullable is False and self.severity == "warning" else self.nullable

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, without the rules that have their default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(NO_RULES, name)}


NO_RULES = ColumnRules()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, as seen when the schema was inferred."""

    name: str
    type: ColumnType
    role: Role = "feature"
    nullable: bool = False  # missing values were seen
    categories: tuple[str, ...] = ()  # the values seen, sorted, for categories and booleans written as strings
    minimum: float | None = None  # the range seen, for integers and numbers; seconds since 1970 for datetimes
    maximum: float | None = None
    #: Subtracted in float64 before a model gets the number as float32, where an offset would take its digits.
    centre: float | None = None
    formats: tuple[str, ...] = ()  # the ``strptime`` formats seen, for datetimes; ``iso`` stands for ISO 8601
    true_values: tuple[str, ...] = ()  # the strings seen, in lower case, for booleans written as strings
    false_values: tuple[str, ...] = ()
    reason: str = ""  # reason why the column is an identifier or ignored
    rules: ColumnRules = field(default_factory=ColumnRules)
    sensitive: bool = False  # values are masked wherever examples are shown
    #: Strings that mean a missing value, by the spec; None stands for :data:`NULL_STRINGS` and, where no strings are
    #: expected, :data:`NULL_MARKS`.
    null_values: tuple[str, ...] | None = None
    #: Notation of the numbers in text, where training saw another than the plain one.
    notation: NumberStyle | None = None
    ascends: bool = False  # whole numbers that grow with time, as years and counters do: later ones are always greater

    @property
    def missing_strings(self) -> frozenset[str]:
        """The strings that mean a missing value."""
        if self.null_values is not None:
            return frozenset(self.null_values)
        return NULL_STRINGS if self.type in ("category", "text") else NULL_STRINGS | NULL_MARKS

    def number_styles(self, of_file: NumberStyle, *, plain: bool) -> tuple[NumberStyle, ...]:
        """Return the notations of the numbers in a file, the surest first: the file's, if it shows one, training's.

        ``plain`` says that the file shows the plain one.
        """
        if self.notation is None:
            return (of_file,)
        own = PLAIN if plain else of_file
        dressed = replace(own, unit=self.notation.unit, accounting=self.notation.accounting)
        return tuple(dict.fromkeys([dressed, self.notation] if plain or own != PLAIN else [self.notation]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, without empty fields."""
        document = {key: value for key, value in asdict(self).items() if value not in ((), None, "")}
        del document["rules"], document["sensitive"], document["ascends"]
        if self.rules != NO_RULES:
            document["rules"] = self.rules.to_dict()
        if self.sensitive:
            document["sensitive"] = True
        if self.ascends:
            document["ascends"] = True
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Column":
        """Read a column from plain JSON."""
        values = _with_tuples(document)
        if "rules" in document:
            values["rules"] = ColumnRules(**_with_tuples(document["rules"]))
        if "notation" in document:
            values["notation"] = NumberStyle(**document["notation"])
        return cls(**values)


def _with_tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


def _without_values(column: Column) -> Column:
    if not column.sensitive:
        return column
    rules = replace(column.rules, minimum=None, maximum=None, allowed=())
    seen: dict[str, Any] = dict.fromkeys(("categories", "true_values", "false_values"), ())
    return replace(column, minimum=None, maximum=None, centre=None, rules=rules, **seen)


def number_classes(count: int) -> tuple[str, ...]:
    """Return the names that people read instead of the classes of a sensitive target."""
    return tuple(f"class {number}" for number in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Columns of a table in the order of the first accepted dataset, and the task that follows from the target."""

    columns: tuple[Column, ...]
    task: Task
    #: The target's classes, sorted, as text; empty for regression. Class ``i`` is target value ``i`` in the prepared
    #: data and output ``i`` of the model.
    classes: tuple[str, ...] = ()
    #: Number of the schema among those of its model: data of one version cannot train models of another.
    version: int = 1
    revision: int = 0  # grows within a version with every change after which earlier data is still usable

    @property
    def target(self) -> Column:
        """The column to predict."""
        return next(column for column in self.columns if column.role == "target")

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model takes, in order."""
        return tuple(column for column in self.columns if column.role == "feature")

    @property
    def identifier(self) -> Column | None:
        """The column that identifies a row, if there is one."""
        return next((column for column in self.columns if column.role == "identifier"), None)

    @property
    def token_columns(self) -> int:
        """Numeric columns for the tokens of one text; fewer than :data:`TOKEN_COLUMNS` where there are many texts."""
        texts = sum(column.type == "text" for column in self.features)
        return min(TOKEN_COLUMNS, max(1, MAX_TOKEN_COLUMNS // max(1, texts)))

    def number_width(self, column: Column) -> int:
        """Return the number of numeric columns of a feature; none for a category."""
        if column.type == "category":
            return 0
        if column.type == "text":
            return 1 + self.token_columns
        return len(DATE_PARTS) if column.type == "datetime" else 1

    @property
    def centres(self) -> tuple[tuple[int, float], ...]:
        """Numeric columns that are centred, and their centres."""
        found, position = [], 0
        for column in self.features:
            if column.centre is not None:
                found.append((position, column.centre))
            position += self.number_width(column)
        return tuple(found)

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the numeric columns; dates and texts have several."""
        names: list[str] = []
        for column in self.features:
            if column.type == "datetime":
                names.extend(f"{column.name}.{part}" for part in DATE_PARTS)
            elif column.type == "text":
                names.append(f"{column.name}.words")
                names.extend(f"{column.name}.word.{place}" for place in range(self.token_columns))
            elif column.type in ("integer", "number", "boolean"):
                names.append(column.name)
        return tuple(names)

    @property
    def string_names(self) -> tuple[str, ...]:
        """Names of the string columns."""
        return tuple(column.name for column in self.features if column.type == "category")

    def column(self, name: str) -> Column:
        """Return the column of that name; raises ``KeyError`` when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes for people: numbers, in the order of the classes, where the target is sensitive."""
        if not self.target.sensitive:
            return self.classes
        return number_classes(len(self.classes))

    def quote_class(self, class_index: int) -> str:
        """Return a class for a message: quoted, or masked where the target is sensitive."""
        return MASK if self.target.sensitive else repr(self.classes[class_index])

    def label(self, class_index: int) -> str | int | bool:
        """Return a class as callers know it: an integer target's classes are integers."""
        text = self.classes[class_index]
        if self.target.type == "integer":
            return int(text)
        if self.target.type == "boolean" and not self.target.true_values:
            return text == "true"
        return text

    def with_whole_texts(self) -> "TableSchema":
        """Return the schema with every text as a category, as rows are compared, not as models take them."""
        texts = {column.name for column in self.features if column.type == "text"}
        columns = (replace(column, type="category") if column.name in texts else column for column in self.columns)
        return replace(self, columns=tuple(columns))

    def without_sensitive_values(self) -> "TableSchema":
        """Return the schema as people see it: of sensitive columns neither the values seen nor those of their rules.

        Classes of a sensitive target become numbers, so that the result describes predictions and cannot make them.
        """
        return replace(self, columns=tuple(map(_without_values, self.columns)), classes=self.class_names)

    def with_version(self, version: int, revision: int = 0) -> "TableSchema":
        """Return the same schema under another version number."""
        return replace(self, version=version, revision=revision)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "version": self.version,
            "revision": self.revision,
            "task": self.task,
            "classes": list(self.classes),
            "columns": [column.to_dict() for column in self.columns],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "TableSchema":
        """Read a schema from plain JSON."""
        return cls(
            columns=tuple(Column.from_dict(column) for column in document["columns"]),
            task=document["task"],
            classes=tuple(document["classes"]),
            version=document["version"],
            revision=document.get("revision", 0),
        )
