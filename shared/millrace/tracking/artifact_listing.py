"""Lists of artifacts, for pages that cannot list the bucket themselves; clients of S3 do."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from millrace.errors import FieldError, InvalidInputError
from millrace.tracking.arguments import TEXT, required
from millrace.tracking.logged_models import find_logged_model
from millrace.tracking.tracked_runs import find_run_record, read_run_id
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint

#: Entries of one response.
MAX_ENTRIES = 10_000


def list_artifact_entries(call: TrackingCall, root: str, path: str | None) -> dict[str, Any]:
    """Return the files and folders directly below a path of a root, by name.

    Of a root that is not in the bucket of models nothing is listed: this function may not read others.
    """
    if path and (
        path.startswith(("/", "\\")) or ".." in path.replace("\\", "/").split("/") or ":" in path.split("/")[0]
    ):
        raise InvalidInputError("Invalid path", [FieldError("path", "leaves the folder of the artifacts")])
    location, own = urlsplit(root), urlsplit(call.artifact_root)
    if (location.scheme, location.netloc) != (own.scheme, own.netloc) or not location.path.startswith(own.path + "/"):
        return {"root_uri": root, "files": []}
    begin = location.path.strip("/") + "/"
    prefix = begin + (path.strip("/") + "/" if path else "")
    found: dict[str, dict[str, Any]] = {}
    for listed in call.objects.list(prefix):
        name, slash, _ = listed.key[len(prefix) :].partition("/")
        entry = listed.key[len(begin) : len(prefix)] + name
        if name:
            found[entry] = (
                {"path": entry, "is_dir": True} if slash else {"path": entry, "is_dir": False, "file_size": listed.size}
            )
        if len(found) == MAX_ENTRIES:
            break
    return {"root_uri": root, "files": [found[name] for name in sorted(found)]}


def _list(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    run = find_run_record(call, read_run_id(arguments)).record
    return list_artifact_entries(call, run.artifact_uri, arguments.get("path"))


def _list_of_model(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    model = find_logged_model(call, arguments["model_id"]).record
    return list_artifact_entries(call, model.artifact_uri, arguments.get("artifact_directory_path"))


ENDPOINTS = (
    TrackingEndpoint(("GET",), "artifacts/list", _list, {"run_id": TEXT, "run_uuid": TEXT, "path": TEXT}),
    TrackingEndpoint(
        ("GET",),
        "logged-models/{model_id}/artifacts/directories",
        _list_of_model,
        {"model_id": required(TEXT), "artifact_directory_path": TEXT},
    ),
)
