"""Endpoints of MLflow's API, and the calls that they handle.

A module declares its endpoints as ``ENDPOINTS``; :mod:`millrace.tracking.tracking_api` finds the one of a request,
validates the arguments and returns the response.
"""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from millrace.errors import ForbiddenError
from millrace.ports import ObjectStore, PipelineStarter, RegistryStore
from millrace.tracking.arguments import Kind
from millrace.tracking.tracking_records import ExperimentRecord, RunRecord

if TYPE_CHECKING:
    from millrace.registry.store import Registry

#: Validated arguments of a call: those of the query, the body and the path together.
Arguments = Mapping[str, Any]
#: A JSON object, None for an empty one, or text.
Response = Mapping[str, Any] | str | None


class Mirror(Protocol):
    """Millrace's own models as experiments and runs, which nobody can change.

    The id of a mirrored experiment begins with 9, that of a mirrored run is not 32 hexadecimal digits: see
    :func:`millrace.tracking.tracking_keys.is_mirrored_experiment` and ``is_mirrored_run``.
    """

    def list_experiments(self) -> Iterable[ExperimentRecord]:
        """Return an experiment a model."""

    def find_experiment(self, experiment_id: str) -> ExperimentRecord | None:
        """Return the experiment of that id."""

    def find_experiment_named(self, name: str) -> ExperimentRecord | None:
        """Return the experiment of the model of that name, which no client may create."""

    def list_runs(self, experiment_id: str) -> Iterable[RunRecord]:
        """Return the runs and trials of a mirrored experiment, the newest first."""

    def find_run(self, run_id: str) -> RunRecord | None:
        """Return the run or trial of that id."""


class NoMirror:
    """Implements :class:`Mirror` without models."""

    def list_experiments(self) -> Iterable[ExperimentRecord]:
        """Return nothing."""
        return ()

    def find_experiment(self, experiment_id: str) -> ExperimentRecord | None:  # noqa: ARG002 - a port's signature
        """Return None."""
        return None

    def find_experiment_named(self, name: str) -> ExperimentRecord | None:  # noqa: ARG002 - a port's signature
        """Return None."""
        return None

    def list_runs(self, experiment_id: str) -> Iterable[RunRecord]:  # noqa: ARG002 - a port's signature
        """Return nothing."""
        return ()

    def find_run(self, run_id: str) -> RunRecord | None:  # noqa: ARG002 - a port's signature
        """Return None."""
        return None


def refuse_runs() -> PipelineStarter:
    """Raise ``ForbiddenError``: a server without a pipeline starts no runs."""
    raise ForbiddenError("this server starts no runs, so it takes no versions of Millrace's models")


@dataclass(frozen=True, slots=True)
class TrackingCall:
    """A request's actor and time, with the ports that serve it."""

    store: RegistryStore
    objects: ObjectStore  # the bucket of models
    artifact_root: str  # ``s3://<bucket>/mlflow``
    actor: str  # the ARN that signed the request
    now: datetime
    make_id: Callable[[], str]  # 32 hexadecimal digits
    #: Build what only some requests need, and whose import takes time.
    registry: Callable[[], "Registry"]
    mirror: Mirror = field(default_factory=NoMirror)
    #: Build what starts runs, for models that users propose.
    pipeline: Callable[[], PipelineStarter] = field(default=refuse_runs)
    #: Publish the events of the registry that wait.
    publish: Callable[[], None] = lambda: None
    #: Experiment and start of runs, which never change: an execution environment remembers them.
    places: MutableMapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def now_ms(self) -> int:
        """The time in milliseconds since 1970, as MLflow has it."""
        return int(self.now.timestamp() * 1_000)


Method = Literal["GET", "POST", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class TrackingEndpoint:
    """A method and path of MLflow's API, such as ``experiments/create``, below ``api/2.0/mlflow``.

    ``handle`` takes the call and the arguments, and returns the response's JSON object; None is an empty one.
    ``arguments`` has the kinds of those that are validated; others pass as they are. A path may have parameters:
    ``logged-models/{model_id}``.
    """

    methods: tuple[Method, ...]
    path: str
    handle: Callable[[TrackingCall, Arguments], Response]
    arguments: Mapping[str, Kind] = field(default_factory=dict)
    api: str = "2.0"
