"""The server itself: its version, its features, and the page that printed links lead to."""

from collections.abc import Mapping
from typing import Any

from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint

#: The newest version whose clients send no traces: from 3.4 on they would, to endpoints that a registry of tabular
#: models does not have.
VERSION = "3.3.0"
PAGE = """<!doctype html><html lang="en"><title>Millrace</title>
<p>This is Millrace's MLflow API. Set <code>MLFLOW_TRACKING_URI</code> to this address and
<code>MLFLOW_TRACKING_AUTH=millrace</code>; runs are listed by <code>mlflow.search_runs()</code>.</p></html>"""


def _describe(_call: TrackingCall, _arguments: Arguments) -> Mapping[str, Any]:
    return {
        "store_type": None,
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": False,
        "multipart_downloads_enabled": False,
        "features_enabled": {"gateway": False},
    }


#: Texts by their path below the prefix of the API.
TEXTS: Mapping[str, str] = {"/version": VERSION, "/health": "OK", "/": PAGE}
ENDPOINTS = (TrackingEndpoint(("GET",), "server-info", _describe, api="3.0"),)
