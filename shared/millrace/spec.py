"""What a user may configure about a model, with defaults that need no configuration at all."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task


class GateSpec(BaseModel):
    """What a challenger must show before it may serve.

    Parameters
    ----------
    floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses), by the metric's name.
    confidence : float, default=0.95
        Of the paired bootstrap interval that compares challenger and champion.
    max_model_bytes : int, default=100_000_000
        Largest ONNX file that may serve.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    floors: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    max_model_bytes: int = Field(default=100_000_000, gt=0)


class ModelSpec(BaseModel):
    """Everything that can be said about a model; every field has a default.

    Parameters
    ----------
    target : str or None, default=None
        The column to predict; None takes the column named ``target``, ``label``, ``y`` or ``class``.
    task : Task or None, default=None
        None infers it from the target.
    combine : {'all', 'latest'}, default='all'
        Train on every accepted dataset of the window, or on the newest only.
    window_days : int or None, default=None
        Datasets older than this are left out; None takes all.
    max_quarantined_share : float, default=0.2
        Share of rows that may be malformed before the whole dataset is rejected.
    candidates : tuple of str or None, default=None
        Names of the candidates to train; None takes all that suit the task.
    primary_metric : str or None, default=None
        The metric that ranks candidates; None takes the task's own.
    seed : int, default=0
        Of every random choice.
    gate : GateSpec
        What a challenger must show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str | None = None
    task: Task | None = None
    combine: Literal["all", "latest"] = "all"
    window_days: int | None = Field(default=None, gt=0)
    max_quarantined_share: float = Field(default=0.2, ge=0.0, le=1.0)
    candidates: tuple[str, ...] | None = None
    primary_metric: str | None = None
    seed: int = Field(default=0, ge=0)
    gate: GateSpec = GateSpec()

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """Read a spec.

        Raises
        ------
        InvalidInputError
            Names every bad field.
        """
        try:
            return cls.model_validate(dict(document))
        except ValidationError as error:
            raise invalid_input("the model spec is not valid", error) from error


def invalid_input(message: str, error: ValidationError) -> InvalidInputError:
    """Turn pydantic's error into ours: every bad field by its path, without the values."""
    faults = [FieldError(".".join(str(part) for part in fault["loc"]), fault["msg"]) for fault in error.errors()]
    return InvalidInputError(f"{message}: {', '.join(f'{f.field}: {f.message}' for f in faults)}", faults)
