"""Every example of ``docs/serving.md`` is answered as the page says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from millrace.serving.protocols import PROTOCOLS

from tests.gateway import call, memory_handler
from tests.integration.application import Handler
from tests.template.template_file import ROOT

PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```http\n(\w+) (\S+)\n(?:Content-Type: (\S+)\n\n(.*?))?```\n(?:\n```json\n(.*?)```)?", re.DOTALL)
EXAMPLES = EXAMPLE.findall(PAGE)


@pytest.fixture(scope="module")
def handler() -> Iterator[Handler]:
    with memory_handler() as handler:
        yield handler


def shape(value: Any) -> Any:
    """Return what a reply is made of, whatever its numbers and identifiers."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value]
    return "number" if isinstance(value, float) else type(value).__name__


def test_the_page_has_examples():
    assert len(EXAMPLES) == PAGE.count("```http") == 14


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_a_protocol_has_a_row_and_a_section(protocol):
    rows = re.findall(r"^\| `(?:GET|POST) .*\| (.+?)(?:[,:].*)? \|$", PAGE, re.MULTILINE)
    assert protocol.title in rows
    assert f"\n## {protocol.title}\n" in PAGE


@pytest.mark.parametrize("parts", EXAMPLES, ids=lambda parts: parts[1])
def test_an_example_is_answered_as_the_page_says(handler, parts):
    method, path, content_type, body, expected = parts
    headers = {"Content-Type": content_type} if content_type else {}
    status, reply = call(handler, method, path, body or None, **headers)
    refused = "error_code" in expected
    assert status == (400 if refused else 200), reply
    if expected:
        assert shape(reply) == shape(json.loads(expected))
    if refused:
        assert reply == json.loads(expected)
