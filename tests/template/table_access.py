"""The access of functions to the registry's tables and to objects, as their policies in the template grant it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NamedTuple

from tests.template.template_file import as_list, functions, walk


class Grant(NamedTuple):
    """An action on a table, in the partitions that match one of the patterns."""

    action: str
    table: str
    partitions: tuple[str, ...]


def _tables(resource: Any) -> Iterator[str]:
    for part in as_list(resource):
        if isinstance(part, dict) and part.get("Fn::GetAtt", [""])[0].endswith("Table"):
            yield part["Fn::GetAtt"][0]


@cache
def grants(logical_id: str) -> frozenset[Grant]:
    """Return what a function may do with the tables."""
    found = set()
    for part in walk(functions()[logical_id]["Policies"]):
        if not isinstance(part, dict) or part.get("Effect") != "Allow":
            continue
        conditions = [
            key for operator in part.get("Condition", {}).values() for key in [operator.get("dynamodb:LeadingKeys")]
        ]
        partitions = tuple(pattern for key in conditions for pattern in as_list(key))
        for table in _tables(part["Resource"]):
            found |= {Grant(action, table, partitions or ("*",)) for action in as_list(part["Action"])}
    return frozenset(found)


def is_granted(logical_id: str, action: str, table: str, partition: str) -> bool:
    """Return whether a function may do that to an item of a partition."""
    return any(
        (grant.action, grant.table) == (action, table)
        and any(fnmatchcase(partition, name) for name in grant.partitions)
        for grant in grants(logical_id)
    )


@cache
def object_grants(logical_id: str) -> frozenset[tuple[str, str, str]]:
    """Return the actions that a function may do with objects: action, bucket's logical id, pattern of keys."""
    found = set()
    for part in walk(functions()[logical_id]["Policies"]):
        if isinstance(part, dict) and part.get("Effect") == "Allow":
            for resource in as_list(part["Resource"]):
                arn = resource.get("Fn::Sub", "") if isinstance(resource, dict) else ""
                bucket, slash, pattern = str(arn).partition(".Arn}/")
                if slash:
                    found |= {(action, bucket.removeprefix("${"), pattern) for action in as_list(part["Action"])}
    return frozenset(found)


def may_use_object(logical_id: str, action: str, bucket: str, key: str) -> bool:
    """Return whether a function may do that to an object."""
    return any(
        (granted, name) == (action, bucket) and fnmatchcase(key, pattern)
        for granted, name, pattern in object_grants(logical_id)
    )
