"""Reader of one regular row, compiled for a version when it is loaded: plain JSON values to what the model takes.

A regular row has every feature, and no value that needs an error or a warning, except that some may be null. Its values
are looked up in tables and compared with bounds by functions of C, without an object for each value or column.
:class:`millrace.serving.rows.RowReader` defines how values are read. The tables hold what it reads, and whatever is not
in them is left to it.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, NoneType
from typing import Any, ClassVar

import numpy as np

from millrace.features import FLOAT32_MAX, build_few_features
from millrace.serving.model import NUMBERS_INPUT, STRINGS_INPUT, LoadedModel
from millrace.serving.rows import FeatureReader, RowWarning, missing_value

_NUMBERS = frozenset({"integer", "number"})
_TABLES = frozenset({"boolean", "category"})
#: Values that stand for a null while the rest of a row is read.
_EXAMPLES = {"text": "a", "datetime": "2000-01-01T00:00:00"}
_add_zero = (0.0).__add__  # makes a float of an integer, and a negative zero positive; NotImplemented for text


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
    """How the regular values of a feature are read; ``example`` is one of them, None where a null is not regular.

    Numbers are compared with the bounds, of which only they have other ones than infinity.
    """

    read: Callable[[Any], Any]
    missing: Any
    example: Any
    warning: RowWarning
    low: float = -float("inf")
    high: float = float("inf")

    @classmethod
    def of(cls, feature: FeatureReader) -> "_RegularColumn":
        column = feature.column
        missing = missing_value(column)
        unseen = "" if column.nullable else ", though none was in training"
        warning = RowWarning(feature.name, f"1 value missing{unseen}")
        takes_null = feature.keeps_rules(missing)
        rules = column.rules
        if column.type in _TABLES:
            table = _read_table(feature)
            example = next(iter(table), None) if takes_null else None
            return cls(table.__getitem__, missing, example, warning)
        if rules.allowed or (column.type == "datetime" and not rules.minimum == rules.maximum is None):
            raise IrregularRowError
        if column.type in _NUMBERS:
            bounds = (-FLOAT32_MAX, FLOAT32_MAX)
            if column.minimum is not None and column.maximum is not None:
                bounds = (column.minimum, column.maximum)
            lows, highs = (rules.minimum, -FLOAT32_MAX), (rules.maximum, FLOAT32_MAX)
            low = max(bounds[0], *(each for each in lows if each is not None))
            high = min(bounds[1], *(each for each in highs if each is not None))
            return cls(_add_zero, missing, low if takes_null else None, warning, low, high)

        def read(raw: Any) -> Any:
            value = feature.read_regular(raw)
            if value is None:
                raise IrregularRowError
            return value

        return cls(read, missing, _EXAMPLES[column.type] if takes_null else None, warning)


def _read_table(feature: FeatureReader) -> dict[Any, Any]:
    """Return the typed values of all regular ones of a boolean or a category."""
    column = feature.column
    texts = (*column.categories, "true", "false", *column.true_values, *column.false_values)
    known = {raw: feature.read_regular(raw) for raw in (True, False, *texts)}
    return {raw: value for raw, value in known.items() if value is not None and feature.keeps_rules(value)}


class RegularRowReader:
    """Reads regular rows for one version; ``is_usable`` is False for one whose rules only the general path knows."""

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
        if not self.is_usable:
            return
        kinds = [feature.column.type for feature in features]
        self._take = _getter(self.names)
        self._readers = [column.read for column in self._columns]
        numbers = [place for place, kind in enumerate(kinds) if kind in _NUMBERS]
        self._numbers = _getter(numbers)
        self._low = tuple(self._columns[place].low for place in numbers)
        self._high = tuple(self._columns[place].high for place in numbers)
        self._integers = _getter([place for place, kind in enumerate(kinds) if kind == "integer"])
        self._numeric = _getter([place for place, kind in enumerate(kinds) if kind != "category"])
        self._strings = _getter([place for place, kind in enumerate(kinds) if kind == "category"])
        self._has_numbers, self._has_strings = set(kinds) != {"category"}, "category" in kinds
        self._reader = None if not schema.centres and set(kinds) <= _TABLES | _NUMBERS else reader

    def read(self, record: Mapping[str, Any]) -> RegularRow:
        """Read a row; raises ``IrregularRowError``, or what its values raise, for any other one."""
        if not self.is_usable or (len(record) != len(self._readers) and not record.keys() <= self._known_names):
            raise IrregularRowError
        raw: Any = self._take(record)
        types = set(map(type, raw))
        gaps: Sequence[int] = ()
        if NoneType in types:
            gaps = [place for place, value in enumerate(raw) if value is None]
            raw = list(raw)
            for place in gaps:
                raw[place] = self._columns[place].example
        if bool in types and bool in set(map(type, self._numbers(raw))):
            raise IrregularRowError
        values = [read(value) for read, value in zip(self._readers, raw, strict=True)]
        numbers = self._numbers(values)
        if not (
            all(map(operator.le, self._low, numbers))
            and all(map(operator.ge, self._high, numbers))
            and all(map(float.is_integer, self._integers(values)))
        ):
            raise IrregularRowError
        if not gaps:
            return RegularRow(values, (), self._inputs(values))
        for place in gaps:
            values[place] = self._columns[place].missing
        inputs = self._inputs(values)
        for place in gaps:
            values[place] = None
        return RegularRow(values, tuple([self._columns[place].warning for place in gaps]), inputs)

    def _inputs(self, values: list[Any]) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        if self._reader is not None:
            columns = {name: (value,) for name, value in zip(self.names, values, strict=True)}
            plan, token_columns, centres = self._reader.plan, self._reader.token_columns, self._reader.centres
            features = build_few_features(plan, columns, 1, token_columns, centres)
            if self._has_numbers:
                inputs[NUMBERS_INPUT] = features.numbers
            if self._has_strings:
                inputs[STRINGS_INPUT] = features.strings
            return inputs
        if self._has_numbers:
            inputs[NUMBERS_INPUT] = np.array([self._numeric(values)], dtype=np.float32)
        if self._has_strings:
            inputs[STRINGS_INPUT] = np.array([self._strings(values)], dtype=object)
        return inputs


def _getter(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Return the function that takes the values of some keys: a tuple, however many they are."""
    if len(keys) > 1:
        return operator.itemgetter(*keys)
    return lambda values: tuple([values[key] for key in keys])
