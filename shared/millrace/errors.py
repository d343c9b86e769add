"""The taxonomy of errors.

Every error that Millrace raises on purpose is a :class:`MillraceError`. Its class holds the HTTP response
(``http_status``, ``error_code``) and whether the same call may succeed later (``retryable``).

Outcomes that are expected (a rejected dataset, a gate that is not passed) are not errors: functions return
them as data, and the state machine chooses on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field of an input."""

    field: str  # where the fault is, as the caller would write it: ``age``, ``row 3: age``, ``dataframe_split.columns``
    message: str  # the fault and, where possible, the remedy


class MillraceError(Exception):
    """Base of every error that Millrace raises on purpose."""

    http_status: ClassVar[int] = 500
    error_code: ClassVar[str] = "INTERNAL_ERROR"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the HTTP response: ``error_code`` and ``message``."""
        return {"error_code": self.error_code, "message": self.message}


class ConfigurationError(MillraceError):
    """The deployment is wrong: a missing environment variable, a malformed setting."""


class InvalidInputError(MillraceError):
    """The caller's data is wrong; names every bad field at once.

    Parameters
    ----------
    message : str
        One sentence for people.
    fields : sequence of FieldError, default=()
        Every fault found, not only the first.
    """

    http_status = 400
    error_code = "INVALID_PARAMETER_VALUE"

    def __init__(self, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.fields = tuple(fields)

    def to_dict(self) -> dict[str, Any]:
        """Return ``error_code``, ``message`` and, when there are any, the bad ``fields``."""
        body = super().to_dict()
        if self.fields:
            body["fields"] = [{"field": fault.field, "message": fault.message} for fault in self.fields]
        return body


class InvalidNameError(InvalidInputError):
    """A model, run or version name that cannot exist."""


class NoRowsError(InvalidInputError):
    """A table without rows: an error on its own, and allowed as one of a dataset's files."""


class PayloadTooLargeError(MillraceError):
    """A request holds more bytes or rows than one call may."""

    http_status = 413
    error_code = "PAYLOAD_TOO_LARGE"


class UnsupportedMediaTypeError(MillraceError):
    """A request's content type is none that the endpoint reads."""

    http_status = 415
    error_code = "UNSUPPORTED_MEDIA_TYPE"


class ForbiddenError(MillraceError):
    """The caller is known, and may not do this."""

    http_status = 403
    error_code = "PERMISSION_DENIED"


class NotFoundError(MillraceError):
    """A named resource does not exist."""

    http_status = 404
    error_code = "RESOURCE_DOES_NOT_EXIST"


class ModelNotFoundError(NotFoundError):
    """No model of that name exists, or it has no version to serve yet."""


class ModelNotReadyError(ModelNotFoundError):
    """The model exists, and none of its versions is its champion yet."""


class ModelDeletedError(ModelNotFoundError):
    """The model was deleted: it neither serves nor trains any more."""


class VersionNotFoundError(NotFoundError):
    """The model has no such version or alias."""


class RunNotFoundError(NotFoundError):
    """The model has no such training run."""


class ApprovalNotFoundError(NotFoundError):
    """No approval of that run was requested."""


class ReleaseNotFoundError(NotFoundError):
    """The model has no such release, or none is active."""


class BatchNotFoundError(NotFoundError):
    """The model has no such batch job."""


class ReplayNotFoundError(NotFoundError):
    """The model has no such replay."""


class CauseNotFoundError(NotFoundError):
    """The model has no cause of that id."""


class DatasetNotFoundError(NotFoundError):
    """The model has no accepted dataset of that id."""


class SchemaNotFoundError(NotFoundError):
    """The model has no schema of that version, or none yet."""


class ArtifactNotFoundError(NotFoundError):
    """A stored object that a record points to is gone."""


class EndpointNotFoundError(NotFoundError):
    """An MLflow client calls an endpoint that this server does not have; clients then do without."""

    error_code = "ENDPOINT_NOT_FOUND"


class AlreadyExistsError(MillraceError):
    """A name is taken; MLflow's clients then use what has it."""

    http_status = 400
    error_code = "RESOURCE_ALREADY_EXISTS"


class InvalidStateError(MillraceError):
    """A request changes a resource whose state does not allow it."""

    http_status = 400
    error_code = "INVALID_STATE"


class TooManyRequestsError(MillraceError):
    """Requests come faster than the table takes them; MLflow's clients wait and repeat theirs."""

    http_status = 429
    error_code = "REQUEST_LIMIT_EXCEEDED"
    retryable = True


class ConflictError(MillraceError):
    """The state changed between reading and writing it."""

    http_status = 409
    error_code = "RESOURCE_CONFLICT"


class AliasConflictError(ConflictError):
    """An alias moved since it was read; read it again and decide again."""


class UnfitVersionError(ConflictError):
    """A version cannot serve: it is retired, or its stored artifacts are not those that were registered."""


class ArtifactIntegrityError(MillraceError):
    """Stored bytes are not the bytes that were registered (SHA-256 differs)."""

    error_code = "ARTIFACT_CORRUPT"


class ModelExportError(MillraceError):
    """An estimator has no ONNX form, or one whose outputs differ from its own."""

    error_code = "MODEL_EXPORT_FAILED"


class TrainingFailedError(MillraceError):
    """A trial could not be fitted on the prepared data."""

    error_code = "TRAINING_FAILED"


class WorkerCrashedError(TrainingFailedError):
    """No trial of a run has a result, because workers died or timed out: that says nothing about the data."""

    error_code = "WORKER_CRASHED"


class ServiceUnavailableError(MillraceError):
    """A dependency is throttled or unreachable; the same call may work later."""

    http_status = 503
    error_code = "TEMPORARILY_UNAVAILABLE"
    retryable = True


def first_line(error: Exception) -> str:
    """Return the beginning of a message that a library wrote over several lines."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
