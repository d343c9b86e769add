"""Find leakage: columns that give the target away, and columns that number the rows.

What a model may not know at the time of a prediction shows as columns from which the target follows without error: by
their value, by their category, by having a value at all, or as the sum or difference of two or more. Strengths here are
measured on the rows other than the one that is predicted, and are not corrected for chance: a correction keeps even a
copy of the target below 1 in a table of a few hundred rows.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.association import TargetValues, associate, association_rows, mann_whitney_area
from millrace.data.dataset_documents import Association
from millrace.data.findings import Finding, quoted, warning
from millrace.data.parsers import parse_numbers
from millrace.data.typed_table import TypedTable, hash_values, is_text, stored_column, stored_parts
from millrace.features import MISSING_STRING, missing_mask
from millrace.hashing import fold_columns
from millrace.schema import Column, TableSchema
from millrace.spec.data import ColumnSpec

#: With fewer rows a column may predict the target perfectly by chance.
MIN_LEAKAGE_ROWS = 50
#: Rows of other classes than the most frequent that an exact relation needs, so that it is none by chance.
MIN_OTHER_ROWS = 5
#: Rows in which a column has a value, all of one rare class, before its presence counts as a leak: with a class of at
#: most half of the rows, the probability is at most 1e-9.
MIN_PRESENT_ROWS = 30
#: Rows that are measured, rows that each number or date needs on average to form groups, and the share of the rows
#: whose value must repeat.
MAX_LEAKAGE_ROWS = 20_000
MIN_REPEATED = 5
REPEATED_SHARE = 0.8
#: Numeric columns and rows in which sums and differences are looked for.
MAX_COMBINED_COLUMNS = 30
MAX_COMBINED_ROWS = 2_000
MAX_TERMS = 6
#: Share of the variance beyond which any linear combination counts, and relative difference of coefficients below which
#: it is a plain sum or difference.
EXACT_SHARE = 1.0 - 1e-6
EQUAL_COEFFICIENTS = 0.01
NEGLIGIBLE_WEIGHT = 0.01
#: Least rows of which a column of whole numbers may be the numbers, and the largest range of such numbers as a multiple
#: of the rows: in the order of the rows, and shuffled.
MIN_NUMBERED_ROWS = 20
MAX_ORDERED_RANGE = 10.0
MAX_SHUFFLED_RANGE = 2.5

#: Rows of the longest part that is numbered anew, beyond which it is no cycle of a calendar, and how many numbers later
#: than the others a part may begin.
LONGEST_CYCLE = 400
MAX_MISSED_STARTS = 5

#: Names of row numbers.
_INDEX_NAME = re.compile(r"(?:unnamed.*|.*index|idx|row.*|no|nr|nr\.|no\.|number|#|rn|line)", re.IGNORECASE)
#: Names and values of years and other times, which may well ascend with the rows.
_TIME_NAME = re.compile(r"year|month|week|day|hour|minute|second|date|time|epoch|age", re.IGNORECASE)
_YEARS = (1800, 2200)

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def find_leakage(table: TypedTable, threshold: float, columns: Mapping[str, ColumnSpec]) -> Iterator[Finding]:
    """Yield the columns that give the target away, unless the spec says that they are features.

    Parameters
    ----------
    threshold : float
        Of the area under the curve (or one minus it) for a binary target, of the correlation for regression; groups of
        equal values have to name the class with at most ``1 - threshold`` of the errors of naming the most frequent.
    columns : mapping of str to ColumnSpec
        The spec's columns.
    """
    if len(table) < MIN_LEAKAGE_ROWS:
        return
    rows = _sampled_rows(table)
    if len(rows) < MIN_LEAKAGE_ROWS:
        return
    sample = _Sample(table, rows, TargetValues.of(table).take(rows), threshold)
    stated = {name for name, column in columns.items() if column.role == "feature"}
    found: set[str] = set()
    for column in table.schema.features:
        explanation = sample.explain(column)
        if explanation and column.name not in stated:
            yield _leak([column.name], f"a feature, {column.name!r}, {explanation}")
        if explanation:
            found.add(column.name)
    for names, relation in _find_combinations(sample, found):
        if not set(names) <= stated:
            yield _leak(names, relation)
    yield from _find_numbering_leak(sample)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The rows in which leaks are looked for."""

    table: TypedTable
    rows: npt.NDArray[np.int64]
    target: TargetValues
    threshold: float

    def explain(self, column: Column) -> str | None:
        """Return how a column alone gives the target away, as a predicate; None when it does not."""
        target, threshold = self.target, self.threshold
        values = np.empty(0) if column.type == "text" else self.table.columns[column.name][self.rows]
        present = self._presence(column) if column.type == "text" else ~missing_mask(values)
        if explanation := _explain_presence(self.table.schema, present, target):
            return explanation
        if column.type == "text":
            return None
        association = associate(column, values, target)
        if association and _power(association) >= threshold:
            return f"predicts the target nearly perfectly alone ({association.measure} {association.value:.4f})"
        if groups_decide(values[present], target.take(present), threshold, 2 if is_text(column) else MIN_REPEATED):
            return "gives the target away: nearly every one of its values stands for one value of the target"
        has_order = not is_text(column) and column.type != "boolean" and target.task == "multiclass"
        if has_order and _ranges_decide(_numbers(values), target, threshold):
            return "gives the target away: each class has a range of its own"
        return None

    def _presence(self, column: Column) -> Mask:
        """Return the mask of the rows in which a column of text has a value."""
        parts = [
            pc.fill_null(pc.not_equal(part, MISSING_STRING), False).to_numpy(zero_copy_only=False)
            for part in stored_parts(self.table, column)
        ]
        return np.concatenate([np.empty(0, dtype=np.bool_), *parts])[self.rows]


def _sampled_rows(table: TypedTable) -> npt.NDArray[np.int64]:
    """Return rows to measure, each content once: of repeated rows any value would seem to tell the target."""
    rows = association_rows(len(table))
    rows = rows[:: -(-len(rows) // MAX_LEAKAGE_ROWS)]
    columns = [table.schema.target, *(column for column in table.schema.features if column.type != "text")]
    hashes = [hash_values(stored_column(table, column).take(pa.array(rows))) for column in columns]
    return rows[~pd.Series(fold_columns(hashes, len(rows))).duplicated().to_numpy()]


def _leak(names: Sequence[str], relation: str) -> Finding:
    one = len(names) == 1
    message = (
        f"{relation}: if {'it is' if one else 'they are'} derived from the target, or known only afterwards, write "
        f"{column_line(names, 'ignored')} in the spec; if {'it is' if one else 'they are'} known before, "
        f"{column_line(names, 'feature')}"
    )
    return warning("leakage", message, names[0])


def column_line(names: Sequence[str], role: str) -> str:
    """Return the line of a spec that gives columns a role."""
    plain = r"(?!(?i:yes|no|on|off|true|false|null|y|n)$)[A-Za-z_]\w*"
    keys = (name if re.fullmatch(plain, name) else json.dumps(name, ensure_ascii=False) for name in names)
    return f"columns: {{{', '.join(f'{key}: {{role: {role}}}' for key in keys)}}}"


def _power(association: Association) -> float:
    value = association.value
    return max(value, 1.0 - value) if association.measure == "auc" else association.strength


def _explain_presence(schema: TableSchema, present: Mask, target: TargetValues) -> str | None:
    """Return the class that rows with a value have, or rows without one, if it is always one rare class."""
    if target.task == "regression" or present.all() or not present.any():
        return None
    counts = np.bincount(target.values[target.known], minlength=target.classes)
    for mask, state in ((present, "has a value"), (~present, "is missing")):
        classes = np.unique(target.values[mask & target.known])
        if len(classes) != 1 or 2 * counts[classes[0]] > counts.sum():
            continue
        everywhere, inside = int(counts[classes[0]]), int((mask & target.known).sum())
        if inside >= MIN_PRESENT_ROWS or (inside == everywhere and inside >= MIN_OTHER_ROWS):
            name = schema.quote_class(int(classes[0]))
            return (
                f"gives the target away by its presence: wherever it {state}, the target is {name} ({inside:,} of "
                f"the {everywhere:,} rows of that class)"
            )
    return None


def groups_decide(values: npt.NDArray[np.generic], target: TargetValues, threshold: float, least: int) -> bool:
    """Return whether the other rows with a row's value name its target; no value is missing.

    Each row is predicted from the others of its group (leave-one-out); values that occur once are left out, as long as
    they are few. Groups have ``least`` rows on average.
    """
    known = np.flatnonzero(target.known)
    if len(known) < MIN_LEAKAGE_ROWS:
        return False
    groups = np.asarray(pd.factorize(values[known])[0], dtype=np.int64)
    sizes = np.bincount(groups)
    repeated = sizes[groups] > 1
    if len(sizes) == 1 or len(groups) < least * len(sizes) or repeated.mean() < REPEATED_SHARE:
        return False
    groups, known = groups[repeated], known[repeated]
    if target.task == "regression":
        return _explained_by(groups, sizes, target.values[known].astype(np.float64)) >= threshold
    classes = target.values[known].astype(np.int64)
    frequent = np.bincount(classes, minlength=target.classes)
    counts = np.bincount(groups * target.classes + classes, minlength=len(sizes) * target.classes)
    counts = counts.reshape(len(sizes), target.classes)
    own, (second, first) = counts[groups, classes], np.partition(counts, -2, axis=1)[groups, -2:].T
    rival = np.where(own < first, first, second)  # the most frequent other class of the group
    others = len(classes) - int(frequent.max())
    return others >= MIN_OTHER_ROWS and int((own - 1 <= rival).sum()) <= (1.0 - threshold) * others


def _explained_by(groups: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], numbers: Floats) -> float:
    """Return the correlation of a quantity with the mean of the other rows of each row's group."""
    total = numbers - numbers.mean()
    scatter = float(np.dot(total, total))
    if scatter <= 0.0:
        return 0.0
    others = (np.bincount(groups, weights=total)[groups] - total) / (sizes[groups] - 1)
    return float(np.sqrt(max(0.0, 1.0 - float(np.sum((total - others) ** 2)) / scatter)))


def _ranges_decide(numbers: Floats, target: TargetValues, threshold: float) -> bool:
    """Return whether classes, in the order of their medians, hardly overlap with the next one."""
    known = target.known & ~np.isnan(numbers)
    numbers, classes = numbers[known], target.values[known]
    parts = [numbers[classes == index] for index in np.unique(classes)]
    parts.sort(key=lambda part: float(np.median(part)))
    if len(parts) < 2 or len(numbers) - max(map(len, parts)) < MIN_OTHER_ROWS:  # noqa: PLR2004  # two to compare
        return False
    areas = (
        mann_whitney_area(np.concatenate([one, other]), np.arange(len(one) + len(other)) >= len(one))
        for one, other in pairwise(parts)
    )
    return all(area is not None and area >= threshold for area in areas)


def _numbers(values: npt.NDArray[np.generic]) -> Floats:
    if values.dtype.kind == "M":
        missing = missing_mask(values)
        return np.where(missing, np.nan, values.astype("datetime64[us]").astype(np.int64) / 1e6)
    return np.asarray(values, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Numeric:
    """Numeric features in the rows that have all of them, without those that are constant."""

    names: Sequence[str]
    values: Floats  # of shape (n_rows, n_columns)
    target: TargetValues

    @classmethod
    def of(cls, sample: _Sample, found: set[str]) -> "_Numeric":
        rows, target, table = sample.rows, sample.target, sample.table
        chosen = np.arange(0, len(rows), -(-len(rows) // MAX_COMBINED_ROWS))
        rows, target = rows[chosen], target.take(chosen)
        kinds = ("integer", "number", "datetime")
        features = [one for one in table.schema.features if one.type in kinds and one.name not in found]
        columns = {one.name: _numbers(table.columns[one.name][rows]) for one in features[:MAX_COMBINED_COLUMNS]}
        complete = {name: values for name, values in columns.items() if np.isnan(values).mean() < 0.5}  # noqa: PLR2004  # most rows
        kept = target.known
        for values in complete.values():
            kept = kept & ~np.isnan(values)
        names = [name for name, values in complete.items() if kept.any() and np.ptp(values[kept]) > 0]
        matrix = np.column_stack([complete[name][kept] for name in names]) if names else np.empty((0, 0))
        return cls(names, matrix, target.take(kept))


def _find_combinations(sample: _Sample, found: set[str]) -> Iterator[tuple[list[str], str]]:
    """Yield columns whose sum or difference gives the target away, with the relation."""
    if sample.target.task == "multiclass":
        return
    numeric = _Numeric.of(sample, found)
    if len(numeric.names) < 2 or len(numeric.values) < MIN_LEAKAGE_ROWS:  # noqa: PLR2004  # a pair
        return
    find = _find_sum if sample.target.task == "regression" else _find_pairs
    yield from find(numeric, sample.threshold)


def _find_sum(numeric: _Numeric, threshold: float) -> Iterator[tuple[list[str], str]]:
    """Find the columns whose linear combination is the target, by orthogonal matching pursuit (Pati et al., 1993)."""
    wanted = numeric.target.values.astype(np.float64)
    wanted = wanted - wanted.mean()
    scatter = float(np.dot(wanted, wanted))
    if scatter <= 0.0:
        return
    centred = numeric.values - numeric.values.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=0))
    chosen: list[int] = []
    residual = wanted
    while len(chosen) < min(MAX_TERMS, len(numeric.names)):
        strengths = np.abs(scaled.T @ residual)
        strengths[chosen] = -1.0
        chosen.append(int(strengths.argmax()))
        weights = np.linalg.lstsq(scaled[:, chosen], wanted, rcond=None)[0]
        residual = wanted - scaled[:, chosen] @ weights
        share = 1.0 - float(np.dot(residual, residual)) / scatter
        if len(chosen) == 1 or share < threshold**2:
            continue
        # A column that was chosen before the others explained the target has no part in it.
        terms = np.array(chosen)[np.abs(weights) > NEGLIGIBLE_WEIGHT * np.abs(weights).max()]
        sizes = np.abs(np.linalg.lstsq(centred[:, terms], wanted, rcond=None)[0])
        plain = bool(np.ptp(sizes) <= EQUAL_COEFFICIENTS * sizes.max())
        if plain or share >= EXACT_SHARE:
            names = [numeric.names[index] for index in sorted(terms.tolist())]
            kind = "a sum or difference" if plain else "a linear combination"
            yield names, f"the target is {kind} of {quoted(names)}"
            return


_COMBINATIONS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "difference": np.subtract,
    "sum": np.add,
    "distance": lambda first, second: np.abs(first - second),
}
#: Rows of each class in which a pair is tried first, and so many times the errors allowed there.
_FEW_ROWS, _FEW_ERRORS = 128, 50.0


def _spaced(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a few of some rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _FEW_ROWS)).astype(np.int64))]


def _separation(values: Floats, positive: Mask) -> float:
    """Return the area under the curve, or one minus it, by comparing every two rows."""
    pairs = np.sign(values[positive][:, np.newaxis] - values[~positive])
    return 0.5 + abs(float(pairs.mean())) / 2


def _find_pairs(numeric: _Numeric, threshold: float) -> Iterator[tuple[list[str], str]]:
    """Find pairs of columns whose sum, difference or distance separates two classes."""
    positive = numeric.target.values == 1
    if min(int(positive.sum()), int((~positive).sum())) < MIN_OTHER_ROWS:
        return
    few = np.concatenate([_spaced(np.flatnonzero(mask)) for mask in (positive, ~positive)])
    used: set[str] = set()
    for one, other in combinations(range(len(numeric.names)), 2):
        names = [numeric.names[one], numeric.names[other]]
        if used & set(names):
            continue
        first, second = numeric.values[:, one], numeric.values[:, other]
        for kind, combine in _COMBINATIONS.items():
            # Nearly all pairs are far from it in a few rows already, which are ranked a hundred times as fast.
            if _separation(combine(first[few], second[few]), positive[few]) < 1.0 - _FEW_ERRORS * (1.0 - threshold):
                continue
            area = mann_whitney_area(combine(first, second), positive) or 0.0
            if max(area, 1.0 - area) >= threshold:
                used |= set(names)
                yield names, f"the {kind} of {quoted(names)} predicts the target nearly perfectly (auc {area:.4f})"
                break


def _find_numbering_leak(sample: _Sample) -> Iterator[Finding]:
    """Yield a finding when a numeric identifier gives the target away; one of strings would fit anything."""
    identifier, target, threshold = sample.table.schema.identifier, sample.target, sample.threshold
    if identifier is None:
        return
    parsed = parse_numbers(_take(sample.table, identifier, sample.rows))
    if parsed.bad_count or bool(np.isnan(parsed.values).all()):
        return
    association = associate(Column(identifier.name, "number"), parsed.values, target)
    separated = target.task == "multiclass" and _ranges_decide(parsed.values, target, threshold)
    if separated or (association and _power(association) >= threshold):
        measured = "" if association is None else f" ({association.measure} {association.value:.4f})"
        message = (
            f"the identifier, {identifier.name!r}, gives the target away{measured}: the rows were numbered class by "
            "class, or their order follows the target"
        )
        yield warning("leakage", message, identifier.name)


def _take(table: TypedTable, column: Column, rows: npt.NDArray[np.int64]) -> pa.Array:
    """Return some rows of a column without holding the others."""
    taken, first = [], 0
    for part in stored_parts(table, column):
        start, end = np.searchsorted(rows, (first, first + len(part)))
        taken.append(part.take(pa.array(rows[start:end] - first)))
        first += len(part)
    return pa.concat_arrays(taken)


def leave_out_row_numbers(
    table: TypedTable, files: npt.NDArray[np.int64], columns: Mapping[str, ColumnSpec]
) -> tuple[TableSchema, list[Finding]]:
    """Return the schema of a first upload without row numbers as features, and a finding on each column of them.

    A column that only ascends, or that would leave no feature, stays one. ``files`` has the number of each row's file.
    """
    schema, findings = table.schema, []
    for column in schema.features:
        numbering = _numbering(table, column, files, columns)
        if numbering is None:
            continue
        if numbering not in _UNCERTAIN and len(schema.features) > 1:
            message = (
                f"the column {column.name!r} numbers the rows ({numbering}) and is left out; to learn from it, write "
                f"{column_line([column.name], 'feature')} in the spec"
            )
            ignored = replace(column, role="ignored", reason=f"numbers the rows ({numbering})")
            schema = replace(schema, columns=tuple(ignored if one is column else one for one in schema.columns))
            findings.append(warning("row_number", message, column.name))
        else:
            findings.append(_keeps_numbers(column, numbering))
    return schema, findings


def find_row_numbers(
    table: TypedTable, files: npt.NDArray[np.int64], columns: Mapping[str, ColumnSpec]
) -> list[Finding]:
    """Return a finding for each feature that numbers the rows, which the model's schema has as a feature already."""
    found = {column: _numbering(table, column, files, columns) for column in table.schema.features}
    return [_keeps_numbers(column, numbering) for column, numbering in found.items() if numbering]


def _keeps_numbers(column: Column, numbering: str) -> Finding:
    described = (
        f"the whole numbers of {column.name!r} ascend with the rows of each file from the same one"
        if numbering == _RESTARTING
        else f"each value of {column.name!r} is another whole number, ascending with the rows or nearly without gaps"
    )
    message = (
        f"{described}: if it only numbers them, write {column_line([column.name], 'ignored')} in the spec, else "
        f"{column_line([column.name], 'feature')}"
    )
    return warning("row_number", message, column.name)


#: Numberings that may mean something.
_ASCENDING, _RESTARTING = "ascending", "restarting"
_UNCERTAIN = (_ASCENDING, _RESTARTING)


def _numbering(
    table: TypedTable, column: Column, files: npt.NDArray[np.int64], columns: Mapping[str, ColumnSpec]
) -> str | None:
    """Return how a column numbers the rows: in order, shuffled, or only ascending; None when it does not."""
    said = columns.get(column.name)
    if column.type not in ("integer", "number") or (said and said.role == "feature") or len(table) < MIN_NUMBERED_ROWS:
        return None
    values = table.columns[column.name]
    if bool(np.isnan(values).any()) or bool((values % 1 != 0).any()):
        return None
    steps, low, high = np.diff(values), float(values.min()), float(values.max())
    ordered = bool((steps > 0).all() or (steps < 0).all())
    dense = (high - low + 1) / len(values)
    if ordered:
        is_time = bool(_TIME_NAME.search(column.name)) or (_YEARS[0] <= low and high <= _YEARS[1])
        return _ASCENDING if is_time or dense > MAX_ORDERED_RANGE else f"{values[0]:.0f}, {values[1]:.0f}, ..."
    if numbering := _restarting(column.name, values, files):
        return numbering
    if len(values) < MIN_LEAKAGE_ROWS or dense > MAX_SHUFFLED_RANGE or len(np.unique(values)) < len(values):
        return None
    return "shuffled"


def _restarting(name: str, values: Floats, files: npt.NDArray[np.int64]) -> str | None:
    """Return how a column numbers the rows of each file, or of tables that were put together, anew."""
    restarts = np.flatnonzero(np.diff(values) <= 0) + 1
    if len(values) < MIN_NUMBERED_ROWS * (len(restarts) + 1) or _TIME_NAME.search(name):
        return None
    starts, ends = np.append(0, restarts), np.append(restarts, len(values))
    lengths, firsts = ends - starts, values[starts]
    # A few rows of each part may be quarantined, also the first ones.
    if (firsts - firsts[0] > MAX_MISSED_STARTS).any():
        return None
    if (values[ends - 1] - firsts >= MAX_SHUFFLED_RANGE * lengths).any():
        return None
    by_file = bool(np.isin(restarts, np.flatnonzero(np.diff(files)) + 1).all())
    if lengths.max() > LONGEST_CYCLE or _INDEX_NAME.fullmatch(name):
        return f"{firsts[1]:.0f}, {firsts[1] + 1:.0f}, ... anew {'in each file' if by_file else 'again and again'}"
    return _RESTARTING if by_file else None
