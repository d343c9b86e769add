"""What a window is judged against: the version it is judged for, and what came before it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from millrace.monitoring.seasons import Seasons, Usual
from millrace.monitoring.traffic import Traffic
from millrace.schema import Task
from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.profile import PredictionProfile
from millrace.sketches.reference import Reference
from millrace.sketches.tables import ColumnSketch


@dataclass(frozen=True, slots=True)
class Subject:
    """The version that a window is judged for, and what is known of it.

    Parameters
    ----------
    task : Task
        Of the model.
    classes : tuple of str
        Of the model; empty for regression.
    reference : Reference
        Its training data.
    profile : PredictionProfile or None
        How it answered its holdout; None when that was not kept.
    primary_metric : str or None, default=None
        The spec's.
    """

    task: Task
    classes: tuple[str, ...]
    reference: Reference
    profile: PredictionProfile | None = None
    primary_metric: str | None = None


@dataclass(frozen=True, slots=True)
class Background:
    """What else a window is compared with.

    Parameters
    ----------
    previous : Traffic or None, default=None
        The last window in which nothing was out of the ordinary.
    seasons : Seasons or None, default=None
        The same hours of earlier days and weeks, once there are any; looked at only when it matters.
    usual : mapping of str to Usual, default={}
        By how much subjects varied within a day under the version before; for the time without seasons.
    now : datetime or None, default=None
        When the window ended; what was usual long before counts no more. None takes nothing as usual.
    skewed : collection of str, default=()
        Features that were out of the ordinary in the version's first window and ever since.
    first : bool, default=False
        Whether this is the version's first window.
    answers : AnswerSketch or ColumnSketch or None, default=None
        What answers are compared with where the holdout's were not kept: those of the version's first window.
    """

    previous: Traffic | None = None
    seasons: Seasons | None = None
    usual: Mapping[str, Usual] = field(default_factory=dict)
    now: datetime | None = None
    skewed: Collection[str] = ()
    first: bool = False
    answers: AnswerSketch | ColumnSketch | None = None
