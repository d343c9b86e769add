"""Profile a dataset: distributions of its columns, and their association with the target."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.association import TargetValues, associate, association_rows
from millrace.data.dataset_documents import Association, ColumnProfile, DatasetProfile, TargetProfile
from millrace.data.findings import shorten
from millrace.data.typed_table import TypedTable, class_texts, hash_text, is_text, stored_parts
from millrace.documents import from_plain, to_plain
from millrace.features import MISSING_STRING, missing_mask
from millrace.hashing import UInt64Array
from millrace.histograms.bins import comparison_bins
from millrace.schema import Column, TableSchema

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP_VALUES = 20
MAX_VALUE_LENGTH = 200

#: Bars of a histogram.
MAX_BARS = 24
MIN_BARS = 5
#: An integer column that spans so many values has a bar for each.
MAX_INTEGER_BARS = 32
#: Below this, a number and a half is exact.
_EXACT_HALVES = 2.0**51
#: Tukey's fences for outliers, and for values so far out that a histogram of the rest shows more.
FENCE = 1.5
FAR_FENCE = 3.0

#: Hashes that are scanned at once.
_SCANNED_AT_ONCE = 1 << 17

Floats = npt.NDArray[np.float64]
#: Returns a column's parts, from the beginning each time.
Parts = Callable[[], Iterable[pa.Array]]


def profile_table(table: TypedTable, sensitive: Collection[str] = ()) -> DatasetProfile:
    """Profile a dataset's columns and target; sensitive columns are marked, for reports to hide their values."""
    schema = table.schema
    target = TargetValues.of(table)
    rows = association_rows(len(table))
    sampled = target.take(rows)
    complete = np.ones(len(table), dtype=np.bool_)
    columns = []
    for column in schema.columns:
        association = None
        if _may_be_unique(column):
            described, missing = _describe_parts(column, table, target)
        else:
            values = table.columns[column.name]
            missing = missing_mask(values)
            described = _describe(column, values, missing, target.averaged)
            association = associate(column, values[rows], sampled) if column.role == "feature" else None
        complete &= ~missing
        columns.append(_to_profile(column, described, association, sensitive=column.name in sensitive))
    return DatasetProfile(
        rows=len(table),
        complete_rows=int(complete.sum()),
        missing_values=sum(column.missing for column in columns),
        columns=columns,
        target=_describe_target(table),
        association_rows=len(rows),
    )


def profile_features(schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> DatasetProfile:
    """Profile those features that are among the typed columns, without a target."""
    known = [column for column in schema.features if column.name in columns]
    described = (_describe(column, columns[column.name], missing_mask(columns[column.name]), None) for column in known)
    profiles = [_to_profile(*pair, None, sensitive=False) for pair in zip(known, described, strict=True)]
    return DatasetProfile(rows=rows, columns=profiles)


def _to_profile(
    column: Column, described: Mapping[str, Any], association: Association | None, *, sensitive: bool
) -> ColumnProfile:
    stated = {
        "name": column.name,
        "type": column.type,
        "role": column.role,
        "nullable": column.nullable,
        "reason": column.reason,
        "sensitive": column.sensitive or sensitive,
        "association": association and to_plain(association),
    }
    return from_plain(ColumnProfile, stated | dict(described))


def _describe_target(table: TypedTable) -> TargetProfile:
    schema = table.schema
    classes: dict[str, int] = {}
    if schema.task != "regression":
        names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
        classes = {name: int(np.sum(names == name)) for name in schema.classes}
    positive = schema.classes[1] if schema.task == "binary" and len(schema.classes) > 1 else None
    return TargetProfile(name=schema.target.name, task=schema.task, classes=classes, positive=positive)


def _describe(
    column: Column, values: npt.NDArray[Any], missing: npt.NDArray[np.bool_], averaged: Floats | None
) -> dict[str, Any]:
    known = values[~missing]
    averaged = None if column.role == "target" or averaged is None else averaged[~missing]
    described = _count_missing(missing)
    if is_text(column):
        return described | describe_strings(known, averaged)
    if column.type == "boolean":
        return described | describe_strings(class_texts(column, boolean_names(column), known), averaged)
    if not len(known):
        return described | {"distinct": 0, "quantiles": {}}
    if column.type == "datetime":
        seconds = known.astype("datetime64[us]").astype(np.int64) / 1e6
        return described | _format_times(describe_numbers(seconds, averaged, whole=False))
    return described | describe_numbers(known, averaged, whole=column.type == "integer")


def _may_be_unique(column: Column) -> bool:
    """Return whether a column's strings may differ in every row."""
    return column.role == "identifier" or (column.type == "text" and column.role != "target")


def _describe_parts(
    column: Column, table: TypedTable, target: TargetValues
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Describe strings without holding them; also return the mask of missing ones."""
    gaps = [pc.fill_null(pc.equal(part, MISSING_STRING), True) for part in stored_parts(table, column)]
    missing = np.concatenate([np.empty(0, dtype=np.bool_), *(gap.to_numpy(zero_copy_only=False) for gap in gaps)])
    averaged = target.averaged
    if averaged is not None:
        averaged = averaged[~missing]
    return _count_missing(missing) | describe_texts(lambda: stored_parts(table, column), averaged), missing


def _count_missing(missing: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {"missing": int(missing.sum()), "missing_share": float(missing.mean()) if len(missing) else 0.0}


def boolean_names(column: Column) -> tuple[str, ...]:
    """Return the two values of a boolean column as the data has them, the false one first."""
    written = {name.lower(): name for name in column.categories}
    if not column.true_values or not column.false_values:
        return "false", "true"
    return tuple(written.get(names[0], names[0]) for names in (column.false_values, column.true_values))


def _format_times(numbers: dict[str, Any]) -> dict[str, Any]:
    """Write seconds as ISO 8601, and leave out what means nothing of dates."""
    kept = {name: numbers[name] for name in ("distinct", "histogram", "bins")}
    return kept | {
        "minimum": _format_time(numbers["minimum"]),
        "maximum": _format_time(numbers["maximum"]),
        "quantiles": {level: _format_time(value) for level, value in numbers["quantiles"].items()},
    }


def _format_time(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))


def describe_numbers(known: Floats, averaged: Floats | None, *, whole: bool) -> dict[str, Any]:
    """Describe at least one number, none missing, by fields of :class:`ColumnProfile`.

    ``averaged`` is averaged for each bar (:attr:`TargetValues.averaged`), NaN where missing; bars do not cut whole
    numbers.
    """
    ordered = np.sort(known)
    quantiles = dict(zip(map(str, QUANTILES), np.quantile(ordered, QUANTILES).tolist(), strict=True))
    lower, upper = _fences(quantiles["0.25"], quantiles["0.75"], FENCE)
    below, above = int(np.searchsorted(ordered, lower)), len(ordered) - int(np.searchsorted(ordered, upper, "right"))
    edges, counts = comparison_bins(ordered)
    return {
        "distinct": 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1])),
        "minimum": float(ordered[0]),
        "maximum": float(ordered[-1]),
        "mean": float(known.mean()),
        "standard_deviation": float(known.std()),
        "zeros": int(np.count_nonzero(known == 0)),
        "quantiles": quantiles,
        "outliers": {"lower": lower, "upper": upper, "below": below, "above": above, "count": below + above},
        "histogram": _histogram(known, _bar_edges(ordered, quantiles, whole=whole), averaged),
        "bins": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _fences(first: float, third: float, factor: float) -> tuple[float, float]:
    """Return the limits beyond which a value is an outlier (Tukey, "Exploratory Data Analysis", 1977)."""
    spread = third - first
    return first - factor * spread, third + factor * spread


def _bar_edges(ordered: Floats, quantiles: dict[str, float], *, whole: bool) -> Floats:
    low, high = _bar_range(ordered, quantiles)
    # Rice's rule: twice the cube root of the number of values.
    bars = int(np.clip(np.ceil(2 * np.cbrt(len(ordered))), MIN_BARS, MAX_BARS))
    if whole and max(abs(low), abs(high)) < _EXACT_HALVES:
        low, high = np.floor(low), np.ceil(high)
        span = int(high - low) + 1
        width = 1 if span <= MAX_INTEGER_BARS else -(-span // bars)
        return np.asarray(low - 0.5 + width * np.arange(-(-span // width) + 1), dtype=np.float64)
    edges = np.linspace(low, high, bars + 1)
    if bool(np.all(edges[1:] > edges[:-1])):
        return edges
    # One value, or values too close for so many edges: one bar around them.
    margin = max(0.5, abs(low) * 1e-6)
    return np.array([low - margin, high + margin])


def _bar_range(ordered: Floats, quantiles: dict[str, float]) -> tuple[float, float]:
    """Leave out values so far out that all the rest would be one bar."""
    minimum, maximum = float(ordered[0]), float(ordered[-1])
    low, high = _fences(quantiles["0.25"], quantiles["0.75"], FAR_FENCE)
    if low == high:
        low, high = quantiles["0.01"], quantiles["0.99"]
    low, high = max(low, minimum), min(high, maximum)
    return (low, high) if low < high else (minimum, maximum)


def _histogram(known: Floats, edges: Floats, averaged: Floats | None) -> dict[str, Any]:
    bars = len(edges) - 1
    # The last bar includes its upper edge, as in numpy.histogram.
    codes = np.searchsorted(edges, known, "right")
    codes[known == edges[-1]] = bars
    counts = np.bincount(codes, minlength=bars + 2)
    described = {
        "edges": edges.tolist(),
        "counts": counts[1:-1].tolist(),
        "below": int(counts[0]),
        "above": int(counts[-1]),
    }
    means = _means(codes, bars + 2, averaged)
    return described if means is None else described | {"target_means": means[1:-1]}


def _means(codes: npt.NDArray[np.int64], size: int, averaged: Floats | None) -> list[float | None] | None:
    if averaged is None:
        return None
    known = ~np.isnan(averaged)
    counts = np.bincount(codes[known], minlength=size)
    sums = np.bincount(codes[known], weights=averaged[known], minlength=size)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def describe_strings(known: npt.NDArray[Any], averaged: Floats | None) -> dict[str, Any]:
    """Describe strings, none missing, by fields of :class:`ColumnProfile`."""
    strings = pa.array(known, pa.string()).dictionary_encode()
    return describe_texts(lambda: (strings,), averaged)


def describe_texts(parts: Parts, averaged: Floats | None) -> dict[str, Any]:
    """Describe strings of any number by their hashes, with eight bytes a row; missing ones are left out.

    ``singletons`` are values that occur once, ``length`` is in characters. The column is read twice. Among too many
    equally frequent strings, the first that appear are named.
    """
    hashed, lengths = [np.empty(0, dtype=np.uint64)], []
    for strings in _present_strings(parts()):
        if len(strings):
            hashed.append(hash_text(strings))
            characters = pc.utf8_length(strings.cast(pa.string()))
            lengths.append((*pc.min_max(characters).as_py().values(), pc.sum(characters).as_py()))
    hashes = np.concatenate(hashed)
    hashed.clear()
    distinct, repeated, counts = _repeated(hashes)
    frequent = _most_frequent(hashes, repeated, counts, min(TOP_VALUES, distinct))
    named = _strings_at(parts, {position: (count, key) for position, count, key in frequent})
    top: list[dict[str, Any]] = []
    for value, count, key in sorted(named, key=lambda entry: (-entry[1], entry[0])):
        entry: dict[str, Any] = {"value": shorten(value, MAX_VALUE_LENGTH), "count": count}
        if averaged is not None:
            values = averaged[hashes == key]
            known = values[~np.isnan(values)]
            entry["target_mean"] = float(known.mean()) if len(known) else None
        top.append(entry)
    return {
        "distinct": distinct,
        "singletons": distinct - len(repeated),
        "top": top,
        "other": len(hashes) - sum(count for _, count, _ in named),
        "length": {
            "minimum": min((least for least, _, _ in lengths), default=None),
            "mean": sum(total for _, _, total in lengths) / len(hashes) if lengths else None,
            "maximum": max((greatest for _, greatest, _ in lengths), default=None),
        },
    }


def _present_strings(parts: Iterable[pa.Array]) -> Iterator[pa.Array]:
    for part in parts:
        yield part.filter(pc.fill_null(pc.not_equal(part, ""), False))


def _repeated(hashes: UInt64Array) -> tuple[int, UInt64Array, npt.NDArray[np.int64]]:
    """Return the number of distinct hashes, and the repeated ones in order with their counts.

    Of a column whose strings all differ nothing is copied but its hashes, once.
    """
    ordered = np.sort(hashes)
    again = ordered[1:] == ordered[:-1]
    repeated, counts = np.unique(ordered[1:][again], return_counts=True)
    return len(hashes) - int(np.count_nonzero(again)), repeated, counts + 1


def _most_frequent(
    hashes: UInt64Array, repeated: UInt64Array, counts: npt.NDArray[np.int64], shown: int
) -> list[tuple[int, int, int]]:
    """Return the first position, the count and the hash of the most frequent strings."""
    least = int(np.partition(counts, -shown)[-shown]) if 0 < shown <= len(counts) else 1
    more = counts > least
    above = zip(repeated[more].tolist(), counts[more].tolist(), strict=True)
    found = {key: (int(np.argmax(hashes == np.uint64(key))), count) for key, count in above}
    equals = repeated[counts == least]
    for start in range(0, len(hashes), _SCANNED_AT_ONCE):
        if len(found) >= shown:
            break
        part = hashes[start : start + _SCANNED_AT_ONCE]
        # Those as frequent as the last one shown; where that occurs once, all that do not repeat.
        wanted = _is_among(part, equals) if least > 1 else ~_is_among(part, repeated)
        for offset in np.flatnonzero(wanted).tolist():
            found.setdefault(int(part[offset]), (start + offset, least))
            if len(found) >= shown:
                break
    return [(position, count, key) for key, (position, count) in found.items()]


def _is_among(hashes: UInt64Array, ordered: UInt64Array) -> npt.NDArray[np.bool_]:
    """Return which hashes are among others, which are sorted and distinct."""
    if not len(ordered):
        return np.zeros(len(hashes), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    return np.asarray(ordered[positions] == hashes)


def _strings_at(parts: Parts, wanted: dict[int, tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Return the strings at some positions, each with its count and hash."""
    named: list[tuple[str, int, int]] = []
    first = 0
    for strings in _present_strings(parts()):
        here = [position for position in wanted if first <= position < first + len(strings)]
        named.extend((str(strings[position - first].as_py()), *wanted[position]) for position in here)
        first += len(strings)
        if len(named) == len(wanted):
            break
    return named
