"""The template as AWS's SAM transform turns it into CloudFormation's own types."""

import json
import os
import subprocess
from functools import cache
from typing import Any

import pytest

from tests.template.template_file import ROOT, load_template

SAM_PYTHON = ROOT / ".millrace" / "tools" / "sam" / "bin" / "python"
REGION = "eu-west-1"

_TRANSLATE = """
import json, sys
from unittest import mock
from samtranslator.translator.translator import Translator
from samtranslator.parser.parser import Parser
request = json.load(sys.stdin)
translated = [
    Translator({}, Parser()).translate(template, parameters) for template, parameters in request
]
json.dump(translated, sys.stdout)
"""


def copy_template() -> dict[str, Any]:
    """Return a copy of the template as ``sam deploy`` sends it: folders and files are objects in S3."""
    template: dict[str, Any] = json.loads(json.dumps(load_template()))
    for logical_id, body in template["Resources"].items():
        properties = body.get("Properties", {})
        for name in {"CodeUri", "ContentUri", "DefinitionUri"} & set(properties):
            properties[name] = f"s3://artifacts/{logical_id}-1"
    return template


def translate(*requests: tuple[dict[str, Any], dict[str, str]]) -> list[dict[str, Any]]:
    """Translate templates, each with values of parameters that differ from the defaults."""
    if not SAM_PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("sam is not installed; `make tools` does it")
        pytest.skip("sam is not installed; `make tools` does it")
    filled = []
    for template, values in requests:
        defaults = {name: str(parameter["Default"]) for name, parameter in template["Parameters"].items()}
        filled.append((template, defaults | values))
    done = subprocess.run(
        [str(SAM_PYTHON), "-c", _TRANSLATE],
        input=json.dumps(filled),
        env={"PATH": os.environ["PATH"], "AWS_DEFAULT_REGION": REGION},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    translated: list[dict[str, Any]] = json.loads(done.stdout)
    return translated


@cache
def translated_template() -> dict[str, Any]:
    """Return the translated template with the default parameters. Callers must not change it."""
    (translated,) = translate((copy_template(), {}))
    return translated
