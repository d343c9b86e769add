"""Millrace's own models in MLflow's API: read-only, computed from the registry, copied nowhere.

A model is an experiment and a registered model, a run a parent run, a trial a child run, a dataset an input, a version
a model version, and ``champion`` and ``challenger`` are aliases. The alias ``champion`` promotes, as ``millrace
promote`` does; nothing else can be changed here.

The registry is imported by the requests that need it: its import takes longer than most of the others.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from millrace.errors import ForbiddenError, InvalidInputError, InvalidNameError, NotFoundError
from millrace.layout import mlflow_key, model_state_item
from millrace.names import CHALLENGER, CHAMPION, validate_model_name
from millrace.ports import RegistryStore
from millrace.tracking.arguments import write_pairs
from millrace.tracking.tracking_calls import TrackingCall
from millrace.tracking.tracking_records import DatasetInput, ExperimentRecord, Point, RunRecord

if TYPE_CHECKING:
    from millrace.entities import ModelState, ModelVersion, Run, Trial
    from millrace.registry.store import Registry

#: Runs and trials of a model that are shown, the newest.
MAX_RUNS, MAX_TRIALS = 500, 5_000
#: MLflow's limit of a digest.
_DIGEST = 36
_RUN_ID = re.compile(r"([0-9]{8}T[0-9]{6}-[0-9a-f]{12})(?:-(.+))?")
_STATUS = {
    "planned": "SCHEDULED",
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "succeeded": "FINISHED",
    "rejected": "FINISHED",
}
_ENDED_EARLY = frozenset({"skipped", "eliminated"})


def find_mirrored_model(call: TrackingCall, name: str) -> "MirroredModel | None":
    """Return Millrace's model of that name; None where there is none, or it was deleted."""
    return MirroredModel(call, call.registry().get_state(name)) if _exists(name, call.store) else None


def _exists(name: str, store: RegistryStore) -> bool:
    """Return whether Millrace has a model of that name, without the import of the registry."""
    try:
        item = store.get(model_state_item(validate_model_name(name)))
    except InvalidNameError:
        return False
    return item is not None and "deleted_at" not in item


def list_mirrored_models(call: TrackingCall) -> "list[MirroredModel]":
    """Return Millrace's models, by name."""
    return [MirroredModel(call, state) for state in call.registry().list_models()]


def mirrored_only(call: TrackingCall, name: str) -> None:
    """Raise ``ForbiddenError`` for one of Millrace's models, which MLflow's API shows and does not change."""
    if find_mirrored_model(call, name):
        raise ForbiddenError(
            f"{name!r} is one of Millrace's models, which are read-only here: change it with the command millrace, or "
            "register under another name"
        )


@dataclass(frozen=True)
class MirroredModel:
    """One of Millrace's models as a registered model."""

    call: TrackingCall
    state: "ModelState"

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.state.model

    @cached_property
    def _versions(self) -> "list[ModelVersion]":
        """Versions, newest first."""
        return self.call.registry().list_versions(self.name)

    def summary(self) -> dict[str, Any]:
        """Return the registered model as MLflow's JSON, without its versions."""
        state = self.state
        created = milliseconds(state.created_at) or 0
        aliases = [{"alias": alias, "version": str(number)} for alias, number in sorted(state.aliases.items())]
        return {
            "name": self.name,
            "creation_timestamp": created,
            "last_updated_timestamp": milliseconds(state.aliases_moved_at) or created,
            "description": "A model of Millrace, read-only here.",
            "latest_versions": [],
            "tags": write_pairs({"millrace.model": self.name}),
            "aliases": aliases,
        }

    def describe(self) -> dict[str, Any]:
        """Return the registered model as MLflow's JSON."""
        latest: dict[str, dict[str, Any]] = {}
        for version in self._versions:
            described = self._describe(version)
            latest.setdefault(described["current_stage"], described)
        return self.summary() | {"latest_versions": list(latest.values())}

    def describe_versions(self) -> Iterator[dict[str, Any]]:
        """Yield the versions as MLflow's JSON, newest first."""
        return map(self._describe, self._versions)

    def describe_version(self, number: int) -> dict[str, Any]:
        """Return a version as MLflow's JSON; raises ``VersionNotFoundError``."""
        return self._describe(self.call.registry().get_version(self.name, number))

    def describe_alias(self, alias: str) -> dict[str, Any]:
        """Return the version that an alias points to; raises ``InvalidInputError`` as MLflow does."""
        number = self.state.aliases.get(alias)
        if alias.lower() == "latest" and self._versions:
            number = self._versions[0].version
        if number is None:
            raise InvalidInputError(f"Registered model alias {alias} not found.")
        return self.describe_version(number)

    def location(self, number: int) -> str:
        """Return where a version lies as an MLflow model; raises ``NotFoundError`` for one of an earlier release."""
        version = self.call.registry().get_version(self.name, number)
        found = {listed.key for listed in self.call.objects.list(mlflow_key(self.name, number, "MLmodel"))}
        if not found:
            raise NotFoundError(
                f"version {version.version} of {self.name!r} was registered before versions were MLflow models, or its "
                f"artifacts were deleted: try millrace export {self.name} {number} --to mlflow DIR"
            )
        return self._uri(number)

    def _uri(self, number: int) -> str:
        return f"{bucket_uri(self.call.artifact_root)}/{mlflow_key(self.name, number, '')}".rstrip("/")

    def _describe(self, version: "ModelVersion") -> dict[str, Any]:
        created = milliseconds(version.created_at) or 0
        aliases = sorted(alias for alias, number in self.state.aliases.items() if number == version.version)
        facts = {
            "semantic_version": version.semantic_version,
            "candidate": version.candidate,
            "task": version.task,
            "outcome": version.outcome,
            "manifest_sha256": version.manifest_sha256,
            "source": version.source,
        }
        return {
            "name": self.name,
            "version": str(version.version),
            "creation_timestamp": created,
            "last_updated_timestamp": milliseconds(version.retired_at) or created,
            "current_stage": "Archived" if version.status == "retired" else "None",
            "description": f"{version.semantic_version}, {version.candidate}",
            "source": self._uri(version.version),
            "run_id": trial_run_id(version.run_id, version.trial_id),
            "run_link": "",
            "status": "READY",
            "tags": write_pairs({f"millrace.{name}": value for name, value in facts.items()}),
            "aliases": aliases,
        }


def promote_mirrored(call: TrackingCall, model: MirroredModel, alias: str, version: int) -> None:
    """Promote a version, as ``millrace promote`` does, or begin the release that the spec asks for.

    Raises ``ForbiddenError`` for another alias than ``champion``; ``ConflictError`` and others as a promotion does.
    """
    from millrace.registry.ledger import AuditContext  # noqa: PLC0415 - few requests promote
    from millrace.registry.promotion import promote  # noqa: PLC0415 - as above
    from millrace.releases.control import start_release  # noqa: PLC0415 - as above

    name = model.name
    if alias == CHALLENGER:
        raise ForbiddenError(f"the challenger of {name!r} is assigned when a version is registered; champion promotes")
    if alias != CHAMPION:
        raise ForbiddenError(
            f"{name!r} is one of Millrace's models, whose aliases are champion and challenger: set champion to promote "
            "a version, or register it under another name"
        )
    registry = call.registry()
    audit = AuditContext(call.actor, "the alias champion was set by a client of MLflow", call.now)
    present = model.state.aliases.get(CHAMPION)
    strategy = registry.get_spec(name).release.strategy
    if strategy == "all_at_once" or present in (None, version):
        promote(name, version, audit, registry=registry, model_store=call.objects)
    else:
        start_release(name, version, {}, audit, registry=registry, model_store=call.objects)
    call.publish()


def mirrored_experiment_id(model: str) -> str:
    """Return the id of a model's experiment: a 9 and 17 digits of a hash of its name."""
    return f"9{int(hashlib.sha256(model.encode()).hexdigest(), 16) % 10**17:017d}"


def trial_run_id(run_id: str, trial_id: str) -> str:
    """Return the id of a trial as a run."""
    return f"{run_id}-{trial_id}"


def bucket_uri(artifact_root: str) -> str:
    """Return the URI of the bucket in which artifacts are."""
    return "/".join(artifact_root.split("/")[:3])


def milliseconds(timestamp: datetime | None) -> int | None:
    """Return a timestamp in MLflow's milliseconds since 1970."""
    return None if timestamp is None else int(timestamp.timestamp() * 1_000)


class ModelMirror:
    """Implements :class:`millrace.tracking.tracking_calls.Mirror` over the registry.

    Parameters
    ----------
    store : RegistryStore
        Of the registry's items.
    registry : callable
        Returns the registry; called by the requests that need it.
    artifact_root : str
        Where artifacts of clients are; the versions are in the same bucket.
    """

    def __init__(self, store: RegistryStore, registry: Callable[[], "Registry"], artifact_root: str) -> None:
        self._store, self._registry = store, registry
        self._bucket = bucket_uri(artifact_root)

    def list_experiments(self) -> Iterable[ExperimentRecord]:
        """Return an experiment a model."""
        return [self._experiment(state) for state in self._registry().list_models()]

    def find_experiment(self, experiment_id: str) -> ExperimentRecord | None:
        """Return the experiment of that id."""
        names = [name for name in self._registry().list_names() if mirrored_experiment_id(name) == experiment_id]
        return self.find_experiment_named(names[0]) if names else None

    def find_experiment_named(self, name: str) -> ExperimentRecord | None:
        """Return the experiment of the model of that name, which no client may create."""
        return self._experiment(self._registry().get_state(name)) if _exists(name, self._store) else None

    def list_runs(self, experiment_id: str) -> Iterable[RunRecord]:
        """Return the newest runs of a model, each followed by its trials."""
        experiment = self.find_experiment(experiment_id)
        if experiment is None:
            return
        from millrace.entities import Trial  # noqa: PLC0415 - as the registry

        registry, model = self._registry(), experiment.name
        versions = {version.run_id: version for version in registry.list_versions(model)}
        # One query: their keys begin with those of their runs.
        trials, _ = registry.list_page(Trial, model, "TRIAL#", newest_first=True, limit=MAX_TRIALS)
        of_run: dict[str, list[Trial]] = {}
        for trial in trials:
            of_run.setdefault(trial.run_id, []).append(trial)
        for run in registry.list_runs(model, limit=MAX_RUNS):
            yield self._run(run, versions.get(run.run_id))
            yield from (self._trial(run, trial) for trial in reversed(of_run.get(run.run_id, [])))

    def find_run(self, run_id: str) -> RunRecord | None:
        """Return the run or trial of that id."""
        match = _RUN_ID.fullmatch(run_id)
        if match is None:
            return None
        registry = self._registry()
        runs = registry.find_runs((name, match[1]) for name in registry.list_names())
        if not runs:
            return None
        run = runs[0]
        if match[2] is None:
            version = registry.find_versions(run.model, [run.version]) if run.version else []
            return self._run(run, version[0] if version else None)
        trials = [trial for trial in registry.list_trials(run.model, run.run_id) if trial.trial_id == match[2]]
        return self._trial(run, trials[0]) if trials else None

    def _experiment(self, state: "ModelState") -> ExperimentRecord:
        created = milliseconds(state.created_at) or 0
        return ExperimentRecord(
            experiment_id=mirrored_experiment_id(state.model),
            name=state.model,
            artifact_location=f"{self._bucket}/{state.model}/runs",
            created_ms=created,
            updated_ms=milliseconds(state.aliases_moved_at) or created,
            tags={"millrace.model": state.model},
            is_mirrored=True,
        )

    def _run(self, run: "Run", version: "ModelVersion | None") -> RunRecord:
        ended = milliseconds(run.finished_at)
        facts = {
            "stage": run.stage,
            "cause": run.kind,
            "cause_ids": " ".join(run.cause_ids),
            "status": run.status,
            "reasons": "; ".join(run.reasons),
            "outcome": str(run.summary.get("outcome", "")),
            # Not the run's own number, which is reserved for a proposed model before it is one.
            "version": str(run.summary.get("version", "")),
        }
        metrics = dict(version.metrics) if version and version.run_id == run.run_id else {}
        return RunRecord(
            run_id=run.run_id,
            experiment_id=mirrored_experiment_id(run.model),
            name=run.run_id,
            user="millrace",
            artifact_uri=f"{self._bucket}/{run.model}/runs/{run.run_id}",
            started_ms=milliseconds(run.requested_at) or 0,
            ended_ms=ended,
            status=_run_status(run.status),
            tags=_tags(run.run_id, facts),
            latest=_points(metrics, ended or 0),
            datasets=[
                DatasetInput(
                    name=run.model,
                    digest=dataset_id[:_DIGEST],
                    source_type="s3",
                    tags={"mlflow.data.context": "training", "millrace.dataset_id": dataset_id},
                )
                for dataset_id in run.dataset_ids
            ],
            is_mirrored=True,
        )

    def _trial(self, run: "Run", trial: "Trial") -> RunRecord:
        run_id = trial_run_id(run.run_id, trial.trial_id)
        started = milliseconds(trial.started_at or run.started_at or run.requested_at) or 0
        ended = None if trial.duration_seconds is None else started + int(trial.duration_seconds * 1_000)
        params = {"candidate": trial.candidate, **{name: _text(value) for name, value in trial.parameters.items()}}
        facts = {"status": trial.status, "reason": trial.reason, "seed": str(trial.seed), "round": str(trial.round)}
        return RunRecord(
            run_id=run_id,
            experiment_id=mirrored_experiment_id(run.model),
            name=trial.trial_id,
            user="millrace",
            artifact_uri=f"{self._bucket}/{run.model}/runs/{run.run_id}/{trial.trial_id}",
            started_ms=started,
            ended_ms=ended,
            status=_run_status(trial.status),
            params=params,
            tags=_tags(trial.trial_id, facts) | {"mlflow.parentRunId": run.run_id},
            latest=_points(trial.metrics, ended or started),
            is_mirrored=True,
        )


def _run_status(status: str) -> str:
    return "KILLED" if status in _ENDED_EARLY else _STATUS.get(status, "FAILED")


def _tags(name: str, facts: Mapping[str, str]) -> dict[str, str]:
    named = {f"millrace.{key}": value for key, value in facts.items() if value}
    return {"mlflow.runName": name, "mlflow.user": "millrace", **named}


def _points(metrics: Mapping[str, float], timestamp: int) -> dict[str, Point]:
    return {name: Point(timestamp, 0, float(value)) for name, value in metrics.items()}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
