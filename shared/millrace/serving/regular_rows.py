"""Reader of one regular row, compiled for a version with its first request: plain JSON values to what the model takes.

A regular row has every feature, and no value that needs an error or a warning, except that some may be null. Its values
are looked up in tables and compared with bounds in one loop, without an object for each column.
:class:`millrace.serving.rows.RowReader` defines how values are read. The tables hold what it reads, and whatever is not
in them is left to it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from millrace.features import FLOAT32_MAX, MAX_CHARACTERS, build_few_features
from millrace.serving.model import NUMBERS_INPUT, STRINGS_INPUT, LoadedModel
from millrace.serving.rows import FeatureReader, RowWarning, missing_value

_NUMBERS = frozenset({"integer", "number"})
_TABLES = frozenset({"boolean", "category"})


#: Characters of a body beside its row, and of a value with what surrounds it, in the longest of the protocols.
_ENVELOPE, _VALUE = 2_000, 300


class IrregularRowError(Exception):
    """Row, or a version, that the general path has to read."""


@dataclass(slots=True)  # a frozen one takes twice as long to make
class RegularRow:
    """A row that was read: its typed values, None where missing, and the inputs of the model."""

    values: list[Any]
    warnings: tuple[RowWarning, ...]
    inputs: Mapping[str, Any]
    n_rows: ClassVar[int] = 1
    n_unknown: ClassVar[int] = 0
    bad_rows: ClassVar[Mapping[int, Any]] = MappingProxyType({})

    @property
    def n_missing(self) -> int:
        """Number of missing values."""
        return len(self.warnings)


@dataclass(frozen=True, slots=True)
class _RegularColumn:
    """Reader of the regular values of a feature: from a table, by a function, or as numbers within bounds."""

    name: str
    missing: Any
    takes_null: bool
    warning: RowWarning
    table: Mapping[Any, Any] | None = None
    read: Callable[[Any], Any] | None = None
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, feature: FeatureReader) -> "_RegularColumn":
        column, rules = feature.column, feature.column.rules
        missing = missing_value(column)
        unseen = "" if column.nullable else ", though none was in training"
        warning = RowWarning(feature.name, f"1 value missing{unseen}")
        common = (feature.name, missing, feature.keeps_rules(missing), warning)
        if column.type in _TABLES:
            return cls(*common, table=_read_table(feature))
        if rules.allowed or (column.type == "datetime" and not rules.minimum == rules.maximum is None):
            raise IrregularRowError
        if column.type in _NUMBERS:
            lows, highs = [-FLOAT32_MAX, rules.minimum], [FLOAT32_MAX, rules.maximum]
            if column.minimum is not None and column.maximum is not None:
                lows, highs = [*lows, column.minimum], [*highs, column.maximum]
            low, high = (each for each in lows if each is not None), (each for each in highs if each is not None)
            return cls(*common, low=max(low), high=min(high))

        def read(raw: Any) -> Any:
            value = feature.read_regular(raw)
            if value is None:
                raise IrregularRowError
            return value

        return cls(*common, read=read)


def _read_table(feature: FeatureReader) -> dict[Any, Any]:
    """Return the typed values of all regular ones of a boolean or a category."""
    column = feature.column
    texts = (*column.categories, "true", "false", *column.true_values, *column.false_values)
    known = {raw: feature.read_regular(raw) for raw in (True, False, *texts)}
    return {raw: value for raw, value in known.items() if value is not None and feature.keeps_rules(value)}


class RegularRowReader:
    """Reads regular rows for one version; ``is_usable`` is False for one whose rules only the general path knows.

    A body of more than ``max_characters`` is not one of a regular row.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        reader, schema = loaded.reader, loaded.schema
        features = reader.features
        self.names = [feature.name for feature in features]
        self._known_names = frozenset(column.name for column in schema.columns)
        try:
            self._columns = [_RegularColumn.of(feature) for feature in features]
        except IrregularRowError:
            self._columns = []
        self.is_usable = bool(self._columns)
        self.max_characters = 0
        if not self.is_usable:
            return
        kinds = [feature.column.type for feature in features]
        texts = kinds.count("text")
        lengths = 2 * sum(map(len, self.names)) + _VALUE * len(kinds) + 2 * MAX_CHARACTERS * texts
        self.max_characters = _ENVELOPE + lengths
        self._plan = [
            (column.name, column.table, column.low, column.high, kind == "integer", kind == "category", column)
            for column, kind in zip(self._columns, kinds, strict=True)
        ]
        self._has_numbers, self._has_strings = set(kinds) != {"category"}, "category" in kinds
        self._reader = None if not schema.centres and set(kinds) <= _TABLES | _NUMBERS else reader

    def read(self, record: Mapping[str, Any]) -> RegularRow:
        """Read a row; raises ``IrregularRowError``, or what its values raise, for any other one.

        One loop over plain operations: calls of many functions, even quick ones, slow down the model after them.
        """
        if not self.is_usable or (len(record) != len(self._plan) and not record.keys() <= self._known_names):
            raise IrregularRowError
        values: list[Any] = []
        numbers: list[float] = []
        strings: list[str] = []
        warnings: list[RowWarning] = []
        for name, table, low, high, is_whole, is_string, column in self._plan:
            raw = record[name]
            if raw is None:
                if not column.takes_null:
                    raise IrregularRowError
                warnings.append(column.warning)
                values.append(None)
                value = column.missing
            elif table is not None:
                value = table[raw]
                values.append(value)
            elif column.read is not None:
                value = column.read(raw)
                values.append(value)
            else:
                kind = type(raw)
                if kind is not float and kind is not int:
                    raise IrregularRowError
                value = raw + 0.0  # makes a negative zero positive, as the general reader does
                if not low <= value <= high or (is_whole and value % 1):
                    raise IrregularRowError
                values.append(value)
            if is_string:
                strings.append(value)
            else:
                numbers.append(value)
        return RegularRow(values, tuple(warnings), self._inputs(values, numbers, strings))

    def _inputs(self, values: list[Any], numbers: list[float], strings: list[str]) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        if self._reader is not None:
            reader = self._reader
            columns = {
                column.name: (column.missing if value is None else value,)
                for column, value in zip(self._columns, values, strict=True)
            }
            features = build_few_features(reader.plan, columns, 1, reader.token_columns, reader.centres)
            if self._has_numbers:
                inputs[NUMBERS_INPUT] = features.numbers
            if self._has_strings:
                inputs[STRINGS_INPUT] = features.strings
            return inputs
        if self._has_numbers:
            inputs[NUMBERS_INPUT] = np.array([numbers], dtype=np.float32)
        if self._has_strings:
            inputs[STRINGS_INPUT] = np.array([strings], dtype=object)
        return inputs
