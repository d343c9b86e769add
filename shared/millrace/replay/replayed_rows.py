"""Captured rows as both versions score them: typed columns, refusals, outputs, and the self-test."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.captures.window import CapturedWindow
from millrace.features import build_features
from millrace.replay.replay_documents import ReplaySelfTest
from millrace.schema import TableSchema
from millrace.serving.model import LoadedModel
from millrace.serving.rows import MAX_TEXT_LENGTH, value_rules

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

#: Rows that are scored at once.
BLOCK_ROWS = 8_192
#: Largest deviation that rounding explains, as a share of the number or of 1: processors add up in another order.
ROUNDING = 1e-5
#: Features that are kept to divide rows into slices, and characters of a category.
MAX_SLICE_COLUMNS = 8
_MAX_SLICE_CHARACTERS = 60
_MAX_EXAMPLES = 5

_NUMBER, _STRING = np.array([np.nan]), np.array([""], dtype=np.object_)
_MISSING: Mapping[str, Array] = {
    **dict.fromkeys(("integer", "number", "boolean"), _NUMBER),
    **dict.fromkeys(("category", "text"), _STRING),
    "datetime": np.array(["NaT"], dtype="datetime64[us]"),
}


def read_columns(window: CapturedWindow, schema: TableSchema) -> tuple[dict[str, Array], dict[str, Mask]]:
    """Return the columns that a version takes, and by reason the masks of the rows that it would refuse.

    A value is as serving typed it; what this version's spec refuses, or takes for missing, is so here too. Callers are
    not known to have sent a missing value or to have left it out, so none is refused for that.
    """
    columns = window.typed_features(schema)
    refused: dict[str, Mask] = {}
    for column in schema.features:
        if column.name not in columns:  # as where every row was captured without features
            columns[column.name] = _MISSING[column.type].repeat(len(window))
            refused[f"captures do not hold the column {column.name!r}"] = np.ones(len(window), dtype=np.bool_)
        values = columns[column.name]
        if column.type in ("category", "text"):
            absent = np.isin(values.astype(object), list(column.missing_strings))
            values = columns[column.name] = np.where(absent, "", values).astype(values.dtype)
        if column.type == "category":
            longest = max([MAX_TEXT_LENGTH, *map(len, column.categories)])
            too_long = np.asarray(np.char.str_len(values.astype(np.str_)) > longest, dtype=np.bool_)
            if too_long.any():
                refused[f"{column.name} expects a string of at most {longest} characters"] = too_long
        for rule in value_rules(column) if column.rules.severity == "error" else ():
            broken = np.asarray(rule.violations(values), dtype=np.bool_)
            if broken.any():
                refused[f"{column.name} {rule.message}"] = broken
    return columns, refused


def is_finite(outputs: Array) -> Mask:
    """Return the rows whose output is a number, or all numbers."""
    finite = np.isfinite(outputs)
    return np.asarray(finite if finite.ndim == 1 else finite.all(axis=1), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class ReplayedRows:
    """Rows that both versions scored, in arrays of shape (n_rows,).

    Outputs are probabilities of shape (n_rows, n_classes) or values; ``columns`` are those that slices are made of.
    """

    prediction_ids: Array
    row_ids: Array  # empty where a row has no id of its own
    request_rows: Array
    predicted_at: Array
    champion: Array
    candidate: Array
    columns: Mapping[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def take(self, rows: Array) -> "ReplayedRows":
        """Return the rows at these positions, or where this mask is true."""
        kept = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return ReplayedRows(**kept, columns={name: values[rows] for name, values in self.columns.items()})

    def to_bytes(self) -> bytes:
        """Return a compressed npz file without any pickle."""
        buffer = io.BytesIO()
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"column:{name}": values for name, values in self.columns.items()}
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, body: bytes) -> "ReplayedRows":
        """Read what :meth:`to_bytes` wrote."""
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        columns = {name.removeprefix("column:"): one for name, one in arrays.items() if name.startswith("column:")}
        return cls(**{name: arrays[name] for name in _ARRAYS}, columns=columns)

    @classmethod
    def join(cls, parts: Sequence["ReplayedRows"]) -> "ReplayedRows":
        """Return the rows of all parts, of which there is one at least."""
        names = set.intersection(*(set(part.columns) for part in parts))
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in sorted(names)}
        return cls(**arrays, columns=columns)


_ARRAYS = tuple(one.name for one in fields(ReplayedRows) if one.name != "columns")


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """A window after both versions scored it.

    ``features`` holds the typed columns of the rows by version; ``refused`` counts rows by version and reason.
    """

    rows: ReplayedRows
    self_test: ReplaySelfTest
    omitted: int
    not_finite: int
    refused: Mapping[tuple[int, str], int]
    baseline_columns: Mapping[str, Array]
    candidate_columns: Mapping[str, Array]


def score_window(
    window: CapturedWindow, version: int, baseline: LoadedModel, candidate: LoadedModel, slice_columns: Sequence[str]
) -> ScoredWindow:
    """Score a window of rows that ``version`` served with both versions, block by block.

    The captured columns have to be those that both versions take: see
    :func:`millrace.replay.replayed_versions.find_missing_column`.
    """
    kept = ~window.omitted
    refused = Counter[tuple[int, str]]()
    columns: dict[int, dict[str, Array]] = {}
    for loaded in (baseline, candidate):
        columns[loaded.version], broken = read_columns(window, loaded.schema)
        for reason, mask in broken.items():
            refused[loaded.version, reason] += int((mask & kept).sum())
            kept &= ~mask
    places = np.flatnonzero(kept)
    champion, other = (_score(loaded, columns[loaded.version], places) for loaded in (baseline, candidate))
    self_test = ReplaySelfTest()
    if version == baseline.version:
        served = captured_outputs(window, baseline.schema)[places].astype(champion.dtype)
        # Kernels for one row add up in another order than those for many: such rows are scored alone again, by both.
        alone = np.flatnonzero(~_are_equal(served, champion) & (window.request_rows[places] == 1))
        for loaded, outputs in ((baseline, champion), (candidate, other)):
            for row in alone.tolist():
                outputs[row] = _run(loaded, columns[loaded.version], places[row : row + 1])[0]
        self_test = _test(served, champion, window.prediction_ids[places])
    good = is_finite(champion) & is_finite(other)
    rows = ReplayedRows(
        prediction_ids=window.prediction_ids[places].astype(np.str_),
        row_ids=np.array([name or "" for name in window.row_ids[places].tolist()], dtype=np.str_),
        request_rows=window.request_rows[places],
        predicted_at=window.predicted_at[places],
        champion=champion,
        candidate=other,
        columns=_slice_columns(baseline, columns[baseline.version], places, slice_columns),
    )
    return ScoredWindow(
        rows=rows.take(good),
        self_test=self_test,
        omitted=int(window.omitted.sum()),
        not_finite=int((~is_finite(other)).sum()),
        refused=refused,
        baseline_columns={name: values[places] for name, values in columns[baseline.version].items()},
        candidate_columns={name: values[places] for name, values in columns[candidate.version].items()},
    )


def _score(loaded: LoadedModel, columns: Mapping[str, Array], places: Array) -> Array:
    """Return the outputs of the rows at these positions."""
    outputs = [_run(loaded, columns, places[start : start + BLOCK_ROWS]) for start in range(0, len(places), BLOCK_ROWS)]
    if outputs:
        return np.concatenate(outputs)
    return np.empty((0, len(loaded.schema.classes)) if loaded.schema.classes else 0, dtype=np.float32)


def _run(loaded: LoadedModel, columns: Mapping[str, Array], places: Array) -> Array:
    block = {name: values[places] for name, values in columns.items()}
    return loaded.onnx.run(build_features(loaded.schema, block, len(places), texts=object))


def _slice_columns(
    loaded: LoadedModel, columns: Mapping[str, Array], places: Array, names: Sequence[str]
) -> dict[str, Array]:
    known = {column.name: column for column in loaded.schema.features}
    found: dict[str, Array] = {}
    for name in names:
        if name in columns and known[name].type != "text":
            values = columns[name][places]
            found[name] = values.astype(f"U{_MAX_SLICE_CHARACTERS}") if values.dtype.kind in "UO" else values
    return found


def _test(served: Array, replayed: Array, prediction_ids: Array) -> ReplaySelfTest:
    """Compare the champion's outputs with those that it served."""
    both = is_finite(served) == is_finite(replayed)
    equal = both & _are_equal(served, replayed)
    width = served.shape[1] if served.ndim > 1 else 1
    first, second = (one.astype(np.float64).reshape(-1, width) for one in (served, replayed))
    gaps = np.abs(first - second)
    near = both & (gaps <= ROUNDING * np.maximum(1.0, np.abs(first))).all(axis=1)
    different = ~equal & ~near
    return ReplaySelfTest(
        compared=len(served),
        equal=int(equal.sum()),
        rounded=int((near & ~equal).sum()),
        different=int(different.sum()),
        largest=float(np.nanmax(gaps, initial=0.0)),
        examples=tuple(prediction_ids[different].tolist()[:_MAX_EXAMPLES]),
    )


def _are_equal(first: Array, second: Array) -> Mask:
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.asarray(same if same.ndim == 1 else same.all(axis=1), dtype=np.bool_)


def captured_outputs(window: CapturedWindow, schema: TableSchema) -> Array:
    """Return what was predicted: probabilities in the order of the classes, or values; NaN where there is none."""
    if not schema.classes:
        return window.values
    empty = np.full(len(window), np.nan)
    return np.stack([window.probabilities.get(name, empty) for name in schema.classes], axis=1)


def choose_slice_columns(schema: TableSchema, declared: Sequence[str]) -> list[str]:
    """Return the features that slices are made of: those of declared slices, then categories, then others."""
    usable = [column for column in schema.features if column.type != "text"]
    order = {name: place for place, name in enumerate(declared)}
    ranks = {"category": 0, "boolean": 1}
    usable.sort(key=lambda column: (order.get(column.name, len(order)), ranks.get(column.type, 2)))
    return [column.name for column in usable[: max(MAX_SLICE_COLUMNS, len(order))]]
