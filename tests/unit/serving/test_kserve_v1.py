import json
from typing import Any

import pytest
from millrace.errors import InvalidInputError, UnsupportedMediaTypeError
from millrace.schema import Column, TableSchema
from millrace.serving.protocols.kserve_v1 import KSERVE_V1
from millrace.serving.request import Request

SCHEMA = TableSchema((Column("a", "integer"), Column("b", "category"), Column("y", "number", "target")), "regression")


def read(document: Any, content_type: str = "application/json") -> Any:
    request = Request(json.dumps(document).encode(), {"content-type": content_type}, {})
    return KSERVE_V1.read(request, SCHEMA, 10).table


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize("rows", [[[1, "x"], [2, "y"]], [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]])
def test_instances_are_lists_or_objects(key, rows):
    table = read({key: rows})
    assert (list(table.column("a")), list(table.column("b"))) == ([1, 2], ["x", "y"])


@pytest.mark.parametrize(
    "document", [{}, {"instances": [[1, "x"]], "inputs": []}, {"instances": [[1, "x"]], "params": {}}, {"instances": 5}]
)
def test_other_shapes_are_refused(document):
    with pytest.raises(InvalidInputError):
        read(document)


def test_only_json_is_read():
    with pytest.raises(UnsupportedMediaTypeError):
        read({"instances": [[1, "x"]]}, "text/csv")


def test_an_error_of_the_content_type_keeps_its_status():
    assert KSERVE_V1.write_error(UnsupportedMediaTypeError("no"), {"message": "no"}) == (415, {"error": "no"})
