"""What is kept of a regression's answers: by value, and by group how large they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.sketches.cells import NumberCells
from millrace.sketches.predictions import add_groups, groups_from_dict, groups_to_dict, rows_by_group
from millrace.sketches.tables import ColumnSketch, sketch_numbers

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class ValueSketch(ColumnSketch):
    """A regression's answers in the target's cells.

    Parameters
    ----------
    groups : dict of str to dict of str to float64 array of shape (3,)
        Rows, sum and sum of squares of the values, in deviations of the target from its mean in training, by column of
        groups and group.
    """

    groups: dict[str, dict[str, Floats]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Floats, cells: NumberCells, groups: Mapping[str, Sequence[str]] | None = None) -> Self:
        """Sketch answers."""
        column = sketch_numbers(values, cells)
        standard = (values - cells.center) / cells.scale
        by_group = {
            name: {
                group: np.array([len(rows), standard[rows].sum(), (standard[rows] ** 2).sum()], dtype=np.float64)
                for group, rows in rows_by_group(own)
            }
            for name, own in (groups or {}).items()
        }
        return cls(**{name: getattr(column, name) for name in ColumnSketch.__dataclass_fields__}, groups=by_group)

    def add(self, other: ColumnSketch) -> None:
        """Add other answers of the same model."""
        ColumnSketch.add(self, other)
        add_groups(self.groups, other.groups if isinstance(other, ValueSketch) else {})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return ColumnSketch.to_dict(self) | {"groups": groups_to_dict(self.groups)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote, or a release that kept no groups."""
        column = ColumnSketch.from_dict(document)
        groups = groups_from_dict(document.get("groups", {}), np.float64)
        return cls(**{name: getattr(column, name) for name in ColumnSketch.__dataclass_fields__}, groups=groups)


@dataclass(frozen=True, slots=True)
class ErrorsByValue:
    """How large a regression's errors were on the holdout, by the cell of the value that was predicted.

    Parameters
    ----------
    sums : float64 array of shape (3, n_cells)
        Rows, sums of the absolute errors and of the squared ones.
    """

    sums: Floats

    @classmethod
    def of(cls, values: Floats, outcomes: Floats, cells: NumberCells) -> Self:
        """Sum up the errors of predicted values."""
        located, errors = cells.locate(values), np.abs(values - outcomes)
        kinds = (np.ones_like(errors), errors, errors**2)
        return cls(np.stack([np.bincount(located, weights=kind, minlength=len(cells)) for kind in kinds]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"sums": self.sums.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(np.asarray(document["sums"], dtype=np.float64))
