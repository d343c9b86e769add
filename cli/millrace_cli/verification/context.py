"""Verification of a deployed stack: the context of the checks, their order, and the removal of what they create."""

import gzip
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from botocore.exceptions import WaiterError

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError
from millrace_cli.run_progress import Snapshot, follow_causes
from millrace_cli.target import Target
from millrace_cli.upload import upload_table

T = TypeVar("T")
Status = Literal["passed", "failed", "skipped"]

#: An update of the stack publishes a version of one function.
_UPDATE_SECONDS = 1800
_COLUMNS = ("age", "plan", "joined", "active", "label")
_FOLDERS = (
    "incoming",
    "datasets",
    "quarantine",
    "prepared",
    "captures",
    "feedback",
    "monitoring",
    "schemas",
    "score",
    "scored",
)


class CheckError(CliError):
    """Failed check; the message says what was observed."""


@dataclass(slots=True)
class Verification:
    """Context of the checks: the stack, the models that they create, and what earlier checks observed.

    Parameters
    ----------
    folder : Path
        Folder for the tables that are uploaded.
    model : str
        Name of the model that is trained; no other model may have it.
    """

    target: Target
    api: ApiClient
    folder: Path
    model: str
    sleep: Callable[[float], None] = time.sleep
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    progress: Iterator[list[Snapshot]] | None = None
    repeated_uploads: int = 0
    #: Rows by prediction id.
    predicted: dict[str, int] = field(default_factory=dict)
    #: Parameters of the stack before a check changed them.
    changed_parameters: dict[str, str] = field(default_factory=dict)
    parameters_changed_at: datetime | None = None

    @property
    def rejected_model(self) -> str:
        """Name of the model whose only upload is rejected."""
        return f"{self.model}-rejected"

    def resource(self, logical_id: str) -> str:
        """Return the physical id of a resource of the template."""
        described = self.target.client("cloudformation").describe_stack_resource(
            StackName=self.target.stack, LogicalResourceId=logical_id
        )
        return str(described["StackResourceDetail"]["PhysicalResourceId"])

    def follow_upload(self, model: str, file: Path, seconds: float) -> Iterator[list[Snapshot]]:
        """Upload a table and return the snapshots of its run; repeats the upload while the stack does not see it."""

        def send() -> str:
            return upload_table(self.target.client("s3"), self.target.output("DataBucketName"), model, file).cause_id

        def send_again(_model: str, _seconds: float) -> str:
            self.repeated_uploads += 1
            return send()

        return follow_causes(
            self.api,
            {model: send()},
            poll_seconds=self.target.poll_seconds,
            timeout_seconds=seconds,
            upload_again=send_again,
            sleep=self.sleep,
        )

    def predict(self, rows: Sequence[Mapping[str, Any]], *, compress: bool = False, size: int = 0) -> list[Any]:
        """Return predictions by the champion, and remember that they are captured.

        Parameters
        ----------
        compress : bool, default=False
            Sends the body as gzip.
        size : int, default=0
            Least size of the body, which blanks fill.
        """
        body = json.dumps({"dataframe_records": rows}).encode().ljust(size)
        headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if compress else {})
        response = self.api.post_bytes(
            f"/models/{self.model}/invocations", gzip.compress(body) if compress else body, headers
        )
        predictions = list(response["predictions"])
        if len(predictions) != len(rows):
            raise CheckError(f"{len(rows)} rows, {len(predictions)} predictions")
        self.predicted[response["prediction_id"]] = len(rows)
        return predictions

    def wait(self, goal: str, seconds: float, observe: Callable[[], T | None]) -> T:
        """Return what ``observe`` returns once it is true; raises ``CheckError`` after ``seconds``."""
        deadline = time.monotonic() + seconds
        while not (observed := observe()):
            if time.monotonic() >= deadline:
                raise CheckError(f"waited {seconds:.0f} seconds for {goal}")
            self.sleep(self.target.poll_seconds)
        return observed

    def update_parameters(self, changes: Mapping[str, str]) -> None:
        """Update the stack with other parameters and the template it has; does nothing when none differs."""
        cloudformation = self.target.client("cloudformation")
        (stack,) = cloudformation.describe_stacks(StackName=self.target.stack)["Stacks"]
        now = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}
        if all(now[name] == value for name, value in changes.items()):
            return
        for name in changes:
            self.changed_parameters.setdefault(name, now[name])
        parameters = [
            {"ParameterKey": name, "ParameterValue": changes[name]}
            if name in changes
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in now
        ]
        cloudformation.update_stack(
            StackName=self.target.stack,
            UsePreviousTemplate=True,
            Parameters=parameters,
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        delay = 1 if self.target.is_local else 10
        try:
            cloudformation.get_waiter("stack_update_complete").wait(
                StackName=self.target.stack, WaiterConfig={"Delay": delay, "MaxAttempts": _UPDATE_SECONDS // delay}
            )
        except WaiterError as error:
            raise CheckError(f"the update of the stack did not complete: {error}") from error


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Parameters
    ----------
    run : callable
        Returns what was observed; any exception is a failure.
    remedy : str
        What to do on failure.
    needs : sequence of str, default=()
        Names of checks without whose success this one is skipped.
    only_aws : str, default=""
        Reason for which the local stack cannot show it; empty when it can.
    """

    name: str
    run: Callable[[Verification], str]
    remedy: str
    needs: Sequence[str] = ()
    only_aws: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check, with the seconds it took and what was observed."""

    check: Check
    status: Status
    seconds: float
    detail: str


class Progress(Protocol):
    """Receiver of the progress of :func:`run_checks`."""

    def begin(self, check: Check) -> None:
        """Note that a check runs now."""

    def end(self, result: CheckResult) -> None:
        """Note a result, also that of a skipped check."""


class NotApplicable(Exception):  # noqa: N818  # not an error
    """Raised by a check that does not apply to this stack; the message says why."""


def run_checks(verification: Verification, checks: Iterable[Check], progress: Progress) -> list[CheckResult]:
    """Run checks in order; a failure skips only those that need the failed one."""
    results: dict[str, CheckResult] = {}
    for check in checks:
        began = time.monotonic()
        missing = [name for name in check.needs if name not in results or results[name].status != "passed"]
        if check.only_aws and verification.target.is_local:
            result: tuple[Status, str] = ("skipped", f"only on AWS: {check.only_aws}")
        elif missing:
            result = ("skipped", f"needs: {', '.join(missing)}")
        else:
            progress.begin(check)
            result = _run(check, verification)
        status, detail = result
        results[check.name] = CheckResult(check, status, time.monotonic() - began, detail)
        progress.end(results[check.name])
    return list(results.values())


def _run(check: Check, verification: Verification) -> tuple[Status, str]:
    try:
        return "passed", check.run(verification)
    except NotApplicable as reason:
        return "skipped", str(reason)
    except CliError as error:
        return "failed", error.message
    except Exception as error:  # noqa: BLE001  # one failure of any kind must not hide the other checks
        return "failed", f"{type(error).__name__}: {error}"


def restore_parameters(verification: Verification) -> None:
    """Give the stack's parameters the values that they had before the checks."""
    if verification.changed_parameters:
        verification.update_parameters(dict(verification.changed_parameters))
        verification.changed_parameters.clear()


def clean_up(verification: Verification) -> list[str]:
    """Undo what the checks did.

    Returns
    -------
    list of str
        What stays: what could not be removed, with the reason, and what nothing removes.
    """
    models = (verification.model, verification.rejected_model)
    steps: list[tuple[str, Callable[[], None]]] = [
        (f"parameters {verification.changed_parameters}", partial(restore_parameters, verification))
    ]
    steps += [(f"model {model}", partial(_delete_model, verification, model)) for model in models]
    data, artifacts = verification.target.output("DataBucketName"), verification.target.output("ModelsBucketName")
    prefixes = [(data, f"{folder}/{model}/") for model in models for folder in _FOLDERS]
    prefixes += [(artifacts, f"{model}/") for model in models]
    steps += [
        (f"s3://{bucket}/{prefix}", partial(_delete_objects, verification, bucket, prefix))
        for bucket, prefix in prefixes
    ]
    left = []
    for name, step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001  # the rest is still removed, and this is named
            left.append(f"{name}: {type(error).__name__}: {error}")
    table = verification.target.output("RegistryTableName")
    return [
        *left,
        f"the ledgers of {' and '.join(models)} in the table {table}, which nothing deletes",
        "log lines, metrics and executions of Step Functions, until they expire",
        f"s3://{data}/captures/{verification.model}/: rows of the last requests may still arrive, and expire",
    ]


def _delete_model(verification: Verification, model: str) -> None:
    try:
        verification.api.delete(f"/models/{model}", {"reason": "verification of the stack"})
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise


def _delete_objects(verification: Verification, bucket: str, prefix: str) -> None:
    """Delete every version of every object under a prefix."""
    s3 = verification.target.client("s3")
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        objects = [{"Key": entry["Key"], "VersionId": entry["VersionId"]} for entry in found]
        if objects:
            errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True}).get("Errors")
            if errors:
                raise CheckError(f"{errors[0].get('Code')}: {errors[0].get('Message')}")


def make_rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return rows of features; the same seed gives the same rows."""
    return [{name: value for name, value in row.items() if name != "label"} for row in _rows(count, seed)]


def write_table(path: Path, count: int, seed: int = 2) -> Path:
    """Write a table with a target that follows from its features, with noise; returns its path."""
    lines = [",".join(_COLUMNS), *(",".join(str(row[name]) for name in _COLUMNS) for row in _rows(count, seed))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    generator = random.Random(seed)  # noqa: S311  # rows need not be unpredictable
    for _ in range(count):
        age, plan = generator.randint(18, 80), generator.choice(["basic", "plus", "pro"])
        score = (age - 49) / 12 + (1.5 if plan == "pro" else -0.5) + generator.gauss(0, 0.6)
        joined = f"20{generator.randint(10, 25)}-{generator.randint(1, 12):02d}-{generator.randint(1, 28):02d}"
        active = generator.choice(["yes", "no"])
        yield {"age": age, "plan": plan, "joined": joined, "active": active, "label": int(score > 0)}
