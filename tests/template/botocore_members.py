"""Members of the requests that the adapters send, as a release of botocore knows them.

The runtime brings its own botocore, whose version AWS changes by region and date. ``least_botocore.json`` holds the
members that the least release knows which has all that is used. It was written in an environment of its own::

    python -m venv least && least/bin/pip install botocore==1.35.69
    least/bin/python tests/template/botocore_members.py > tests/template/least_botocore.json
"""

import json
from typing import Any

OPERATIONS = {
    "s3": [
        "GetObject",
        "HeadObject",
        "PutObject",
        "CopyObject",
        "DeleteObjects",
        "ListObjectsV2",
        "ListObjectVersions",
        "CreateMultipartUpload",
    ],
    "dynamodb": [
        "GetItem",
        "BatchGetItem",
        "Query",
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "TransactWriteItems",
    ],
    "stepfunctions": ["StartExecution", "DescribeExecution", "StopExecution", "SendTaskSuccess"],
    "lambda": ["GetAccountSettings"],
    "events": ["PutEvents"],
    "sns": ["Publish"],
    "scheduler": ["GetSchedule", "CreateSchedule", "UpdateSchedule", "DeleteSchedule"],
    "cloudwatch": ["GetMetricData"],
}


def find_members(shape: Any, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of a shape's members, and those of the shapes inside it."""
    if shape is None or shape.name in seen:
        return set()
    seen |= {shape.name}
    inner = [getattr(shape, part, None) for part in ("member", "key", "value")]
    members = getattr(shape, "members", {})
    return set(members).union(*(find_members(each, seen) for each in (*members.values(), *inner) if each is not None))


def describe_release() -> dict[str, Any]:
    """Return the installed release's version, and by operation the members of its requests."""
    import botocore.session  # noqa: PLC0415  # the least release is installed in an environment of its own

    session = botocore.session.get_session()
    members = {}
    for client, operations in OPERATIONS.items():
        model = session.get_service_model(client)
        for operation in operations:
            members[f"{client}.{operation}"] = sorted(find_members(model.operation_model(operation).input_shape))
    return {"botocore": botocore.__version__, "members": members}


if __name__ == "__main__":
    print(json.dumps(describe_release(), indent=1))  # noqa: T201  # the output of a script
