"""Finding a run by its id alone, and the records of its trials."""

import json
from typing import Any

from botocore.exceptions import ClientError
from millrace.layout import trial_key

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError
from millrace_cli.target import Target

_NOT_FOUND = 404


def find_run(api: ApiClient, run_id: str, model: str | None = None) -> dict[str, Any]:
    """Return a run with its trials and its evaluation, whichever model's it is; raises ``CliError`` without one."""
    models = [model] if model else [str(state["model"]) for state in api.get("/models")["models"]]
    for name in models:
        try:
            document: dict[str, Any] = api.get(f"/models/{name}/runs/{run_id}")
        except ApiError as error:
            if error.status != _NOT_FOUND:
                raise
            continue
        return document
    raise CliError(f"no model has a run {run_id}", "list a model's runs: millrace runs MODEL")


def read_record(target: Target, run: dict[str, Any], trial_id: str | None) -> dict[str, Any] | None:
    """Return ``trial.json`` of a trial; None when there is none."""
    if not trial_id:
        return None
    try:
        record: dict[str, Any] = json.loads(read_model_object(target, run, trial_id, "trial.json"))
    except CliError:
        return None
    return record


def read_model_object(target: Target, run: dict[str, Any], trial_id: str, name: str) -> bytes:
    """Return one artifact of a trial; raises ``CliError`` when there is none."""
    key = trial_key(run["model"], run["run_id"], trial_id, name)
    return read_object(target, target.output("ModelsBucketName"), key)


def read_object(target: Target, bucket: str, key: str) -> bytes:
    """Return an object's bytes; raises ``CliError`` when there is none."""
    try:
        body: bytes = target.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404", "AccessDenied"):
            raise CliError(f"there is no {key} in {bucket}", "prepared data is kept for 30 days") from error
        raise
    return body
