"""Parts of a spec on approval, retraining, retention, captures and the model card."""

import re
from math import ceil
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from millrace.causes import AUTOMATIC_CAUSES, DEFAULT_CAUSES
from millrace.spec.data import MAX_DAYS, Prose
from millrace.spec.part import ScheduleExpression, SpecPart, TimeZone

_SECONDS_AN_HOUR = 3_600
#: The pipeline's own time limit allows for it (``statemachines/training.asl.json``).
MAX_APPROVAL_HOURS = 336


class ApprovalSpec(SpecPart):
    """Approval of a version that passed the gate: by the gate alone, or by a person after it.

    ``approval: manual`` is short for the mode alone. Without a decision by ``expires_after_hours``, the version is kept
    as challenger.
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
    """Time for which garbage collection keeps unreferenced artifacts.

    ``retired_days`` are those of a version, since it was retired or an alias last moved from or to it; ``run_days``
    those of a run's trials, since it ended.
    """

    retired_days: int = Field(default=30, ge=1, le=MAX_DAYS)
    run_days: int = Field(default=90, ge=1, le=MAX_DAYS)


def _check_cause(name: str) -> str:
    if name not in AUTOMATIC_CAUSES:
        raise ValueError(f"{name!r} is no cause of retraining: choose from {', '.join(AUTOMATIC_CAUSES)}")
    return name


_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9][A-Za-z0-9._=-]*)*\Z")
_MAX_FOLDER_LENGTH = 200


def check_folder(name: str) -> str:
    """Return the name of a folder without ``/`` at its end; raises ``ValueError`` for what is none."""
    folder = name.strip().removesuffix("/")
    if len(folder) > _MAX_FOLDER_LENGTH or not _FOLDER.match(folder):
        raise ValueError(
            f"{name[:40]!r} is no folder: write letters, digits, '.', '-', '_' or '=', with '/' between folders, such "
            "as nightly"
        )
    return folder


FolderName = Annotated[str, AfterValidator(check_folder)]


class RetrainingSpec(SpecPart):
    """Automatic retraining, beside uploads and people's requests, which always start a run."""

    #: The causes that may start a run; see :data:`millrace.causes.AUTOMATIC_CAUSES`.
    causes: tuple[Annotated[str, AfterValidator(_check_cause)], ...] = DEFAULT_CAUSES
    #: Of EventBridge Scheduler, for this model alone; None leaves it to the stack's own schedule.
    schedule: ScheduleExpression | None = None
    time_zone: TimeZone = "UTC"  # of the schedule's cron or at expression
    #: After a run was requested, findings of monitoring start no other for so long: its data would be the same.
    cooldown_hours: float = Field(default=24.0, ge=0.0, le=8_760.0)
    #: Runs of the last 24 hours, for any cause, past which no automatic cause starts another.
    runs_per_day: int = Field(default=4, ge=0, le=1_000)
    captured_rows: bool = False  # train also on served rows whose ground truth was reported
    captured_days: int = Field(default=30, ge=1, le=366)  # the age of the oldest of those rows


class ScoringSpec(SpecPart):
    """Batch scoring: what every job of the model has, unless its request says otherwise, and a schedule.

    ``source`` and ``destination`` are folders below ``score/<model>/`` and ``scored/<model>/``: with ``nightly``, the
    schedule scores the files of ``score/<model>/nightly/``.
    """

    #: Of EventBridge Scheduler; None scores uploads and requests alone.
    schedule: ScheduleExpression | None = None
    time_zone: TimeZone = "UTC"  # of the schedule's cron or at expression
    source: FolderName | None = None  # that the schedule scores
    destination: FolderName | None = None  # None writes to ``scored/<model>/<job>/``
    format: Literal["parquet", "csv"] = "parquet"
    join: bool = False  # the columns of the files are in the results too
    interval: float | None = Field(default=None, ge=0.5, le=0.99)  # level of intervals or prediction sets
    explain: bool = False  # by how much each feature moves a prediction; bounds the rows of a file
    capture: Literal["none", "batch"] = "none"  # ``batch``: monitoring compares the rows of jobs with training
    #: Share of the rows that may be refused before the job fails.
    max_refused_share: float = Field(default=0.1, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.schedule is not None and self.source is None:
            raise ValueError("a schedule needs a source: a folder below score/<model>/, such as nightly")
        return self


class BudgetSpec(SpecPart):
    """Budget of a model for a calendar month, in UTC; ``budget: 20`` is short for the amount alone.

    It is compared with what the use of the model costs by list prices: requests, monitoring, training and batch jobs.
    """

    usd_a_month: Annotated[float, Field(strict=True, gt=0.0, le=1_000_000.0)]
    #: Once it is spent, schedules and findings of monitoring start no run. Uploads and people's requests always do.
    hold_retraining: bool = False

    @model_validator(mode="before")
    @classmethod
    def _read_amount(cls, value: Any) -> Any:
        return value if isinstance(value, dict | BudgetSpec) else {"usd_a_month": value}


class FeedbackSpec(SpecPart):
    """Ground truth that counts.

    ``exclude_callers`` names the ARNs and ids of API keys, ``*`` standing for any characters, whose reports neither
    train nor measure the model; they stay stored, and count again once their caller is not excluded any more.
    """

    exclude_callers: tuple[str, ...] = Field(default=(), max_length=100)


class CaptureSpec(SpecPart):
    """Captured part of the predictions; it goes into each version's signature, and holds from the next version on.

    ``sampling_rate`` is the share of the requests, 0 captures nothing. Of a request with more than ``max_rows`` rows,
    those at equal distances are captured.
    """

    sampling_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    max_rows: int = Field(default=1_000, ge=1, le=100_000)


class CardSpec(SpecPart):
    """Sections of the model card that people write, in paragraphs of plain text.

    ``owner`` is responsible for the model, and ``contact`` the way to reach them; the others are sections of Mitchell
    et al., "Model Cards for Model Reporting", FAT* 2019.
    """

    owner: Prose = ""
    contact: Prose = ""
    intended_use: Prose = ""
    out_of_scope: Prose = ""
    limitations: Prose = ""
    ethical_considerations: Prose = ""
