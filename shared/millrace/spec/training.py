"""Spec of a search, of the evaluation and of the promotion gate."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from millrace.spec.data import FileValue, Number, check_not_empty
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


class ParameterRange(SpecPart):
    """Values of one parameter (one value fixes it), or a range with both ends, inside the search space's own."""

    values: Annotated[tuple[ParameterValue, ...], AfterValidator(check_not_empty)] | None = None
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
    """Trials, concurrency and budget of a search."""

    #: None takes :data:`millrace.training.search_plan.DEFAULT_TRIALS`.
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    #: Workers at once; None takes the stack's parameter.
    max_concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] | None = None
    #: No trial starts later than this after planning.
    max_seconds: Annotated[float, Field(gt=0.0)] | None = None
    #: No trial starts when those that have ended cost this much by Lambda's list price.
    max_cost_usd: Annotated[float, Field(gt=0.0)] | None = None
    #: Rounds of successive halving; None takes one, two or three by the number of rows.
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | None = None
    #: Folds that rank trials, 1 for the validation split alone; None takes folds where rows are few.
    folds: Annotated[int, Field(ge=1, le=MAX_FOLDS)] | None = None
    #: Most training rows; more are sampled, and every record says so.
    max_rows: Annotated[int, Field(ge=10)] | None = None
    #: Whether probabilities are calibrated where cross-validation shows that it pays.
    calibrate: Literal["auto", "never"] = "auto"
    #: Whether the winner is fitted again, on training and validation rows.
    refit: Literal["auto", "never"] = "auto"
    #: Whether the refit averages the best few trials where rows outside the fits show that it pays.
    ensemble: Literal["auto", "never"] = "auto"
    #: Ranges that override the search space's own, by candidate and parameter.
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
    """Part of the rows that is evaluated on its own: ``by`` columns, or ``where`` all conditions hold."""

    #: One column, or two: each of their values (or pairs of values) is a slice; numbers are cut at their quartiles.
    by: Annotated[tuple[str, ...], Field(max_length=2)] = ()
    #: By column: one value, a list of values, or ``{minimum: ..., maximum: ...}``.
    where: Annotated[dict[str, ConditionSpec], Field(max_length=10)] = Field(default_factory=dict)
    #: Name of the slice of ``where``; by default its conditions.
    name: Annotated[str, Field(max_length=100)] = ""
    #: Least value of a metric on each of these slices (greatest, for errors and losses), beside ``gate.slice_floors``.
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

    false_positive: Annotated[float, Field(gt=0.0)] = 1.0
    false_negative: Annotated[float, Field(gt=0.0)] = 1.0


class EvaluationSpec(SpecPart):
    """Evaluation of a model on its holdout."""

    #: Of a binary task: with costs a threshold is chosen on the validation split; without, the likelier class wins.
    costs: CostSpec | None = None
    slices: Annotated[tuple[SliceSpec, ...], Field(max_length=MAX_SLICES)] = ()
    #: Fewest holdout rows of a slice or a group that is evaluated.
    min_slice_rows: Annotated[int, Field(ge=10)] = 30
    #: Whether the winner is fitted again on shares of the rows, where that is quick.
    learning_curve: bool = True
    #: Time budget; features that do not fit in are named.
    importance_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0
    learning_curve_seconds: Annotated[float, Field(ge=0.0, le=300.0)] = 60.0


class GateSpec(SpecPart):
    """Requirements of the promotion gate."""

    #: Least value of a metric (greatest, for errors and losses), by the metric's name.
    floors: dict[str, float] = Field(default_factory=dict)
    #: Of the paired bootstrap interval that compares challenger and champion.
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    #: A challenger replaces the champion when it is clearly better; with ``not_worse`` also when it is as good, and
    #: there is a reason to replace the champion.
    champion_rule: Literal["not_worse", "better"] = "not_worse"
    #: Most that all replacements together may lose against the best champion so far: of a score, in its own unit.
    margin: float = Field(default=0.02, ge=0.0, le=1.0)
    #: As ``margin``, of an error or a loss, as a share of the best champion's.
    relative_margin: float = Field(default=0.05, ge=0.0, le=1.0)
    #: Data that is so much newer than the champion is a reason to replace it with a model that is as good.
    refresh_days: float = Field(default=30.0, ge=0.0, le=36_500.0)
    #: What to do about features that give the target away, and about a nearly perfect holdout.
    leakage: Literal["warn", "refuse"] = "warn"
    max_model_bytes: int = Field(default=100_000_000, gt=0)
    #: As ``floors``, on every slice that ``evaluation.slices`` declares.
    slice_floors: dict[str, float] = Field(default_factory=dict)
    #: Limits of the 95th percentile of scoring one row and 1,000 rows; None for no limit.
    max_row_milliseconds: float | None = Field(default=100.0, gt=0.0)
    max_batch_milliseconds: float | None = Field(default=5_000.0, gt=0.0)
