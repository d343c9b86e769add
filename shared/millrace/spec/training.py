"""Spec of a search, of the evaluation and of the promotion gate."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from millrace.spec.data import FileValue, Number
from millrace.spec.part import SpecPart

#: Trials of one run; the state machine's payload names each of them.
MAX_TRIALS = 200
#: Workers at once; an inline Map state runs no more.
MAX_CONCURRENCY = 40
#: Rounds of successive halving.
MAX_ROUNDS = 3
MAX_FOLDS = 10
MAX_SLICES = 50

#: A value, or a list of numbers as a network's layers are.
ParameterValue = str | bool | int | float | None | tuple[int, ...]


def _check_not_empty(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if values == ():
        raise ValueError("has no value")
    return values


class ParameterRange(SpecPart):
    """One parameter's values, of which one alone fixes it, or a range inside the search space's own, ends included."""

    values: Annotated[tuple[ParameterValue, ...] | None, AfterValidator(_check_not_empty)] = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "ParameterRange":
        ranged = self.low is not None or self.high is not None
        if ranged == (self.values is not None):
            raise ValueError("needs either values, or low and high")
        if ranged and (self.low is None or self.high is None or self.low > self.high):
            raise ValueError("a range needs both low and high, in this order")
        return self


class TrainingSpec(SpecPart):
    """Trials, concurrency and budget of a search; None takes a default.

    That is :data:`millrace.training.search_plan.DEFAULT_TRIALS` for ``trials``, the stack's parameter for
    ``max_concurrency``; one to three ``rounds`` of successive halving by the number of rows; several ``folds`` of
    cross-validation where rows are few, else the validation split alone, as for 1. No trial starts later than
    ``max_seconds`` after planning, or when those that have ended cost ``max_cost_usd`` by Lambda's list price. More
    training rows than ``max_rows`` are sampled, and every record says so. ``parameters`` override the search space, by
    candidate.
    """

    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    max_seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] | None = None
    max_rows: Annotated[int, Field(ge=10)] | None = None
    parameters: dict[str, dict[str, ParameterRange]] = Field(default_factory=dict)


class RangeSpec(SpecPart):
    """Range of a number, both ends included; seconds since 1970 for datetimes."""

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


ConditionSpec = Annotated[
    RangeSpec | Annotated[tuple[FileValue, ...], Field(min_length=1, max_length=1_000)], BeforeValidator(_as_list)
]


class SliceSpec(SpecPart):
    """Part of the rows that is evaluated on its own: ``by`` columns, or ``where`` conditions hold.

    Parameters
    ----------
    by : tuple of str, default=()
        One column, or two: each of their values (or pairs of values) is a slice; numbers are cut at their quartiles.
    where : dict of str to condition, default={}
        By column: one value, a list of values, or ``{minimum: ..., maximum: ...}``. All must hold.
    name : str, default=""
        Name of the slice of ``where``; by default its conditions.
    floors : dict of str to float, default={}
        Least value of a metric on each of these slices (greatest, for errors and losses), beside ``gate.slice_floors``.
    """

    by: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    where: Annotated[dict[str, ConditionSpec], Field(max_length=10)] = Field(default_factory=dict)
    name: Annotated[str, Field(max_length=100)] = ""
    floors: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _either_by_or_where(self) -> "SliceSpec":
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
    """Cost of a false positive and of a false negative, in any unit; only the ratio matters."""

    false_positive: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0
    false_negative: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1.0


class EvaluationSpec(SpecPart):
    """Evaluation of a model on its holdout.

    With ``costs`` of a binary task's wrong decisions a threshold is chosen on the validation split; without, the
    likelier class is predicted. Slices and groups of fewer than ``min_slice_rows`` holdout rows are not evaluated. For
    a ``learning_curve`` the winner is fitted again on shares of the rows, where that is quick. Features whose
    permutation importance does not fit into its time budget are named.
    """

    costs: CostSpec | None = None
    slices: Annotated[tuple[SliceSpec, ...], Field(max_length=MAX_SLICES)] = ()
    min_slice_rows: Annotated[int, Field(ge=10)] = 30
    learning_curve: bool = True
    importance_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0
    learning_curve_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0


class GateSpec(SpecPart):
    """Requirements of the promotion gate.

    Parameters
    ----------
    floors, slice_floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses), by the metric's name: on the holdout, and on every
        slice that ``evaluation.slices`` declares.
    confidence : float, default=0.95
        Of the paired bootstrap interval that compares challenger and champion.
    champion_rule : {'not_worse', 'better'}, default='not_worse'
        A challenger must be not clearly worse than the champion, or clearly better.
    max_model_bytes : int, default=100_000_000
        Largest ONNX file.
    max_row_milliseconds, max_batch_milliseconds : float or None, default=100.0 and 5_000.0
        Limits of the 95th percentile of scoring one row and 1,000 rows; None for no limit.
    """

    floors: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    champion_rule: Literal["not_worse", "better"] = "not_worse"
    max_model_bytes: int = Field(default=100_000_000, gt=0)
    slice_floors: dict[str, float] = Field(default_factory=dict)
    max_row_milliseconds: float | None = Field(default=100.0, gt=0.0)
    max_batch_milliseconds: float | None = Field(default=5_000.0, gt=0.0)
