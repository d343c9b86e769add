"""Registering a run's winner: artifacts, manifest, version, alias, in an order in which any step may be repeated.

The version number is noted on the run before anything is written, so a repeated registration writes to the same
place. The registry's record of the version comes last and holds the manifest's SHA-256: until it is there, nobody
reads what lies in the version's folder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from millrace.contracts import RegisteredVersion
from millrace.errors import (
    AliasConflictError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ConflictError,
    InvalidInputError,
    ServiceUnavailableError,
    VersionNotFoundError,
)
from millrace.layout import evaluation_key, prepared_key, trial_key, version_key
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.registry.documents import build_card, build_manifest, build_signature
from millrace.registry.entities import LedgerEntry, ModelVersion, Run, Trial
from millrace.registry.versioning import FIRST_VERSION, Recipe, next_semantic_version
from millrace.schema import TableSchema

MODEL = "model.onnx"
SIGNATURE = "signature.json"
MANIFEST = "manifest.json"
REFERENCE = "reference.json"
ACTOR = "register_model"

#: What is taken over from the winning trial, as it is.
_TRIAL_ARTIFACTS = (MODEL, "estimator.skops", "trial.json")
_ALIAS_BY_DECISION = {"promote": CHAMPION, "keep": CHALLENGER}
_CONTENT_TYPES = {".json": "application/json", ".md": "text/markdown; charset=utf-8"}
_MAX_ALIAS_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Winner:
    """What is about to be registered.

    Parameters
    ----------
    reference : bytes or None, default=None
        ``reference.json`` of the prepared data, for monitoring.
    """

    run: Run
    trial: Trial
    schema: TableSchema
    evaluation: Mapping[str, Any]
    reference: bytes | None = None

    @property
    def alias(self) -> str:
        """The alias that the gate's decision gives it."""
        return _ALIAS_BY_DECISION[self.evaluation["decision"]]


def register_run(
    run: Run, *, registry: Registry, model_store: ObjectStore, data_store: ObjectStore, now: datetime
) -> RegisteredVersion:
    """Make a run's winner a version of its model, and move the alias that the gate decided on.

    Raises
    ------
    InvalidInputError
        When the gate let nothing in.
    ArtifactNotFoundError
        When the evaluation, the schema or an artifact of the trial is missing.
    ArtifactIntegrityError
        When the stored model is not the one that the trial recorded and the gate measured.
    ServiceUnavailableError
        When the alias keeps being moved by others.
    """
    registry.update_run(run.model, run.run_id, stage="registering")
    winner = _read_winner(run, registry, model_store, data_store)
    number = _take_number(run, registry)
    version = _find_version(run, number, registry) or _write_version(winner, number, registry, model_store, now)
    _move_alias(winner, version, registry, now)
    promoted = winner.alias == CHAMPION
    registry.update_run(
        run.model,
        run.run_id,
        status="succeeded",
        stage="finished",
        finished_at=now,
        version=number,
        summary={
            **run.summary,
            "version": number,
            "semantic_version": version.semantic_version,
            "alias": winner.alias,
            "promoted": promoted,
        },
    )
    return RegisteredVersion(version=number, promoted=promoted)


def _read_winner(run: Run, registry: Registry, model_store: ObjectStore, data_store: ObjectStore) -> Winner:
    evaluation = json.loads(model_store.get(evaluation_key(run.model, run.run_id)))
    if evaluation["decision"] not in _ALIAS_BY_DECISION:
        raise InvalidInputError(f"run {run.run_id} has no winner to register: the gate's decision was to reject")
    schema = TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))
    trial = registry.get_trial(run.model, run.run_id, evaluation["trial_id"])
    return Winner(run, trial, schema, evaluation, _read_reference(run, data_store))


def _read_reference(run: Run, data_store: ObjectStore) -> bytes | None:
    """Return the statistics of the training split; data prepared by an older release has none."""
    try:
        return data_store.get(prepared_key(run.model, run.run_id, REFERENCE))
    except ArtifactNotFoundError:
        return None


def _take_number(run: Run, registry: Registry) -> int:
    if run.version is not None:
        return run.version
    number = registry.next_version(run.model)
    registry.update_run(run.model, run.run_id, version=number)
    return number


def _find_version(run: Run, number: int, registry: Registry) -> ModelVersion | None:
    try:
        version = registry.get_version(run.model, number)
    except VersionNotFoundError:
        return None
    if version.run_id != run.run_id:
        raise ConflictError(f"version {number} of {run.model!r} belongs to run {version.run_id}")
    return version


def _write_version(
    winner: Winner, number: int, registry: Registry, model_store: ObjectStore, now: datetime
) -> ModelVersion:
    """Write every artifact, then the manifest, then the registry's record."""
    run, trial = winner.run, winner.trial
    measured = (winner.evaluation.get("holdout") or {}).get("metrics") or {}
    version = ModelVersion(
        model=run.model,
        version=number,
        semantic_version=_semantic_version(winner, registry, model_store),
        run_id=run.run_id,
        trial_id=trial.trial_id,
        candidate=trial.candidate,
        task=winner.schema.task,
        metrics={name: metric["value"] for name, metric in measured.items() if metric["value"] is not None},
        dataset_ids=run.dataset_ids,
        schema_version=winner.schema.version,
        manifest_sha256="",
        created_at=now,
    )
    artifacts = _write_artifacts(winner, version, model_store)
    manifest = _dump(build_manifest(version, artifacts, winner.evaluation))
    model_store.put(version_key(run.model, number, MANIFEST), manifest, _content_type(MANIFEST))
    version = replace(version, manifest_sha256=hashlib.sha256(manifest).hexdigest())
    registry.put_version(version, _registered_entry(winner, version, now))
    return version


def _write_artifacts(winner: Winner, version: ModelVersion, model_store: ObjectStore) -> dict[str, bytes]:
    """Write all but the manifest, and return each as it is stored now.

    What the trial recorded a hash for must have it still: the gate measured those very bytes.
    """
    run, trial = winner.run, winner.trial
    for name in _TRIAL_ARTIFACTS:
        source = trial_key(run.model, run.run_id, trial.trial_id, name)
        model_store.copy(source, version_key(run.model, version.version, name))
    documents = {
        SIGNATURE: _dump(build_signature(winner.schema, winner.evaluation.get("threshold"))),
        "evaluation.json": _dump(winner.evaluation),
        "card.md": build_card(version, run, winner.schema, winner.evaluation).encode(),
    }
    if winner.reference is not None:
        documents[REFERENCE] = winner.reference
    for name, body in documents.items():
        model_store.put(version_key(run.model, version.version, name), body, _content_type(name))
    stored = {
        name: model_store.get(version_key(run.model, version.version, name)) for name in (*_TRIAL_ARTIFACTS, *documents)
    }
    recorded = trial.artifacts
    for name in {MODEL, *recorded} & stored.keys():
        if hashlib.sha256(stored[name]).hexdigest() != recorded.get(name):
            raise ArtifactIntegrityError(f"{name} of trial {trial.trial_id} is not what the trial recorded")
    return stored


def _semantic_version(winner: Winner, registry: Registry, model_store: ObjectStore) -> str:
    """Follow the newest version; the first is 1.0.0."""
    versions = registry.list_versions(winner.run.model)
    if not versions:
        return FIRST_VERSION
    newest = versions[0]
    signature = json.loads(model_store.get(version_key(newest.model, newest.version, SIGNATURE)))
    before = Recipe(TableSchema.from_dict(signature["schema"]), newest.candidate)
    return next_semantic_version(newest.semantic_version, before, Recipe(winner.schema, winner.trial.candidate))


def _registered_entry(winner: Winner, version: ModelVersion, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        model=version.model,
        entry_id=f"version-{version.version}-registered",
        occurred_at=now,
        actor=ACTOR,
        action="model_registered",
        reason=_reason(winner),
        details={
            "version": version.version,
            "semantic_version": version.semantic_version,
            "run_id": version.run_id,
            "trial_id": version.trial_id,
            "dataset_ids": list(version.dataset_ids),
            "manifest_sha256": version.manifest_sha256,
        },
    )


def _move_alias(winner: Winner, version: ModelVersion, registry: Registry, now: datetime) -> None:
    """Point the alias to the version; whoever moved another one meanwhile does not stop this."""
    for _ in range(_MAX_ALIAS_ATTEMPTS):
        state = registry.get_state(version.model)
        present = state.aliases.get(winner.alias)
        if present == version.version:
            return
        entry = LedgerEntry(
            model=version.model,
            entry_id=f"{winner.alias}-{state.revision + 1}",
            occurred_at=now,
            actor=ACTOR,
            action="alias_moved",
            reason=_reason(winner),
            details={"alias": winner.alias, "from_version": present, "to_version": version.version},
        )
        try:
            registry.move_alias(version.model, winner.alias, version.version, state.revision, entry)
        except AliasConflictError:
            continue
        return
    raise ServiceUnavailableError(f"the aliases of {version.model!r} keep moving; {winner.alias} was not moved yet")


def _reason(winner: Winner) -> str:
    decision = winner.evaluation["decision"]
    return "; ".join(winner.evaluation.get("reasons") or ()) or f"the gate decided to {decision} it"


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _content_type(name: str) -> str:
    return _CONTENT_TYPES[name[name.rindex(".") :]]
