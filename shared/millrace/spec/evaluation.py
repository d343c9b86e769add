"""How a model is examined on its holdout."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from millrace.spec.data import Number, Word
from millrace.spec.part import SpecPart

MAX_SLICES = 50


class RangeSpec(SpecPart):
    """A range of a number; seconds since 1970 for datetimes.

    Parameters
    ----------
    minimum, maximum : float or None, default=None
        Both included; at least one is needed.
    """

    minimum: Number | None = None
    maximum: Number | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "RangeSpec":
        if self.minimum is None and self.maximum is None:
            raise ValueError("needs a minimum, a maximum, or both")
        if self.minimum is not None and self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"the maximum is less than the minimum, {self.minimum:g}")
        return self


def _as_list(value: Any) -> Any:
    return value if isinstance(value, dict | list | tuple | RangeSpec) else [value]


Condition = Annotated[
    RangeSpec | Annotated[tuple[Word, ...], Field(min_length=1, max_length=1_000)], BeforeValidator(_as_list)
]


class SliceSpec(SpecPart):
    """A part of the rows whose quality is told on its own: ``by`` columns, or ``where`` a condition holds.

    Parameters
    ----------
    by : tuple of str, default=()
        One column, or two: each of their values (or pairs of values) is a slice; numbers are cut at their quartiles.
    where : dict of str to condition, default={}
        By column: one value, a list of values, or ``{minimum: ..., maximum: ...}``. All must hold.
    name : str, default=""
        What the slice of ``where`` is called; by default its conditions.
    floors : dict of str to float, default={}
        Least value of a metric on each of these slices (greatest, for errors and losses), beside ``gate.slice_floors``.
    """

    by: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    where: Annotated[dict[str, Condition], Field(max_length=10)] = Field(default_factory=dict)
    name: Annotated[str, Field(max_length=100)] = ""
    floors: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_one_thing(self) -> "SliceSpec":
        if bool(self.by) == bool(self.where):
            raise ValueError("a slice is either by columns, or where a condition holds")
        if len(set(self.by)) < len(self.by):
            raise ValueError("a slice by two columns needs two different ones")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it needs."""
        return self.by or tuple(self.where)


class CostSpec(SpecPart):
    """What a wrong decision costs, in any unit; only the ratio matters.

    Parameters
    ----------
    false_positive : float, default=1.0
        Of acting on a row that is not of the positive class.
    false_negative : float, default=1.0
        Of not acting on one that is.
    """

    false_positive: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    false_negative: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0


class EvaluationSpec(SpecPart):
    """How a model is examined on its holdout.

    Parameters
    ----------
    costs : CostSpec or None, default=None
        Of a binary task's wrong decisions. With them a threshold is chosen, on the validation split; without, the
        likelier class is the decision.
    slices : tuple of SliceSpec, default=()
        Parts of the rows to tell of on their own.
    min_slice_rows : int, default=30
        Holdout rows below which nothing is concluded of a slice or a group.
    learning_curve : bool, default=True
        Whether the winner is fitted again on shares of the rows, where that is quick.
    importance_seconds : float, default=60.0
        What permutation importance may take; features that do not fit in are named.
    learning_curve_seconds : float, default=60.0
        What the refits of the learning curve may take.
    """

    costs: CostSpec | None = None
    slices: Annotated[tuple[SliceSpec, ...], Field(max_length=MAX_SLICES)] = ()
    min_slice_rows: Annotated[int, Field(ge=10)] = 30
    learning_curve: bool = True
    importance_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0
    learning_curve_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0
