"""Which version of an object an upload event means, when the event does not say so.

S3 names the version in its events, local stand-ins for it may not. The cause of a run is the exact bytes, so the
version is looked up by the content's ETag; where the same bytes were uploaded twice, one version stands for both.
"""

from collections.abc import Mapping
from typing import Any

from millrace.ports import ObjectStore


def with_version_id(event: Mapping[str, Any], data_store: ObjectStore) -> Mapping[str, Any]:
    """Return an event that names its object's version; any other event is returned as it is.

    Raises
    ------
    ArtifactNotFoundError
        When no version of the object has that content (any more).
    """
    if event.get("source") != "aws.s3":
        return event
    detail = event.get("detail") or {}
    uploaded = detail.get("object") or {}
    if uploaded.get("version-id") or not uploaded.get("key") or not uploaded.get("etag"):
        return event
    version_id = data_store.find_version(uploaded["key"], uploaded["etag"])
    return {**event, "detail": {**detail, "object": {**uploaded, "version-id": version_id}}}
