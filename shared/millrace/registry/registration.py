"""Registering a run's winner: artifacts, manifest, version, alias, in an order in which any step may be repeated.

The version number is noted on the run before anything is written, so a repeated registration writes to the same
place. The registry's record of the version comes last and holds the manifest's SHA-256: until it is there, nobody
reads what lies in the version's folder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

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
from millrace.layout import evaluation_key, prediction_profile_key, prepared_key, trial_key, version_key
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.registry.lifecycle import insist_on_living
from millrace.registry.promotion import ACTOR, Claim, Settled, settle
from millrace.reports import build_card, card_files
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.spec import CaptureSpec, ModelSpec

FIRST_VERSION = "1.0.0"

Change = Literal["major", "minor", "patch"]

#: A column may become the wider type on the right without a value being refused.
_WIDER = frozenset({("integer", "number"), ("category", "text")})


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a version was made by, as far as callers can notice."""

    schema: TableSchema
    candidate: str


def next_semantic_version(present: str, before: Recipe, after: Recipe) -> str:
    """Return the semantic version that follows ``present``."""
    major, minor, patch = (int(part) for part in present.split("."))
    change = classify_change(before, after)
    if change == "major":
        return f"{major + 1}.0.0"
    if change == "minor":
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def classify_change(before: Recipe, after: Recipe) -> Change:
    """Tell how much a caller notices of the step from one recipe to the other."""
    if _answers_differ(before.schema, after.schema) or _requests_may_fail(before.schema, after.schema):
        return "major"
    if before.candidate != after.candidate or _shape(before.schema) != _shape(after.schema):
        return "minor"
    return "patch"


def is_required(column: Column) -> bool:
    """Tell whether a request must have this feature."""
    return not column.nullable


def is_stricter(before: ColumnRules, after: ColumnRules) -> bool:
    """Tell whether a value that the one set of rules lets a request have may be refused by the other."""
    if after.severity != "error":
        return False
    if before.severity != "error":
        before = ColumnRules()
    if after.nullable is False and before.nullable is not False:
        return True
    if after.minimum is not None and (before.minimum is None or after.minimum > before.minimum):
        return True
    if after.maximum is not None and (before.maximum is None or after.maximum < before.maximum):
        return True
    return bool(after.allowed) and not (before.allowed and set(before.allowed) <= set(after.allowed))


def _answers_differ(before: TableSchema, after: TableSchema) -> bool:
    return (before.task, before.classes, before.target.name) != (after.task, after.classes, after.target.name)


def _requests_may_fail(before: TableSchema, after: TableSchema) -> bool:
    known = {column.name: column for column in before.features}
    for column in after.features:
        earlier = known.get(column.name)
        if is_required(column) and (earlier is None or not is_required(earlier)):
            return True
        if earlier and earlier.type != column.type and (earlier.type, column.type) not in _WIDER:
            return True
        if is_stricter(earlier.rules if earlier else ColumnRules(), column.rules):
            return True
    return False


def _shape(schema: TableSchema) -> list[tuple[str, str, bool]]:
    """Names, types and need of the features; their categories and ranges are the data's, not the recipe's."""
    return sorted((column.name, column.type, is_required(column)) for column in schema.features)


#: What a version's record says that comes after the manifest is written.
_CHANGING = frozenset({"manifest_sha256", "status", "outcome", "retired_at", "collected_at"})


def build_signature(
    schema: TableSchema, threshold: Mapping[str, Any] | None = None, capture: CaptureSpec | None = None
) -> dict[str, Any]:
    """Return what a version takes and gives, by name and type, and for serving the whole schema and what to capture.

    Where the evaluation chose a ``threshold``, its ``positive_class`` and ``value`` are part of it: a row is called
    positive from that probability on.
    """
    inputs = [{"name": column.name, "type": column.type, "required": is_required(column)} for column in schema.features]
    document = {"schema": schema.to_dict(), "inputs": inputs, "outputs": _outputs(schema)}
    document["capture"] = (capture or CaptureSpec()).model_dump(mode="json")
    if threshold:
        document["threshold"] = {"positive_class": threshold["positive_class"], "value": threshold["value"]}
    return document


def _outputs(schema: TableSchema) -> list[dict[str, Any]]:
    if schema.task == "regression":
        return [{"name": "value", "type": "number"}]
    return [
        {"name": "label", "type": schema.target.type},
        {"name": "probabilities", "type": "number", "classes": list(schema.classes)},
    ]


def build_manifest(
    version: ModelVersion, artifacts: Mapping[str, bytes], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest: what the version is, and SHA-256 and size of every artifact as it is stored.

    ``split_fingerprint`` says how its rows were divided, so that a later challenger is not compared with it on rows
    that it has learnt from.
    """
    document: dict[str, Any] = {name: value for name, value in to_plain(version).items() if name not in _CHANGING}
    document["split_fingerprint"] = (evaluation.get("split") or {}).get("fingerprint")
    document["artifacts"] = describe_artifacts(artifacts)
    return document


def describe_artifacts(artifacts: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size by name."""
    return {
        name: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        for name, body in sorted(artifacts.items())
    }


MODEL = "model.onnx"
SIGNATURE = "signature.json"
MANIFEST = "manifest.json"
REFERENCE = "reference.json"
PROFILE = "prediction_profile.json"
BACKGROUND = "background.npz"

#: What is taken over from the winning trial, as it is.
_TRIAL_ARTIFACTS = (MODEL, "estimator.skops", "trial.json")
_LETS_IN = frozenset({"promote", "keep"})
_CONTENT_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown; charset=utf-8",
    ".npz": "application/octet-stream",
    ".html": "text/html; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Winner:
    """What is about to be registered.

    Parameters
    ----------
    spec : ModelSpec
        For what only people know, on the card, and for how much of what the version answers is captured.
    reference : bytes or None, default=None
        ``reference.json`` of the prepared data, for monitoring.
    profile : bytes or None, default=None
        How it answered the holdout, for monitoring.
    prepared : mapping, default={}
        ``manifest.json`` of the prepared data; empty where there is none.
    background : bytes or None, default=None
        ``background.npz`` of the prepared data, for explanations.
    """

    run: Run
    trial: Trial
    schema: TableSchema
    evaluation: Mapping[str, Any]
    spec: ModelSpec
    reference: bytes | None = None
    profile: bytes | None = None
    prepared: Mapping[str, Any] = field(default_factory=dict)
    background: bytes | None = None

    @property
    def claim(self) -> Claim:
        """What the gate lets it claim, and which champion that was decided against."""
        compared = self.evaluation.get("champion") or {}
        return Claim(self.evaluation["decision"] == "promote", compared.get("version"), _reason(self), self.run.run_id)


def register_run(
    run: Run, *, registry: Registry, model_store: ObjectStore, data_store: ObjectStore, now: datetime
) -> RegisteredVersion:
    """Make a run's winner a version of its model, and settle what it is: champion, challenger, or waiting for a person.

    Raises
    ------
    InvalidInputError
        When the gate let nothing in.
    ArtifactNotFoundError
        When the evaluation, the schema or an artifact of the trial is missing.
    ArtifactIntegrityError
        When the stored model is not the one that the trial recorded and the gate measured.
    ModelDeletedError
        When the model was deleted since the run was asked for.
    ServiceUnavailableError
        When the alias keeps being moved by others.
    """
    insist_on_living(registry.get_state(run.model), run.requested_at)
    registry.update_run(run.model, run.run_id, stage="registering")
    winner = _read_winner(run, registry, model_store, data_store)
    number = _take_number(run, registry)
    version = _find_version(run, number, registry) or _write_version(winner, number, registry, model_store, now)
    settled = settle(winner.claim, version, registry, now)
    _record_outcome(winner, version, settled, registry, now)
    if settled.outcome == "awaiting_approval":
        seconds = registry.get_spec(run.model).approval.expires_after_seconds
        return RegisteredVersion(version=number, outcome=settled.outcome, approval_seconds=seconds)
    return RegisteredVersion(version=number, outcome="promoted" if settled.outcome == "promoted" else "kept")


def _record_outcome(winner: Winner, version: ModelVersion, settled: Settled, registry: Registry, now: datetime) -> None:
    """Say on the run how it ended, or that it waits for a person."""
    run = winner.run
    promoted = settled.outcome == "promoted"
    summary = {
        **run.summary,
        "version": version.version,
        "semantic_version": version.semantic_version,
        "alias": CHAMPION if promoted else CHALLENGER,
        "promoted": promoted,
        "outcome": settled.words,
    }
    if settled.outcome == "awaiting_approval":
        ended: dict[str, Any] = {"stage": "awaiting_approval"}
    else:
        ended = {"status": "succeeded", "stage": "finished", "finished_at": now}
    registry.update_run(run.model, run.run_id, version=version.version, summary=summary, **ended)


def _read_winner(run: Run, registry: Registry, model_store: ObjectStore, data_store: ObjectStore) -> Winner:
    evaluation = json.loads(model_store.get(evaluation_key(run.model, run.run_id)))
    if evaluation["decision"] not in _LETS_IN:
        raise InvalidInputError(f"run {run.run_id} has no winner to register: the gate's decision was to reject")
    schema = TableSchema.from_dict(json.loads(data_store.get(prepared_key(run.model, run.run_id, "schema.json"))))
    trial = registry.get_trial(run.model, run.run_id, evaluation["trial_id"])
    prepared = _read_if_there(data_store, prepared_key(run.model, run.run_id, MANIFEST))
    return Winner(
        run,
        trial,
        schema,
        evaluation,
        registry.get_spec(run.model),
        reference=_read_if_there(data_store, prepared_key(run.model, run.run_id, REFERENCE)),
        profile=_read_if_there(model_store, prediction_profile_key(run.model, run.run_id)),
        prepared=json.loads(prepared) if prepared else {},
        background=_read_if_there(data_store, prepared_key(run.model, run.run_id, BACKGROUND)),
    )


def _read_if_there(store: ObjectStore, key: str) -> bytes | None:
    """Return a document that runs of an older release do not have."""
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
        SIGNATURE: _dump(build_signature(winner.schema, winner.evaluation.get("threshold"), winner.spec.capture)),
        "evaluation.json": _dump(winner.evaluation),
    }
    if winner.reference is not None:
        documents[REFERENCE] = winner.reference
    if winner.profile is not None:
        documents[PROFILE] = winner.profile
    if winner.background is not None:
        documents[BACKGROUND] = winner.background
    for name, body in documents.items():
        model_store.put(version_key(run.model, version.version, name), body, _content_type(name))
    stored = {
        name: model_store.get(version_key(run.model, version.version, name)) for name in (*_TRIAL_ARTIFACTS, *documents)
    }
    recorded = trial.artifacts
    for name in {MODEL, *recorded} & stored.keys():
        if hashlib.sha256(stored[name]).hexdigest() != recorded.get(name):
            raise ArtifactIntegrityError(f"{name} of trial {trial.trial_id} is not what the trial recorded")
    return stored | _write_card(winner, version, stored, model_store)


def _write_card(
    winner: Winner, version: ModelVersion, stored: Mapping[str, bytes], model_store: ObjectStore
) -> dict[str, bytes]:
    """Write the model card, in its three forms, about what is stored."""
    card = build_card(
        winner.run,
        winner.schema,
        winner.spec,
        winner.evaluation,
        version=version,
        trial=json.loads(stored["trial.json"]),
        prepared=winner.prepared,
        artifacts=describe_artifacts(stored),
    )
    files = card_files(card)
    for name, body in files.items():
        model_store.put(version_key(winner.run.model, version.version, name), body, _content_type(name))
    return files


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
            "decision": winner.evaluation["decision"],
        },
    )


def _reason(winner: Winner) -> str:
    decision = winner.evaluation["decision"]
    return "; ".join(winner.evaluation.get("reasons") or ()) or f"the gate decided to {decision} it"


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _content_type(name: str) -> str:
    return _CONTENT_TYPES[name[name.rindex(".") :]]
