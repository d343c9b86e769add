"""Who lets a version serve, and how long what nobody needs is kept."""

from math import ceil
from typing import Any, Literal

from pydantic import Field, model_validator

from millrace.spec.part import SpecPart

_SECONDS_AN_HOUR = 3_600
#: The pipeline's own time limit allows for it (``statemachines/training.asl.json``).
MAX_APPROVAL_HOURS = 336


class ApprovalSpec(SpecPart):
    """Who lets a version that passed the gate serve; ``approval: manual`` is short for the mode alone.

    Parameters
    ----------
    mode : {'auto', 'manual'}, default='auto'
        The gate alone, or a person after it.
    expires_after_hours : float, default=72
        How long a person has; then the version is kept as challenger.
    """

    mode: Literal["auto", "manual"] = "auto"
    expires_after_hours: float = Field(default=72, gt=0, le=MAX_APPROVAL_HOURS)

    @model_validator(mode="before")
    @classmethod
    def _read_mode(cls, value: Any) -> Any:
        return {"mode": value} if isinstance(value, str) else value

    @property
    def expires_after_seconds(self) -> int:
        """Whole seconds, as Step Functions counts."""
        return ceil(self.expires_after_hours * _SECONDS_AN_HOUR)


class RetentionSpec(SpecPart):
    """How long garbage collection leaves alone what nothing refers to.

    Parameters
    ----------
    retired_days : int, default=30
        Artifacts of a version, since it was retired or an alias last moved from or to it.
    run_days : int, default=90
        Artifacts of a run's trials, since it ended.
    """

    retired_days: int = Field(default=30, ge=1)
    run_days: int = Field(default=90, ge=1)
