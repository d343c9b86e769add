"""Register a run's winner: artifacts, manifest, version, alias, in an order in which any step may be repeated.

The version number is written to the run before anything else, so a repeated registration writes to the same place. The
registry's record of the version comes last and holds the manifest's SHA-256: until it exists, nobody reads the
version's folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from millrace.card import Artifact, describe_artifacts
from millrace.contracts import RegisteredVersion
from millrace.documents import to_plain
from millrace.entities import LedgerEntry, ModelVersion, Run, Trial
from millrace.errors import (
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ConflictError,
    InvalidInputError,
    VersionNotFoundError,
)
from millrace.evaluation_results import Evaluation
from millrace.exports.mlflow_model import mlflow_files
from millrace.layout import (
    confidence_key,
    evaluation_key,
    mlflow_key,
    prediction_profile_key,
    prepared_key,
    trial_key,
    version_key,
)
from millrace.manifest import (
    MANIFEST,
    MODEL,
    SIGNATURE,
    Manifest,
    Signature,
    SignatureThreshold,
)
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.ledger import of_incidents
from millrace.registry.promotion import ACTOR, AssignedOutcome, GateDecision, assign_alias
from millrace.registry.store import Registry
from millrace.registry.versioning import FIRST_VERSION, Recipe, next_semantic_version
from millrace.reports import model_card
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

REFERENCE = "reference.json"
PROFILE = "prediction_profile.json"
BACKGROUND = "background.npz"

#: Copied from the winning trial.
_TRIAL_ARTIFACTS = (MODEL, "trial.json")
#: Of what was to be registered from the start; not of a winner whose refit failed.
_ESTIMATOR = "estimator.skops"
_CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".npz": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Winner:
    """The winner of a run, with the documents that its version takes over."""

    run: Run
    trial: Trial
    schema: TableSchema
    evaluation: Evaluation
    spec: ModelSpec
    #: By name: ``evaluation.json``, ``reference.json``, ``background.npz`` and ``prediction_profile.json``; runs of an
    #: older release do not have all of them.
    documents: Mapping[str, bytes]
    #: ``manifest.json`` of the prepared data; empty where there is none.
    prepared: Mapping[str, Any] = field(default_factory=dict)
    #: The calibration of intervals or prediction sets; None of a run of an older release.
    confidence: dict[str, Any] | None = None

    @property
    def decision(self) -> GateDecision:
        """The gate's decision, and the champion that it was made against."""
        compared = self.evaluation.champion.version if self.evaluation.champion else None
        run = self.run
        # Nobody here knows what a user's model was trained on: the holdout may be among it. A person promotes it.
        may_be_champion = self.evaluation.decision == "promote" and run.logged_model is None
        return GateDecision(may_be_champion, compared, self.reason, run.run_id, run.incident_ids)

    @property
    def reason(self) -> str:
        """The gate's reasons."""
        return "; ".join(self.evaluation.reasons) or f"the gate's decision: {self.evaluation.decision}"


def register_run(
    run: Run, *, registry: Registry, model_store: ObjectStore, data_store: ObjectStore, now: datetime
) -> RegisteredVersion:
    """Register a run's winner as a version of its model, and make it champion, challenger or pending approval.

    Raises
    ------
    InvalidInputError
        When the gate rejected it.
    ArtifactNotFoundError
        When the evaluation, the schema or an artifact of the trial is missing.
    ArtifactIntegrityError
        When the stored model is not the one that the trial recorded and the gate measured.
    ModelDeletedError
        When the model was deleted since the run was requested.
    ServiceUnavailableError
        When others keep moving the alias.
    """
    registry.get_state(run.model).ensure_not_deleted(run.requested_at)
    begun = run.begin("registering", now)
    registry.update_run(run.model, run.run_id, **begun)
    run = replace(run, **begun)
    winner = _read_winner(run, registry, model_store, data_store)
    number = _take_number(run, registry)
    version = _find_version(run, number, registry) or _write_version(winner, number, registry, model_store, now)
    assigned = assign_alias(winner.decision, version, registry, now)
    _record_outcome(winner, version, assigned, registry, now)
    if assigned.outcome == "awaiting_approval":
        seconds = registry.get_spec(run.model).approval.expires_after_seconds
        return RegisteredVersion(version=number, outcome=assigned.outcome, approval_seconds=seconds)
    return RegisteredVersion(version=number, outcome="promoted" if assigned.outcome == "promoted" else "kept")


def _record_outcome(
    winner: Winner, version: ModelVersion, assigned: AssignedOutcome, registry: Registry, now: datetime
) -> None:
    """Record on the run how it ended, or that it waits for approval."""
    run = winner.run
    promoted = assigned.outcome == "promoted"
    summary = {
        **run.summary,
        "version": version.version,
        "semantic_version": version.semantic_version,
        "alias": CHAMPION if promoted else CHALLENGER,
        "promoted": promoted,
        "outcome": assigned.message,
    }
    if assigned.outcome == "awaiting_approval":
        ended = run.begin("awaiting_approval", now)
    else:
        ended = {"status": "succeeded", "stage": "finished", "finished_at": now}
    registry.update_run(run.model, run.run_id, version=version.version, summary=summary, **ended)


def _read_winner(run: Run, registry: Registry, model_store: ObjectStore, data_store: ObjectStore) -> Winner:
    stored = model_store.get(evaluation_key(run.model, run.run_id))
    evaluation = Evaluation.read(stored)
    if evaluation.decision == "reject" or evaluation.trial_id is None:
        raise InvalidInputError(f"run {run.run_id} has no winner to register: the gate's decision was to reject")
    schema = TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))
    documents = {
        "evaluation.json": stored,
        REFERENCE: _find(data_store, prepared_key(run.model, run.run_id, REFERENCE)),
        PROFILE: _find(model_store, prediction_profile_key(run.model, run.run_id)),
        BACKGROUND: _find(data_store, prepared_key(run.model, run.run_id, BACKGROUND)),
    }
    return Winner(
        run,
        registry.get_trial(run.model, run.run_id, evaluation.trial_id),
        schema,
        evaluation,
        registry.get_spec(run.model),
        {name: body for name, body in documents.items() if body is not None},
        prepared=json.loads(_find(data_store, prepared_key(run.model, run.run_id, MANIFEST)) or b"{}"),
        confidence=json.loads(_find(model_store, confidence_key(run.model, run.run_id)) or b"null"),
    )


def _find(store: ObjectStore, key: str) -> bytes | None:
    """Return a document, or None: runs of an older release do not have all of them."""
    try:
        return store.get(key)
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
    if version.run_id != run.run_id and not _is_same_proposal(run, version.run_id, registry):
        raise ConflictError(f"version {number} of {run.model!r} belongs to run {version.run_id}")
    return version


def _is_same_proposal(run: Run, earlier_id: str, registry: Registry) -> bool:
    """Return whether an earlier run, which ended in a fault, had the same proposed model: its version has no alias."""
    earlier = registry.find_run(run.model, earlier_id) if run.logged_model else None
    return earlier is not None and earlier.logged_model == run.logged_model


def _write_version(
    winner: Winner, number: int, registry: Registry, model_store: ObjectStore, now: datetime
) -> ModelVersion:
    """Write every artifact, then the manifest, then the registry's record."""
    run, trial, evaluation = winner.run, winner.trial, winner.evaluation
    measured = evaluation.holdout.metrics if evaluation.holdout else {}
    version = ModelVersion(
        model=run.model,
        version=number,
        semantic_version=_semantic_version(winner, registry, model_store),
        run_id=run.run_id,
        trial_id=trial.trial_id,
        candidate=trial.candidate,
        task=winner.schema.task,
        metrics={name: metric.value for name, metric in measured.items()},
        dataset_ids=run.dataset_ids,
        schema_version=winner.schema.version,
        manifest_sha256="",
        created_at=now,
        source="mlflow" if run.logged_model else "training",
    )
    artifacts = _write_artifacts(winner, version, model_store)
    manifest = Manifest.of(version, artifacts, evaluation.split, evaluation.best_version).write()
    _put(model_store, version, MANIFEST, manifest)
    version = replace(version, manifest_sha256=Artifact.of(manifest).sha256)
    registry.put_version(version, _registered_entry(winner, version, now))
    return version


def _write_artifacts(winner: Winner, version: ModelVersion, model_store: ObjectStore) -> dict[str, bytes]:
    """Write all but the manifest, and return each as it is stored now.

    An artifact must have the hash that the trial recorded: the gate measured those very bytes.
    """
    run, trial = winner.run, winner.trial
    of_trial = (*_TRIAL_ARTIFACTS, *({_ESTIMATOR} & trial.artifacts.keys()))
    for name in of_trial:
        source = trial_key(run.model, run.run_id, trial.trial_id, name)
        model_store.copy(source, version_key(run.model, version.version, name))
    chosen = winner.evaluation.threshold
    # The evaluation is for people: it does not name the classes of a sensitive target.
    threshold = SignatureThreshold(positive_class=winner.schema.classes[1], value=chosen.value) if chosen else None
    signature = Signature.of(winner.schema, threshold, winner.spec.capture, winner.confidence)
    documents = {SIGNATURE: signature.write(), **winner.documents}
    for name, body in documents.items():
        _put(model_store, version, name, body)
    stored = {name: model_store.get(version_key(run.model, version.version, name)) for name in (*of_trial, *documents)}
    for name in {MODEL, *trial.artifacts} & stored.keys():
        if Artifact.of(stored[name]).sha256 != trial.artifacts.get(name):
            raise ArtifactIntegrityError(f"{name} of trial {trial.trial_id} is not what the trial recorded")
    return stored | _write_card(winner, version, stored, model_store) | _write_mlflow(version, stored, model_store)


def _write_mlflow(version: ModelVersion, stored: Mapping[str, bytes], model_store: ObjectStore) -> dict[str, bytes]:
    """Write the version as an MLflow model, and return its manifest, which has the hashes of the other files."""
    files = mlflow_files(
        stored[SIGNATURE],
        stored[MODEL],
        model=version.model,
        version=version.version,
        created_at=version.created_at,
        metadata={"semantic_version": version.semantic_version, "run_id": version.run_id},
    )
    for name, body in files.items():
        key = mlflow_key(version.model, version.version, name)
        if name == MODEL:
            model_store.copy(version_key(version.model, version.version, MODEL), key)
        else:
            model_store.put(key, body)
    return {f"mlflow/{MANIFEST}": files[MANIFEST]}


def _write_card(
    winner: Winner, version: ModelVersion, stored: Mapping[str, bytes], model_store: ObjectStore
) -> dict[str, bytes]:
    """Write the model card, in its three forms, about the stored artifacts."""
    card = model_card.build_card(
        winner.run,
        winner.schema,
        winner.spec,
        winner.evaluation,
        version=version,
        trial=json.loads(stored["trial.json"]),
        prepared=winner.prepared,
        artifacts=describe_artifacts(stored),
    )
    files = model_card.card_files(card)
    for name, body in files.items():
        _put(model_store, version, name, body)
    return files


def _put(model_store: ObjectStore, version: ModelVersion, name: str, body: bytes) -> None:
    content_type = _CONTENT_TYPES[name[name.rindex(".") :]]
    model_store.put(version_key(version.model, version.version, name), body, content_type)


def _semantic_version(winner: Winner, registry: Registry, model_store: ObjectStore) -> str:
    """Return the semantic version that follows the newest version's."""
    versions = registry.list_versions(winner.run.model)
    if not versions:
        return FIRST_VERSION
    newest = versions[0]
    signature = Signature.read(model_store.get(version_key(newest.model, newest.version, SIGNATURE)))
    before = Recipe(TableSchema.from_dict(signature.schema), newest.candidate)
    return next_semantic_version(newest.semantic_version, before, Recipe(winner.schema, winner.trial.candidate))


def _registered_entry(winner: Winner, version: ModelVersion, now: datetime) -> LedgerEntry:
    uploads = [dataset["uploaded_at"] for dataset in winner.prepared.get("datasets", ()) if dataset.get("uploaded_at")]
    newest = {"newest_upload_at": max(uploads, key=datetime.fromisoformat)} if uploads else {}
    return LedgerEntry(
        model=version.model,
        entry_id=f"version-{version.version}-registered",
        occurred_at=now,
        actor=ACTOR,
        action="model_registered",
        reason=winner.reason,
        details={
            "version": version.version,
            "semantic_version": version.semantic_version,
            "run_id": version.run_id,
            "trial_id": version.trial_id,
            "dataset_ids": list(version.dataset_ids),
            "manifest_sha256": version.manifest_sha256,
            "decision": winner.evaluation.decision,
            **newest,
            **({"logged_model": to_plain(winner.run.logged_model)} if winner.run.logged_model else {}),
            **of_incidents(winner.run.incident_ids),
        },
    )
