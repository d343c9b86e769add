"""How much is tried, and what it may cost."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from millrace.spec.base import SpecPart
from millrace.spec.data import Number, Word

#: Trials of one run at most; the state machine's payload names each of them.
MAX_TRIALS = 200
#: Workers at once at most; an inline Map state runs no more.
MAX_CONCURRENCY = 40
#: Rounds of successive halving at most.
MAX_ROUNDS = 3
MAX_FOLDS = 10

#: A value, or a list of numbers as a network's layers are.
ParameterValue = str | bool | int | float | None | tuple[int, ...]


def _check_not_empty(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    if values == ():
        raise ValueError("names no value at all")
    return values


class ParameterRange(SpecPart):
    """What may be tried of one parameter: some values, or a range.

    Parameters
    ----------
    values : tuple or None, default=None
        The values to choose from; one value fixes the parameter.
    low, high : float or None, default=None
        A range, both ends included, inside the search space's own.
    """

    values: Annotated[tuple[ParameterValue, ...] | None, AfterValidator(_check_not_empty)] = None
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> "ParameterRange":
        ranged = self.low is not None or self.high is not None
        if ranged == (self.values is not None):
            raise ValueError("say either values, or low and high")
        if ranged and (self.low is None or self.high is None or self.low > self.high):
            raise ValueError("a range needs both low and high, in this order")
        return self


class TrainingSpec(SpecPart):
    """How candidates are searched: how many trials, how many at once, and what they may cost.

    Parameters
    ----------
    trials : int or None, default=None
        Trials of a run; None takes :data:`millrace.training.search_plan.DEFAULT_TRIALS`.
    max_concurrency : int or None, default=None
        Workers at once; None takes what the stack was deployed with.
    max_seconds : float or None, default=None
        Time budget: no trial is started later than this after planning.
    max_cost_usd : float or None, default=None
        Cost budget: no trial is started when those that have ended cost this much by Lambda's list price.
    rounds : int or None, default=None
        Rounds of successive halving; None takes one, two or three by the number of rows.
    folds : int or None, default=None
        Cross-validation folds that rank trials, 1 for the validation split alone; None takes folds where rows are few.
    max_rows : int or None, default=None
        Rows to train on at most; more are sampled, and every record says so.
    parameters : dict of str to dict of str to ParameterRange, default={}
        What is tried instead of the search space's own ranges, by candidate and parameter.
    """

    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    max_seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    max_cost_usd: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] | None = None
    max_rows: Annotated[int, Field(ge=10)] | None = None
    parameters: dict[str, dict[str, ParameterRange]] = Field(default_factory=dict)


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


class GateSpec(SpecPart):
    """What a challenger must show before it may serve.

    Parameters
    ----------
    floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses), by the metric's name.
    confidence : float, default=0.95
        Of the paired bootstrap interval that compares challenger and champion.
    champion_rule : {'not_worse', 'better'}, default='not_worse'
        What replaces a champion: a challenger that is not clearly worse, or only one that is clearly better.
    max_model_bytes : int, default=100_000_000
        Largest ONNX file that may serve.
    slice_floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses) on every slice that ``evaluation.slices`` declares.
    max_row_milliseconds : float or None, default=100.0
        What scoring one row may take at the 95th percentile; None for no limit.
    max_batch_milliseconds : float or None, default=5_000.0
        What scoring 1,000 rows at once may take at the 95th percentile; None for no limit.
    """

    floors: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    champion_rule: Literal["not_worse", "better"] = "not_worse"
    max_model_bytes: int = Field(default=100_000_000, gt=0)
    slice_floors: dict[str, float] = Field(default_factory=dict)
    max_row_milliseconds: float | None = Field(default=100.0, gt=0.0)
    max_batch_milliseconds: float | None = Field(default=5_000.0, gt=0.0)
