"""The two versions of a replay, loaded with every byte checked, and what stands in the way of a comparison."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import orjson

from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, MillraceError
from millrace.layout import version_key
from millrace.manifest import SIGNATURE
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import Column, TableSchema
from millrace.serving.model import LoadedModel, load_version

Floats = npt.NDArray[np.float64]


class _StoredVersions:
    """Versions in the registry and the bucket, as :func:`millrace.serving.model.load_version` reads them."""

    def __init__(self, registry: Registry, model_store: ObjectStore) -> None:
        self._registry = registry
        self._model_store = model_store

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the SHA-256 of a version's manifest, retired or not; raises ``VersionNotFoundError``."""
        return self._registry.get_version(model, version).manifest_sha256

    def artifact(self, model: str, version: int, name: str) -> bytes:
        """Return an artifact; raises ``ArtifactNotFoundError``."""
        return self._model_store.get(version_key(model, version, name))


@dataclass(frozen=True, slots=True)
class ReplayedVersions:
    """Champion and candidate."""

    baseline: LoadedModel
    candidate: LoadedModel


def load_versions(
    model: str, baseline: int, candidate: int, registry: Registry, model_store: ObjectStore
) -> ReplayedVersions | str:
    """Load both versions, or return the reason for which they cannot be compared."""
    source, loaded = _StoredVersions(registry, model_store), []
    for version in (baseline, candidate):
        try:
            loaded.append(load_version(source, model, version))  # type: ignore[arg-type]  # it reads artifacts alone
        except ArtifactNotFoundError:
            return f"an artifact of version {version} is no longer stored: it was collected, train it again"
        except ArtifactIntegrityError as error:
            return f"version {version} is damaged: {error.message}"
        except MillraceError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's own, of a model that it cannot run
            return f"version {version} cannot be loaded: {type(error).__name__}"
    versions = ReplayedVersions(*loaded)
    return find_obstacle(versions.baseline.schema, versions.candidate.schema) or versions


def find_obstacle(baseline: TableSchema, candidate: TableSchema) -> str:
    """Return the reason for which no captured row can be compared; empty when there is none."""
    for name, schema in (("the champion", baseline), ("the candidate", candidate)):
        hidden = [column.name for column in schema.features if column.sensitive]
        if hidden:
            columns = ", ".join(hidden)
            return (
                f"{name} takes sensitive features ({columns}), which captures never hold: such a model cannot be "
                "replayed. Release it as a canary instead"
            )
    if baseline.task != candidate.task:
        return f"the champion's task is {baseline.task}, the candidate's {candidate.task}"
    if baseline.target.name != candidate.target.name:
        return f"the champion predicts {baseline.target.name!r}, the candidate {candidate.target.name!r}"
    if baseline.classes != candidate.classes:
        return f"the champion's {len(baseline.classes)} classes are not the candidate's {len(candidate.classes)}"
    return ""


class KnownSchemas:
    """Schemas of the versions that scored captured rows, each read once."""

    def __init__(self, model: str, model_store: ObjectStore, known: Mapping[int, TableSchema]) -> None:
        self._model = model
        self._model_store = model_store
        self._known: dict[int, TableSchema | None] = dict(known)

    def find(self, version: int) -> TableSchema | None:
        """Return a version's schema; None when its signature is gone or cannot be read."""
        if version not in self._known:
            try:
                body = self._model_store.get(version_key(self._model, version, SIGNATURE))
                self._known[version] = TableSchema.from_dict(orjson.loads(body)["schema"])
            except (ArtifactNotFoundError, ValueError, KeyError, TypeError):
                self._known[version] = None
        return self._known[version]


#: Types of which a captured value of one is a value of the other.
_ALIKE = ({"integer", "number"}, {"category", "text"})


def find_missing_column(captured: TableSchema | None, wanted: TableSchema) -> str:
    """Return why rows captured under one schema lack what another takes; empty when they have all of it."""
    if captured is None:
        return "the signature of the version that scored them cannot be read"
    known = {column.name: column for column in captured.features}
    for column in wanted.features:
        if column.name not in known:
            return f"captures do not hold the column {column.name!r}: the version that scored them does not take it"
        if known[column.name].sensitive:
            return f"captures do not hold the column {column.name!r}: it is sensitive"
        if not _is_alike(known[column.name], column):
            was = known[column.name].type
            return f"the column {column.name!r} was captured as {was}, and the version takes {column.type}"
    return ""


def _is_alike(first: Column, second: Column) -> bool:
    return first.type == second.type or any({first.type, second.type} <= kinds for kinds in _ALIKE)
