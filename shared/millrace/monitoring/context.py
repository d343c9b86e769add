"""Context of a monitoring run: the monitored version and everything that its stages read."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from millrace.conformal import ConformalCalibration
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.histograms.outcomes import PredictionProfile
from millrace.histograms.predictions import AnyPredictions, Traffic
from millrace.histograms.tables import Reference, ReferenceDocument
from millrace.layout import version_key
from millrace.monitoring.quality import measure_outcomes
from millrace.monitoring.seasonality import DailyRange, SeasonalBaselines
from millrace.ports import ObjectStore
from millrace.schema import TableSchema, Task
from millrace.spec import ModelSpec

_SIGNATURE_NAME = "signature.json"
_REFERENCE_NAME = "reference.json"
_PROFILE_NAME = "prediction_profile.json"


@dataclass(frozen=True, slots=True)
class MonitoredVersion:
    """Training data and holdout predictions of the version that serves.

    Regression has no classes; ``profile`` is None when the holdout's predictions were not kept. ``hides_values``
    where the target is sensitive: classes are numbered then, and predicted values are neither named nor drawn.
    ``calibration`` is that of the intervals, None for a version without.
    """

    task: Task
    classes: tuple[str, ...]
    reference: Reference
    profile: PredictionProfile | None = None
    primary_metric: str | None = None
    hides_values: bool = False
    calibration: ConformalCalibration | None = None

    @property
    def training(self) -> Traffic:
        """Features in training, and predictions on the holdout where these were kept."""
        return Traffic(features=self.reference.training, predictions=self.profile.predictions if self.profile else None)

    @property
    def holdout_metrics(self) -> dict[str, float]:
        """Metrics of the predictions on the holdout; none where these were not kept."""
        measured = measure_outcomes(self.profile.outcomes) if self.profile else {}
        return {name: one.value for name, one in measured.items()}


@dataclass(frozen=True, slots=True)
class Baselines:
    """Earlier traffic that a window is compared with."""

    previous: Traffic | None = None  # Of the last quiet window
    seasonal: SeasonalBaselines | None = None
    #: Of the version before; for the time without seasons.
    daily_ranges: Mapping[str, DailyRange] = field(default_factory=dict)
    now: datetime | None = None  # End of the window; None ignores the daily ranges
    skewed: Collection[str] = ()  # Features that have differed from training since the version's first window
    first: bool = False
    #: Of the version's first window, for versions without a profile of the holdout.
    predictions: AnyPredictions | None = None


@dataclass(frozen=True, slots=True)
class MonitorContext:
    """Inputs of every stage of a monitoring run.

    ``monitored`` is None when there is nothing to compare with; ``obstacle`` is the reason. ``token`` is unique to the
    run, and part of the names that it writes.
    """

    model: str
    spec: ModelSpec
    version: int
    schema: TableSchema
    monitored: MonitoredVersion | None
    obstacle: str
    store: ObjectStore
    now: datetime
    token: str


def load_context(
    model: str,
    version: int,
    spec: ModelSpec,
    *,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
    token: str,
) -> MonitorContext:
    """Load the baseline of a version.

    A missing or unreadable reference is no error: rows are counted, outcomes are kept, and the report names the
    obstacle.

    Raises
    ------
    ArtifactNotFoundError
        When the version has no signature: then none of its rows can be read.
    """
    signature = json.loads(model_store.get(version_key(model, version, _SIGNATURE_NAME)))
    schema = TableSchema.from_dict(signature["schema"])
    monitored, obstacle = None, ""
    try:
        document = ReferenceDocument.read(model_store.get(version_key(model, version, _REFERENCE_NAME)))
        profile = _load_profile(model, version, model_store)
        reference = Reference.build(document, schema)
        is_hidden = schema.target.sensitive
        monitored = MonitoredVersion(
            schema.task,
            schema.class_names,
            reference,
            profile,
            spec.primary_metric,
            hides_values=is_hidden,
            calibration=_read_calibration(signature.get("confidence")),
        )
    except ArtifactNotFoundError:
        obstacle = f"version {version} has no {_REFERENCE_NAME} to compare with"
    except (ArtifactIntegrityError, ValueError) as error:
        obstacle = f"the {_REFERENCE_NAME} of version {version} cannot be read: {error}"
    return MonitorContext(model, spec, version, schema, monitored, obstacle, data_store, now, token)


def _read_calibration(document: Any) -> ConformalCalibration | None:
    try:
        return None if document is None else ConformalCalibration.from_document(document)
    except (ValueError, KeyError, TypeError):  # of a later release, which serving does not read either
        return None


def _load_profile(model: str, version: int, model_store: ObjectStore) -> PredictionProfile | None:
    try:
        return PredictionProfile.read(model_store.get(version_key(model, version, _PROFILE_NAME)))
    except (ArtifactNotFoundError, ArtifactIntegrityError):
        return None
