"""What a window is judged against: the version it is judged for, and what came before it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from millrace.errors import ArtifactNotFoundError
from millrace.histograms.outcomes import PredictionProfile
from millrace.histograms.predictions import AnswerSketch, Traffic
from millrace.histograms.tables import ColumnSketch, Reference
from millrace.layout import version_key
from millrace.monitoring.seasons import Seasons, Usual
from millrace.ports import ObjectStore
from millrace.schema import TableSchema, Task
from millrace.spec import ModelSpec


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


REFERENCE_NAME = "reference.json"
SIGNATURE_NAME = "signature.json"
PROFILE_NAME = "prediction_profile.json"


@dataclass(frozen=True, slots=True)
class WatchedVersion:
    """A version, and what is known of it.

    Parameters
    ----------
    schema : TableSchema
        From its signature.
    subject : Subject or None
        None when it has no reference to compare with.
    obstacle : str
        Why not.
    """

    version: int
    schema: TableSchema
    subject: Subject | None
    obstacle: str = ""


def load_watched(model: str, version: int, spec: ModelSpec, model_store: ObjectStore) -> WatchedVersion:
    """Load what a version is compared with.

    A reference that is missing or cannot be read is an obstacle to its verdicts and no fault: its rows are counted and
    its outcomes kept, and the report says what is missing.

    Raises
    ------
    ArtifactNotFoundError
        When the version has no signature: then nothing can be read of its rows.
    """
    schema = TableSchema.from_dict(json.loads(model_store.get(version_key(model, version, SIGNATURE_NAME)))["schema"])
    try:
        document = json.loads(model_store.get(version_key(model, version, REFERENCE_NAME)))
        reference = Reference.read(document, schema)
    except ArtifactNotFoundError:
        return WatchedVersion(version, schema, None, f"version {version} has no {REFERENCE_NAME} to compare with")
    except (ValueError, KeyError, TypeError) as error:
        return WatchedVersion(version, schema, None, f"version {version}'s {REFERENCE_NAME} cannot be read: {error!r}")
    profile = _load_profile(model, version, model_store)
    subject = Subject(schema.task, schema.classes, reference, profile, spec.primary_metric)
    return WatchedVersion(version, schema, subject)


def _load_profile(model: str, version: int, model_store: ObjectStore) -> PredictionProfile | None:
    try:
        return PredictionProfile.from_dict(json.loads(model_store.get(version_key(model, version, PROFILE_NAME))))
    except (ArtifactNotFoundError, ValueError, KeyError):
        return None
