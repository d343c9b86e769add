"""Everything that the adapters send is known to the least release of botocore that the runtime may bring."""

import ast
import json
import re
from functools import cache

import pytest
from botocore import xform_name

from tests.template.aws_calls import ACTIONS, ADAPTERS, AWS, CHANGES, parse
from tests.template.botocore_members import OPERATIONS, describe_release
from tests.template.template_file import ROOT

LEAST = json.loads((ROOT / "tests" / "template" / "least_botocore.json").read_text(encoding="utf-8"))
FILES = {(client, file) for _, client, file, _ in ADAPTERS.values()}
FILES |= {("s3", "serving_source.py"), ("dynamodb", "serving_source.py")}
#: Members begin with a capital letter, those of Step Functions with a small one.
MEMBER = re.compile(r"[A-Z][A-Za-z0-9]+\Z")
#: boto3's own, of transfers and paginators; keys of what is returned; and values of attributes.
NOT_SENT = {"ExtraArgs", "PaginationConfig", "MaxItems", "PageSize", "Params", "ExpiresIn"}
METHODS = {
    "download_file": "GetObject",
    "upload_fileobj": "CreateMultipartUpload",
    "list_objects_v2": "ListObjectsV2",
}


@cache
def members_of(client: str) -> frozenset[str]:
    """Return all members of the requests of a client."""
    return frozenset(name for key, names in LEAST["members"].items() if key.startswith(f"{client}.") for name in names)


def sent(tree: ast.Module):
    """Yield the names that a module may send: keywords of calls of a client, and literal keys of mappings."""
    for part in ast.walk(tree):
        if isinstance(part, ast.Call):
            of_client = re.search(r"_(client|s3|dynamodb)\.", ast.unparse(part.func))
            names = [keyword.arg for keyword in part.keywords if keyword.arg]
            yield from (name for name in names if of_client or MEMBER.match(name))
        elif isinstance(part, ast.Dict):
            keys = [key.value for key in part.keys if isinstance(key, ast.Constant)]
            yield from (key for key in keys if isinstance(key, str) and MEMBER.match(key))
        elif isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
            key = getattr(part.slice, "value", None)
            yield from [key] if isinstance(key, str) and MEMBER.match(key) else []


def unknown_names(tree: ast.Module, *clients: str) -> set[str]:
    return set(sent(tree)) - NOT_SENT - frozenset().union(*(members_of(client) for client in clients))


@pytest.mark.parametrize("file", sorted({file for _, file in FILES}))
def test_the_least_release_knows_all_that_is_sent(file):
    assert unknown_names(parse(AWS / file), *(client for client, name in FILES if name == file)) == set()


def test_every_call_is_in_the_table():
    known = {(client, xform_name(name)) for client, names in OPERATIONS.items() for name in names}
    called = {(client, method) for client, method in ACTIONS if method not in CHANGES}
    missing = {(client, method) for client, method in called - known if method not in METHODS}
    assert missing == set()
    assert {key.split(".")[1] for key in LEAST["members"]} == {name for names in OPERATIONS.values() for name in names}


def test_the_installed_release_knows_all_that_the_least_one_knows():
    installed = describe_release()["members"]
    assert [key for key, names in LEAST["members"].items() if set(names) - set(installed[key])] == []


@pytest.mark.parametrize(
    "source",
    [
        "self._client.put_object(Bucket=b, IfNewer=1)",
        "request['TimeMachine'] = 1",
        "extra = {'IfNewer': 1}\nself._client.put_object(**extra)",
        "self._client.get_paginator('query').paginate(IfNewer=1)",
    ],
)
def test_a_name_of_a_later_release_is_found(source):
    assert len(unknown_names(ast.parse(source), "s3", "dynamodb")) == 1
