"""Compare two datasets by their profiles: schema, volume, and distributions by the population stability index.

Every index in Millrace comes from :func:`millrace.stats.distances.population_stability_index`, over the bins of the
earlier data: about ten quantile bins of numbers and timestamps, the most frequent categories and one bin for the
others. It is the index of known values. Missing values, and categories that the earlier dataset lacks, are compared
with the other rows by an index of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.dataset_documents import ColumnProfile, DatasetManifest, DatasetProfile
from millrace.data.schema_changes import compare_schemas
from millrace.histograms.bins import merge_rare_categories
from millrace.schema import TableSchema
from millrace.spec.data import LARGE_SHIFT, MODERATE_SHIFT
from millrace.stats.distances import population_stability_index

#: Rows that each of two compared profiles needs.
MIN_COMPARED_ROWS = 100
#: Values listed for each column: those whose shares changed most.
_LISTED_VALUES = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StoredDataset:
    """Documents of a stored dataset."""

    manifest: DatasetManifest
    profile: DatasetProfile
    schema: TableSchema


@dataclass(frozen=True, slots=True)
class ColumnShift:
    """Population stability indices of a column between two datasets.

    Of the known values, of missing against known values, and of categories that the earlier dataset lacks against
    others.
    """

    values: float
    missing: float
    unseen: float = 0.0

    @property
    def largest(self) -> float:
        """The index that the verdict is on."""
        return max(self.values, self.missing, self.unseen)


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """Difference of a column between two datasets; pairs are before and after.

    Indices are None when they cannot be compared; the verdict is on the largest. ``shares`` of categories (``value``,
    ``before`` and ``after``) begin with the largest change; a sensitive column has none.
    """

    name: str
    type: str
    psi: float | None
    missing_psi: float | None
    unseen_psi: float | None
    verdict: str
    missing_share: tuple[float, float]
    mean: tuple[float | None, float | None] | None
    shares: Sequence[Mapping[str, Any]]


def compare_datasets(before: StoredDataset, after: StoredDataset) -> dict[str, Any]:
    """Compare two datasets, as plain JSON.

    Keys are ``schema`` (``kind`` and ``details``), ``volume``, ``target`` (shares of the classes) and ``columns`` (the
    largest shift first).
    """
    change = compare_schemas(before.schema, after.schema)
    columns = [
        compare_columns(column, later)
        for column in before.profile.columns
        if (later := after.profile.column(column.name)) is not None
    ]
    columns.sort(key=lambda column: (-(column.psi if column.psi is not None else -1.0), column.name))
    targets = [one.profile.shown_target for one in (before, after)]
    classes = [target.classes if target else {} for target in targets]
    return {
        "schema": {"kind": change.kind, "details": list(change.details)},
        "volume": {
            "rows": [before.manifest.rows, after.manifest.rows],
            "columns": [before.manifest.columns, after.manifest.columns],
            "quarantined_rows": [one.manifest.row_counts["quarantined"] for one in (before, after)],
            "row_ratio": after.manifest.rows / before.manifest.rows if before.manifest.rows else None,
        },
        "target": {
            "name": targets[1].name if targets[1] else None,
            "shares": _shares(classes, [sum(counts.values()) for counts in classes]),
        },
        "columns": [asdict(column) for column in columns],
    }


def compare_columns(before: ColumnProfile, after: ColumnProfile) -> ColumnDifference:
    """Compare the profiles of a column."""
    shift = measure_shift(before, after)
    shares: list[dict[str, Any]] = []
    if before.top is not None and after.top is not None and not before.sensitive and not after.sensitive:
        counts = [{entry.value: entry.count for entry in column.top or ()} for column in (before, after)]
        rows = (before.known, after.known)
        changed = [share for share in _shares(counts, rows) if share["before"] != share["after"]]
        changed.sort(key=lambda share: (-abs(share["after"] - share["before"]), share["value"]))
        shares = changed[:_LISTED_VALUES]
    means = (None, None) if before.sensitive or after.sensitive else (before.mean, after.mean)
    return ColumnDifference(
        name=before.name,
        type=before.type if before.type == after.type else f"{before.type}, then {after.type}",
        psi=shift.values if shift else None,
        missing_psi=shift.missing if shift else None,
        unseen_psi=shift.unseen if shift else None,
        verdict=grade_shift(shift.largest if shift else None),
        missing_share=(before.missing_share, after.missing_share),
        mean=means if means != (None, None) else None,
        shares=shares,
    )


def _shares(counts: Sequence[Mapping[str, int]], rows: Sequence[int]) -> list[dict[str, Any]]:
    """Return each value's share of the rows, before and after."""
    (before, after), (first, second) = counts, (max(1, total) for total in rows)
    return [
        {"value": value, "before": before.get(value, 0) / first, "after": after.get(value, 0) / second}
        for value in dict.fromkeys([*before, *after])
    ]


def grade_shift(psi: float | None) -> str:
    """Return the customary grade of a population stability index (Siddiqi 2006, p. 136)."""
    if psi is None:
        return "unknown"
    if psi >= LARGE_SHIFT:
        return "large"
    return "moderate" if psi >= MODERATE_SHIFT else "stable"


def measure_shifts(before: DatasetProfile | None, after: DatasetProfile | None) -> dict[str, ColumnShift]:
    """Return the shift of every feature and of the target; of texts, which hardly repeat, only of the missing values.

    Empty when either profile has fewer than :data:`MIN_COMPARED_ROWS` rows.
    """
    if before is None or after is None or min(before.rows, after.rows) < MIN_COMPARED_ROWS:
        return {}
    shifts = {}
    for column in before.columns:
        later = after.column(column.name)
        if later is None or column.role in ("identifier", "ignored") or later.role != column.role:
            continue
        if "text" in (column.type, later.type):
            shifts[column.name] = ColumnShift(0.0, _missing_index(column, later))
        elif shift := measure_shift(column, later):
            shifts[column.name] = shift
    return shifts


def _missing_index(before: ColumnProfile, after: ColumnProfile) -> float:
    return _index([before.known, before.missing], [after.known, after.missing])


def measure_shift(before: ColumnProfile, after: ColumnProfile) -> ColumnShift | None:
    """Return the shift between two profiles of a column; None when they have nothing to compare."""
    missing = _missing_index(before, after)
    if before.known and not after.known:
        return ColumnShift(0.0, missing)
    if before.bins is not None and after.bins is not None:
        edges = np.array(before.bins.edges, dtype=np.float64)
        counts = np.diff(cumulative_counts(after, edges), prepend=0.0, append=float(after.known))
        return ColumnShift(_index(before.bins.counts, counts), missing)
    if before.top is None or after.top is None or not before.known or not after.known:
        return None
    if min(before.distinct, after.distinct) > 2 * max(len(before.top), 1):
        return None  # nearly every row has a value of its own: the most frequent ones mean nothing
    first, second, unseen = _category_counts(before, after)
    index = _index(*merge_rare_categories(np.array(first), np.array(second)))
    return ColumnShift(index, missing, _index([before.known, 0.0], [after.known - unseen, unseen]))


def cumulative_counts(profile: ColumnProfile, points: Floats) -> Floats:
    """Return about how many values of a profiled column are less than each point.

    Exact at the edges of the profile's bins and histogram, linear in between. The bars of integers have their edges
    half-way, so that the counts below integers are exact where a bar holds one integer.
    """
    bins, histogram = profile.bins, profile.histogram
    if bins is None:
        return np.zeros(len(points))
    known: dict[float, float] = {}
    if histogram is not None:
        below = np.cumsum([histogram.below, *histogram.counts])
        known = dict(zip(histogram.edges, below.astype(float).tolist(), strict=True))
    # The last bar includes its upper edge, and a bin does not: where both have an edge, the bin is exact.
    known |= zip(bins.edges, np.cumsum(bins.counts)[:-1].astype(float).tolist(), strict=True)
    if profile.type == "integer" and histogram is not None and any(edge % 1 for edge in histogram.edges):
        known = {float(np.ceil(edge)) - 0.5: count for edge, count in known.items()}
        points = np.ceil(points) - 0.5
    if not known:
        only = profile.minimum if isinstance(profile.minimum, int | float) else 0.0  # of a column with one value
        return np.where(points > only, float(profile.known), 0.0)
    edges = np.array(sorted(known))
    counts = np.maximum.accumulate(np.array([known[edge] for edge in edges.tolist()]))
    return np.asarray(np.interp(points, edges, counts, left=0.0, right=float(profile.known)), dtype=np.float64)


def _index(before: Sequence[float] | Floats, after: Sequence[float] | Floats) -> float:
    counts = (np.asarray(counted, dtype=np.float64) for counted in (before, after))
    return population_stability_index(*counts).value


def _category_counts(before: ColumnProfile, after: ColumnProfile) -> tuple[list[float], list[float], float]:
    """Return the rows of the earlier dataset's categories, the last one for all its others; and the unseen rows.

    A category that is not among the later dataset's most frequent may be among its other rows. It counts as often
    there as its earlier share would have it, as far as these rows allow: the index is too small rather than made up.
    """
    first = {entry.value: float(entry.count) for entry in before.top or ()}
    second = {entry.value: float(entry.count) for entry in after.top or ()}
    hidden = float(after.other or 0)
    rest = hidden + sum(count for value, count in second.items() if value not in first)
    rarest = min(second.values(), default=0.0)
    ratio = after.known / max(1, before.known)
    found = []
    for value, count in first.items():
        if value in second or not hidden:
            found.append(second.get(value, 0.0))
            continue
        found.append(min(count * ratio, rarest, hidden, rest))
        rest -= found[-1]
    if before.other:
        return [*first.values(), float(before.other)], [*found, rest], 0.0
    return [*first.values(), 0.0], [*found, 0.0], rest
