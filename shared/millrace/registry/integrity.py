"""Whether a version can serve: of the model that is there, not retired, and stored as it was registered."""

import hashlib
import json

from millrace.errors import ArtifactNotFoundError, UnfitVersionError
from millrace.layout import version_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import ModelVersion
from millrace.registry.living import deleted, end_of

#: What serving loads; the rest is for people.
_SERVED = ("signature.json", "model.onnx")


def find_fit_version(model: str, number: int, registry: Registry, model_store: ObjectStore) -> ModelVersion:
    """Return a version that may serve.

    Raises
    ------
    VersionNotFoundError
        When there is none of that number.
    UnfitVersionError
        When it is retired or of a model that was deleted, or an artifact is missing or not the one that was registered.
    """
    version = registry.get_version(model, number)
    if version.status == "retired":
        raise UnfitVersionError(f"version {number} of {model!r} is retired")
    if ended := end_of(registry.get_state(model), version.created_at):
        # Its deletion may not have come to retire it yet.
        raise UnfitVersionError(f"version {number} is of the {model!r} that {deleted(ended)}")
    try:
        manifest = model_store.get(version_key(model, number, "manifest.json"))
        _verify(manifest, version.manifest_sha256, "manifest.json", version)
        artifacts = json.loads(manifest)["artifacts"]
        for name in _SERVED:
            _verify(model_store.get(version_key(model, number, name)), artifacts[name]["sha256"], name, version)
    except ArtifactNotFoundError as error:
        raise UnfitVersionError(f"version {number} of {model!r} is not whole: {error.message}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnfitVersionError(f"the manifest of version {number} of {model!r} cannot be read") from error
    return version


def _verify(body: bytes, expected: str, name: str, version: ModelVersion) -> None:
    if hashlib.sha256(body).hexdigest() != expected:
        raise UnfitVersionError(f"{name} of version {version.version} of {version.model!r} is not what was registered")
