"""Reading template.yaml as plain Python: intrinsic functions become their long form, anchors are resolved."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"

SHORT_FORMS_WITHOUT_PREFIX = frozenset({"Ref", "Condition"})


class IntrinsicLoader(yaml.SafeLoader):
    """A YAML loader that knows ``!Ref``, ``!Sub`` and the like."""


def _intrinsic(loader: yaml.Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in SHORT_FORMS_WITHOUT_PREFIX else f"Fn::{suffix}": value}


IntrinsicLoader.add_multi_constructor("!", _intrinsic)


@cache
def load_template() -> dict[str, Any]:
    """Read the template. Callers must not change it."""
    loaded: dict[str, Any] = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Loader=IntrinsicLoader)  # noqa: S506 - a SafeLoader
    return loaded


def resources(kind: str) -> dict[str, dict[str, Any]]:
    """Return the resources of one type by logical id."""
    return {name: body for name, body in load_template()["Resources"].items() if body["Type"] == kind}


def functions() -> dict[str, dict[str, Any]]:
    """Return the properties of every function by logical id."""
    return {name: body["Properties"] for name, body in resources("AWS::Serverless::Function").items()}


def function_folder(properties: dict[str, Any]) -> str:
    """Return the folder name of a function: the last part of its CodeUri."""
    return Path(properties["CodeUri"]).name


def layer_names(properties: dict[str, Any]) -> list[str]:
    """Return the logical ids of a function's layers, in order."""
    return [layer["Ref"] for layer in properties.get("Layers", [])]


def referenced(value: Any) -> str:
    """Return the logical id that a Ref or a GetAtt names; empty for anything else."""
    if isinstance(value, dict):
        if "Ref" in value:
            return str(value["Ref"])
        if "Fn::GetAtt" in value:
            return str(value["Fn::GetAtt"][0])
    return ""


def walk(value: Any) -> Iterator[Any]:
    """Yield a value and everything inside it."""
    yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def as_list(value: Any) -> list[Any]:
    """Return a value that may stand alone or in a list, as a list."""
    return value if isinstance(value, list) else [value]
