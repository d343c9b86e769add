"""When a model is trained again without anybody asking."""

from typing import Literal

from pydantic import Field

from millrace.spec.part import SpecPart
from millrace.spec.schedule import ScheduleExpression, TimeZone

AutomaticCause = Literal["schedule", "drift", "quality", "staleness", "latency"]


class RetrainingSpec(SpecPart):
    """When a model is trained again, beside uploads and people's requests, which are always followed.

    Parameters
    ----------
    causes : tuple of str, default=('schedule', 'drift', 'quality', 'staleness')
        What may start a run. Slow answers (``latency``) are left out: training again rarely makes a model faster,
        so somebody should look first.
    schedule : str or None, default=None
        Of EventBridge Scheduler, for this model alone; None leaves it to the stack's own schedule.
    time_zone : str, default='UTC'
        In which the schedule's cron or at expression is meant.
    cooldown_hours : float, default=24
        After a run was asked for, what monitoring finds starts no other for so long: its data would be the same.
    runs_per_day : int, default=4
        Runs of the last 24 hours, whatever their cause, past which no automatic cause starts another.
    captured_rows : bool, default=False
        Train also on served rows whose outcomes have come back.
    captured_days : int, default=30
        How far back those rows are looked for.
    """

    causes: tuple[AutomaticCause, ...] = ("schedule", "drift", "quality", "staleness")
    schedule: ScheduleExpression | None = None
    time_zone: TimeZone = "UTC"
    cooldown_hours: float = Field(default=24.0, ge=0.0, le=8_760.0)
    runs_per_day: int = Field(default=4, ge=0, le=1_000)
    captured_rows: bool = False
    captured_days: int = Field(default=30, ge=1, le=366)
