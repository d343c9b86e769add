"""Which rows of a model's datasets are trained on: none twice, and no more than a run can take.

A row is known by 64 bits: its identifier's hash or, where it has none, its content's and copy number's (see
:mod:`millrace.data.splitting`). Where there are more rows than a run takes, those are kept whose bits, mixed with the
seed, are the smallest: the same rows in every run, and when data is added nearly the same. Since equal rows are kept
or left out together, a row is judged to be a repetition exactly as it would be without a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.data.splitting import UInt64Array, hash_copies, hash_rows, hash_strings, sample_places
from millrace.data.typed_table import TypedTable, row_parts
from millrace.features import MISSING_STRING
from millrace.schema import TableSchema

Int64Array = npt.NDArray[np.int64]

_LARGEST = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one dataset gives to a training set.

    Parameters
    ----------
    read : int
        Its rows.
    superseded : int, default=0
        Rows whose identifier a newer dataset has.
    repeated : int, default=0
        Rows whose identifier, or content, it or an older dataset has already.
    left_out : int, default=0
        Other rows that are not in the sample, where a sample is taken.
    """

    read: int
    superseded: int = 0
    repeated: int = 0
    left_out: int = 0

    @property
    def used(self) -> int:
        """Rows that are left."""
        return self.read - self.superseded - self.repeated - self.left_out

    def to_dict(self) -> dict[str, int]:
        """Return plain JSON."""
        return {
            "rows": self.read,
            "used": self.used,
            "superseded": self.superseded,
            "repeated": self.repeated,
            "left_out_of_sample": self.left_out,
        }


@dataclass(slots=True)
class _Part:
    """What is kept of one dataset so far."""

    read: int
    rows: Int64Array
    identities: UInt64Array
    places: UInt64Array
    superseded: int
    repeated: int

    def cut(self, threshold: np.uint64) -> None:
        """Leave out what has its place beyond a threshold."""
        kept = self.places <= threshold
        self.rows, self.identities, self.places = self.rows[kept], self.identities[kept], self.places[kept]


@dataclass(slots=True)
class RowChoice:
    """The rows that are trained on, by dataset.

    Parameters
    ----------
    parts : list of _Part
        Oldest dataset first.
    """

    parts: list[_Part]

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.parts)

    @property
    def rows(self) -> list[Int64Array]:
        """Positions by dataset, in order."""
        return [part.rows for part in self.parts]

    @property
    def identities(self) -> UInt64Array:
        """What decides each row's side, in the order of the datasets."""
        return np.concatenate([np.empty(0, dtype=np.uint64), *(part.identities for part in self.parts)])

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        """What each dataset gives, and what it does not."""
        return tuple(
            Contribution(
                part.read,
                part.superseded,
                part.repeated,
                part.read - part.superseded - part.repeated - len(part.rows),
            )
            for part in self.parts
        )

    def cut(self, limit: int) -> np.uint64:
        """Keep no more rows than ``limit``; return the threshold that does."""
        places = np.concatenate([part.places for part in self.parts])
        if len(places) <= limit:
            return _LARGEST
        threshold = np.uint64(np.partition(places, limit - 1)[limit - 1])
        for part in self.parts:
            part.cut(threshold)
        return threshold


def choose_rows(schema: TableSchema, tables: Sequence[TypedTable], limit: int, seed: int) -> RowChoice:
    """Choose the rows to train on.

    Where rows have an identifier, the newest row of each is kept. Where they have none, a row is kept as often as the
    dataset holds it that holds it most often: repetitions within one dataset are the data's own and stay, and a table
    that is uploaded again with more rows adds only those. Memory is that of one dataset's hashes.

    Parameters
    ----------
    schema : TableSchema
        The model's.
    tables : sequence of TypedTable
        Oldest upload first; each is looked at once.
    limit : int
        Rows that are kept at most.
    seed : int
        Another seed is another sample.
    """
    parts: dict[int, _Part] = {}
    seen: UInt64Array = np.empty(0, dtype=np.uint64)
    threshold = _LARGEST
    order = range(len(tables))
    for index in reversed(order) if schema.identifier else order:
        identities, named = _identify(schema, tables[index])
        part = _without_known(identities, named, seen, sample_places(identities, seed), threshold)
        parts[index] = part
        threshold = min(threshold, RowChoice(list(parts.values())).cut(limit))
        seen = np.union1d(seen, part.identities if named is None else part.identities[named[part.rows]])
        seen = seen[sample_places(seen, seed) <= threshold]
    return RowChoice([parts[index] for index in order])


def _identify(schema: TableSchema, table: TypedTable) -> tuple[UInt64Array, npt.NDArray[np.bool_] | None]:
    """Return what each row is known by, and which rows have an identifier; None when there is no such column."""
    if schema.identifier is None:
        contents = [hash_rows(part.contents(), part.target()) for part in row_parts(table)]
        return hash_copies(_joined(contents)), None
    hashes, named = [], []
    contents = []
    for part in row_parts(table):
        identifiers = part.columns[schema.identifier.name]
        hashes.append(hash_strings(identifiers))
        named.append(identifiers != MISSING_STRING)
        if not named[-1].all():
            contents.append(hash_rows(part.contents(), part.target())[~named[-1]])
    identities = _joined(hashes)
    has_name = np.concatenate([np.empty(0, dtype=np.bool_), *named])
    identities[~has_name] = hash_copies(_joined(contents))
    return identities, has_name


def _without_known(
    identities: UInt64Array,
    named: npt.NDArray[np.bool_] | None,
    seen: UInt64Array,
    places: UInt64Array,
    threshold: np.uint64,
) -> _Part:
    """Leave out a dataset's rows that are known already, and of each identifier all but the last."""
    rows = np.flatnonzero(places <= threshold)
    known = np.isin(identities[rows], seen)
    if named is None:
        new = rows[~known]
        return _Part(len(identities), new, identities[new], places[new], 0, int(known.sum()))
    known &= named[rows]
    fresh = rows[~known]
    kept = fresh[_last_of_each(identities[fresh], named[fresh])]
    repeated = len(fresh) - len(kept)
    return _Part(len(identities), kept, identities[kept], places[kept], int(known.sum()), repeated)


def _last_of_each(identities: UInt64Array, named: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Tell which rows are the last of their identifier; rows without one all are."""
    order = np.argsort(identities, kind="stable")
    ordered = identities[order]
    is_last = np.ones(len(order), dtype=np.bool_)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    kept = np.empty(len(order), dtype=np.bool_)
    kept[order] = is_last
    return kept | ~named


def _joined(parts: list[UInt64Array]) -> UInt64Array:
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])
