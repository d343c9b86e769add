"""Artifacts for MLflow's pages: read from the bucket of models with the user's own credentials.

MLflow's server passes artifacts on; the stack has no server, and its clients read S3. An artifact may be any file that
somebody logged, so a browser saves it: it never runs as a page of the console.
"""

import re
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from werkzeug.wrappers import Response

from millrace_cli.console.mlflow.graphql import Ask
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.output import Document
from millrace_cli.target import Target, read_fault

_LOGGED_MODEL = re.compile(r"/ajax-api/2\.0/mlflow/logged-models/([\w-]+)/artifacts/files")
_OF_RUN = ("/get-artifact", "/ajax-api/2.0/mlflow/get-artifact")
_OF_VERSION = "/model-versions/get-artifact"
_CHUNK = 1 << 18
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "attachment",
    "Content-Type": "application/octet-stream",
}


def read_artifact(path: str, query: Mapping[str, str], ask: Ask, target: Target) -> Response | None:
    """Return the artifact that an address names; None for an address of no artifact.

    Raises
    ------
    ApiError
        When there is no such run, version or model.
    RefusedError
        When the artifact is outside the stack's bucket of models, or its path leads out of its folder.
    MissingObjectError
        When it is not there, or the caller may not read it.
    CliError
        When S3 returns another error.
    """
    found = _find_folder(path, query, ask)
    if found is None:
        return None
    folder, name = found
    if not name or any(part in ("", ".", "..") for part in name.split("/")):
        raise RefusedError(f"{name[:200]!r} is no path of an artifact")
    bucket = target.output("ModelsBucketName")
    inside = folder.removeprefix(f"s3://{bucket}/")
    if inside == folder:
        raise RefusedError(f"the artifacts are in {folder[:200]}, not in the stack's bucket of models")
    return _pass_on(target, bucket, f"{inside.rstrip('/')}/{name}")


def _find_folder(path: str, query: Mapping[str, str], ask: Ask) -> tuple[str, str] | None:
    """Return the address of the folder of an artifact, and the artifact's path in it."""
    if path in _OF_RUN:
        run: Document = ask("GET", "runs/get", {"run_id": query.get("run_uuid") or query.get("run_id", "")})["run"]
        return run["info"].get("artifact_uri", ""), query.get("path", "")
    if path == _OF_VERSION:
        version = {"name": query.get("name", ""), "version": query.get("version", "")}
        return ask("GET", "model-versions/get-download-uri", version).get("artifact_uri", ""), query.get("path", "")
    if model := _LOGGED_MODEL.fullmatch(path):
        info = ask("GET", f"logged-models/{model[1]}", {})["model"]["info"]
        return info.get("artifact_uri", ""), query.get("artifact_file_path", "")
    return None


def _pass_on(target: Target, bucket: str, key: str) -> Response:
    try:
        stored: dict[str, Any] = target.client("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        raise read_fault(error, bucket, key) from error
    except BotoCoreError as error:
        raise CliError(f"cannot read s3://{bucket}/{key}: {error}") from error
    response = Response(stored["Body"].iter_chunks(_CHUNK), headers=_HEADERS, direct_passthrough=True)
    response.content_length = stored["ContentLength"]
    return response
