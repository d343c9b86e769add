"""Payloads between the states of the pipelines: pointers and verdicts, never data.

Each class is one function's input or output. A state machine payload may hold 256 KB, past which an execution
fails in a way nothing can catch; so tables, models and metrics stay in the buckets and the registry.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from millrace.names import JOB_ID_PATTERN, MODEL_NAME_PATTERN, REPLAY_ID_PATTERN
from millrace.spec import invalid_input


class Contract(BaseModel):
    """Base of every payload; unknown fields are ignored, so that a state may pass more than one needs."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def parse(cls, event: Mapping[str, Any]) -> Self:
        """Parse an event.

        Raises ``InvalidInputError``, which names every bad field.
        """
        try:
            return cls.model_validate(dict(event))
        except ValidationError as error:
            raise invalid_input(f"this is no {cls.__name__}", error) from error


class RunPointer(Contract):
    """Pointer to a run; input of ``validate_dataset`` and ``register_model``."""

    model: str = Field(pattern=MODEL_NAME_PATTERN)
    run_id: str


class ValidationVerdict(Contract):
    """Output of ``validate_dataset``; ``unchanged`` when a version has learned from the same data already."""

    outcome: Literal["accepted", "rejected", "unchanged"]
    dataset_ids: list[str] = []
    rows: int = 0
    reasons: list[str] = []


class LoggedFile(Contract):
    """A file of a model that a user logged with MLflow: its name in the model's folder, and where to read it."""

    name: str
    size: int = Field(ge=0)
    url: str


class LoggedModelCheck(Contract):
    """Input of ``check_logged_model``, which has no rights: presigned addresses of all that it reads and writes."""

    files: list[LoggedFile]
    more_files: int = Field(default=0, ge=0)  # than those, which are as many as are taken
    schema_url: str
    target_url: str  # of the wrapped model


class CheckedModel(Contract):
    """Output of ``check_logged_model``: the wrapped model and its parity, or the reason why it is refused.

    ``sha256`` and ``size`` are those of the wrapped model, ``source_sha256`` of the ONNX file as it was logged;
    ``columns`` those that it takes.
    """

    outcome: Literal["accepted", "refused"]
    reason: str = ""
    sha256: str = ""
    source_sha256: str = ""
    size: int = 0
    columns: list[str] = []
    max_difference: float = 0.0
    rows: int = 0
    example_rows: int = 0


class TrialPointer(RunPointer):
    """Pointer to a trial in a round of successive halving; input of ``train_candidate``.

    The one trial of a logged model is ``logged``: its ``check`` comes first, and the trial records what was
    ``checked``.
    """

    trial_id: str
    round: int = Field(default=1, ge=1)
    kind: Literal["trained", "logged"] = "trained"
    check: LoggedModelCheck | None = None
    checked: CheckedModel | None = None


class TrialOutcome(Contract):
    """Output of ``train_candidate``, or ``crashed`` of the state that catches a worker that died or timed out."""

    trial_id: str
    outcome: Literal["succeeded", "failed", "skipped", "crashed"]
    reason: str = ""


def _flatten(outcomes: Any) -> Any:
    """Take the outcomes of every lane together."""
    if not isinstance(outcomes, list):
        return outcomes
    return [outcome for part in outcomes for outcome in (part if isinstance(part, list) else [part])]


class PlanningRequest(RunPointer):
    """Input of ``plan_training``; after a round, with that round's number and outcomes."""

    finished_round: int = Field(default=0, ge=0)
    trials: list[TrialOutcome] = []

    _flat = field_validator("trials", mode="before")(_flatten)


class Lane(Contract):
    """Trials that one worker runs, one after another."""

    trials: list[TrialPointer]


class TrainingPlan(Contract):
    """Output of ``plan_training``: the Map state runs one worker a lane."""

    round: int
    last_round: bool
    lanes: list[Lane]

    @property
    def trials(self) -> list[TrialPointer]:
        """Every trial of the round, by id."""
        return sorted((trial for lane in self.lanes for trial in lane.trials), key=lambda trial: trial.trial_id)


class EvaluationRequest(RunPointer):
    """Input of ``evaluate_candidates``."""

    trials: list[TrialOutcome]

    _flat = field_validator("trials", mode="before")(_flatten)


class EvaluationVerdict(Contract):
    """Output of ``evaluate_candidates``.

    ``promote`` replaces the champion, ``keep`` registers a challenger, ``reject`` registers nothing.
    """

    decision: Literal["promote", "keep", "reject"]
    trial_id: str | None = None
    reasons: list[str] = []


class RegisteredVersion(Contract):
    """Output of ``register_model``.

    ``awaiting_approval``: a person has ``approval_seconds`` to approve it; until then it is the challenger.
    """

    version: int
    outcome: Literal["promoted", "kept", "awaiting_approval"]
    approval_seconds: int = 0


class ApprovalPointer(RunPointer):
    """Input of ``request_approval``: with a token, request an approval; without, its time is up."""

    task_token: str | None = Field(default=None, min_length=1)
    approval_seconds: int = Field(default=0, ge=0)


class ApprovalState(Contract):
    """Output of ``request_approval``."""

    status: Literal["pending", "approved", "rejected", "expired"]


class MonitoringRequest(Contract):
    """Input of ``monitor_model``."""

    model: str = Field(pattern=MODEL_NAME_PATTERN)
    round: int = Field(default=0, ge=0)  # runs of this execution before, each of which left more to read


class JobPointer(Contract):
    """Pointer to a batch job; input of ``plan_scoring``."""

    model: str = Field(pattern=MODEL_NAME_PATTERN)
    job_id: str = Field(pattern=JOB_ID_PATTERN)
    execution: str = ""  # the name of the execution; what an earlier one of the job still does changes nothing


class ScoringPlan(Contract):
    """Output of ``plan_scoring``: the list of lanes; ``ended`` when the job was cancelled meanwhile.

    ``planning`` when another call has to go on.
    """

    outcome: Literal["planned", "planning", "refused", "ended"]
    bucket: str = ""
    key: str = ""


class PlannedPart(Contract):
    """A part of a batch job: its line in the list of parts, in bytes."""

    part: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)


class PartRequest(JobPointer):
    """Input of ``score_part``."""

    part: PlannedPart


class FinishRequest(JobPointer):
    """Input of ``finish_scoring``; with the name of the error where the execution could not go on."""

    error: str | None = None


class ScoringResult(Contract):
    """Output of ``finish_scoring``."""

    outcome: Literal["succeeded", "failed"]


class ReleaseRequest(Contract):
    """Input of ``evaluate_release``: a model that may have a release."""

    model: str = Field(pattern=MODEL_NAME_PATTERN)


class ReplayPointer(Contract):
    """Input of ``replay_captures``: a replay, by its own id or that of a release."""

    model: str = Field(pattern=MODEL_NAME_PATTERN)
    replay_id: str = Field(pattern=REPLAY_ID_PATTERN)


class RetrainingProgress(Contract):
    """Progress of the retraining of every model; input and output of a round of ``request_training``."""

    after: str | None = None  # the last model that was requested
    is_listed: bool = False  # every model was requested once
    again: tuple[str, ...] = ()  # models whose request failed; it is repeated in the end
    failed: tuple[str, ...] = ()  # models whose request failed again
    running: tuple[RunPointer, ...] = ()  # runs that hold a place
    rounds: int = 0
    pause_seconds: int = 1

    @property
    def has_more(self) -> bool:
        """True while there are models to request."""
        return not self.is_listed or bool(self.again)


class MonitoringVerdict(Contract):
    """Output of ``monitor_model``; ``more`` lets the pipeline call it again."""

    model: str
    round: int = 1
    outcome: Literal["more", "judged", "nothing_new", "not_serving", "disabled", "superseded", "deleted"]
    version: int | None = None
    rows: int = 0
    outcomes: int = 0
    windows: int = 0
    breaches: int = 0
    open_incidents: int = 0
    delivered: int = 0
    report: str = ""
    next_check_at: datetime | None = None
    own_schedule: bool = False
