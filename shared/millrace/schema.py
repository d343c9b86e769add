"""The schema: what a table's columns are, inferred once and enforced everywhere.

The same object checks an upload, shapes the matrices a model is trained on, and reads a prediction request;
so it needs nothing beyond the standard library.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

ColumnType = Literal["integer", "number", "boolean", "category", "datetime", "text"]
Role = Literal["feature", "target", "identifier", "ignored"]
Task = Literal["binary", "multiclass", "regression"]

COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
TASKS: tuple[Task, ...] = get_args(Task)

#: Cells of a text table that mean "missing".
MISSING_WORDS = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})

#: The numbers that a date becomes, in the order of the numeric matrix.
DATE_PARTS = ("days", "month", "weekday", "hour")

#: Numbers that the words of one text are hashed into, and of all texts of a row together. Models that were trained with
#: them take no others.
WORD_COLUMNS = 512
MAX_WORD_COLUMNS = 2_048


@dataclass(frozen=True, slots=True)
class ColumnRules:
    """What a user demands of one column's values, beside what was inferred; without demands nothing is refused.

    Parameters
    ----------
    nullable : bool or None, default=None
        False refuses missing values; True says that they, and the whole column's absence, are to be expected.
    minimum, maximum : float or None, default=None
        The range allowed, both ends included; seconds since 1970 for datetimes.
    allowed : tuple of str, default=()
        The values allowed, when there are any here.
    pattern : str or None, default=None
        What a value must match as a whole, in RE2's syntax; uploads are held to it, requests are not.
    unique : bool, default=False
        Whether no value may come twice in an upload; of rows with one value the first is kept.
    max_null_share : float or None, default=None
        Share of an upload's cells that may be missing.
    severity : {'error', 'warning'}, default='error'
        Whether a value that breaks a rule is refused or only reported.
    """

    nullable: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    pattern: str | None = None
    unique: bool = False
    max_null_share: float | None = None
    severity: Literal["error", "warning"] = "error"

    @property
    def settled_nullable(self) -> bool | None:
        """Whether values may be missing, where these rules settle it; a demand that only warns does not."""
        return None if self.nullable is False and self.severity == "warning" else self.nullable

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: the rules that there are."""
        return {name: value for name, value in asdict(self).items() if value != getattr(NO_RULES, name)}


#: Nothing is demanded.
NO_RULES = ColumnRules()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        As it stands in the header.
    type : ColumnType
        ``integer``, ``number``, ``boolean``, ``category``, ``datetime`` or ``text``.
    role : Role
        ``feature``, ``target``, ``identifier`` or ``ignored``.
    nullable : bool
        Whether missing values were seen when the schema was inferred.
    categories : tuple of str, default=()
        The values seen, sorted, for categories and booleans written as words.
    minimum, maximum : float or None, default=None
        The range seen, for integers and numbers; seconds since 1970 for datetimes.
    formats : tuple of str, default=()
        The ``strptime`` formats seen, for datetimes; ``iso`` stands for ISO 8601.
    true_values, false_values : tuple of str, default=()
        The words seen, in lower case, for booleans written as words.
    reason : str, default=""
        Why the column is an identifier or ignored, in words.
    rules : ColumnRules
        What a user demands of its values.
    sensitive : bool, default=False
        Whether values are masked wherever examples are shown.
    """

    name: str
    type: ColumnType
    role: Role = "feature"
    nullable: bool = False
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    formats: tuple[str, ...] = ()
    true_values: tuple[str, ...] = ()
    false_values: tuple[str, ...] = ()
    reason: str = ""
    rules: ColumnRules = field(default_factory=ColumnRules)
    sensitive: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, without what is empty."""
        document = {key: value for key, value in asdict(self).items() if value not in ((), None, "")}
        del document["rules"], document["sensitive"]
        if self.rules != NO_RULES:
            document["rules"] = self.rules.to_dict()
        if self.sensitive:
            document["sensitive"] = True
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Column":
        """Read what :meth:`to_dict` wrote."""
        values = _with_tuples(document)
        if "rules" in document:
            values["rules"] = ColumnRules(**_with_tuples(document["rules"]))
        return cls(**values)


def _whole_text(column: Column) -> Column:
    return replace(column, type="category") if column.type == "text" and column.role == "feature" else column


def _with_tuples(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in document.items()}


@dataclass(frozen=True, slots=True)
class TableSchema:
    """Every column of a table, the target among them, and the task that follows from it.

    Parameters
    ----------
    columns : tuple of Column
        In the order of the first accepted dataset.
    task : Task
        ``binary``, ``multiclass`` or ``regression``.
    classes : tuple of str, default=()
        The target's classes, sorted, as text; empty for regression. Class ``i`` is target value ``i`` in the
        prepared data and output ``i`` of the model.
    version : int, default=1
        Which schema of its model this is: data under one version cannot be learnt from under another.
    revision : int, default=0
        Grows within a version with every change that leaves earlier data usable.
    """

    columns: tuple[Column, ...]
    task: Task
    classes: tuple[str, ...] = ()
    version: int = 1
    revision: int = 0

    @property
    def target(self) -> Column:
        """The column that is predicted."""
        return next(column for column in self.columns if column.role == "target")

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model sees, in order."""
        return tuple(column for column in self.columns if column.role == "feature")

    @property
    def identifier(self) -> Column | None:
        """The column that names a row, when there is one."""
        return next((column for column in self.columns if column.role == "identifier"), None)

    @property
    def word_columns(self) -> int:
        """How many numbers the words of one text become; less than :data:`WORD_COLUMNS` where texts are many."""
        texts = sum(column.type == "text" for column in self.features)
        return min(WORD_COLUMNS, max(1, MAX_WORD_COLUMNS // max(1, texts)))

    def number_width(self, column: Column) -> int:
        """Return how many columns of the numeric matrix a feature has; none where it is a string."""
        if column.type == "category":
            return 0
        if column.type == "text":
            return 1 + self.word_columns
        return len(DATE_PARTS) if column.type == "datetime" else 1

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of the numeric matrix's columns.

        A date stands for :data:`DATE_PARTS`, as ``name.part``; a text for its number of words and their hashed counts,
        as ``name.words``, ``name.word.0`` and so on.
        """
        names: list[str] = []
        for column in self.features:
            if column.type == "datetime":
                names.extend(f"{column.name}.{part}" for part in DATE_PARTS)
            elif column.type == "text":
                names.append(f"{column.name}.words")
                names.extend(f"{column.name}.word.{place}" for place in range(self.word_columns))
            elif column.type in ("integer", "number", "boolean"):
                names.append(column.name)
        return tuple(names)

    @property
    def string_names(self) -> tuple[str, ...]:
        """Names of the string matrix's columns."""
        return tuple(column.name for column in self.features if column.type == "category")

    def column(self, name: str) -> Column:
        """Return the column called ``name``; raises ``KeyError`` when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def label(self, class_index: int) -> str | int | bool:
        """Return class ``class_index`` as the value a caller knows: an integer target's classes are integers."""
        text = self.classes[class_index]
        if self.target.type == "integer":
            return int(text)
        if self.target.type == "boolean" and not self.target.true_values:
            return text == "true"
        return text

    def with_whole_texts(self) -> "TableSchema":
        """Return the schema with every text as one string: what a row is known by, not what a model takes."""
        return replace(self, columns=tuple(_whole_text(column) for column in self.columns))

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
        """Read what :meth:`to_dict` wrote."""
        return cls(
            columns=tuple(Column.from_dict(column) for column in document["columns"]),
            task=document["task"],
            classes=tuple(document["classes"]),
            version=document["version"],
            revision=document.get("revision", 0),
        )
