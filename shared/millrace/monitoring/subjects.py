"""The version that is watched, as its own artifacts describe it."""

import json
from dataclasses import dataclass

from millrace.errors import ArtifactNotFoundError
from millrace.layout import version_key
from millrace.monitoring.background import Subject
from millrace.ports import ObjectStore
from millrace.schema import TableSchema
from millrace.sketches.profile import PredictionProfile
from millrace.sketches.reference import Reference
from millrace.spec import ModelSpec

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
