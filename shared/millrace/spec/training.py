"""How much is tried, and what it may cost."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from millrace.spec.part import SpecPart

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
