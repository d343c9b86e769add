"""Reading of settings: the only module that reads the environment.

A function declares its settings as a frozen dataclass; :func:`load_settings` reads every field from the environment
variable of the same name in capitals, once, and names *all* missing or malformed ones together.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from millrace.errors import ConfigurationError

SettingsT = TypeVar("SettingsT")


def parse_settings(settings_class: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Build ``settings_class`` from a mapping of environment variables.

    Raises ``ConfigurationError``, which names every missing and every malformed variable.
    """
    values: dict[str, object] = {}
    missing: list[str] = []
    malformed: list[str] = []
    for field in fields(settings_class):  # type: ignore[arg-type]  # every settings class is a dataclass
        variable = field.name.upper()
        text = environment.get(variable, "").strip()
        if not text:
            if field.default is MISSING:
                missing.append(variable)
            continue
        parse, expected = _parser(field.type)
        try:
            values[field.name] = parse(text)
        except (ValueError, KeyError):
            malformed.append(f"{variable}={text!r} is not {expected}")
    if missing or malformed:
        faults = [f"missing environment variables: {', '.join(missing)}"] if missing else []
        faults += [f"malformed environment variables: {', '.join(malformed)}"] if malformed else []
        raise ConfigurationError("; ".join(faults))
    return settings_class(**values)


def _parser(kind: Any) -> tuple[Callable[[str], object], str]:
    """Return the parser of a field's type, and a name of the type for messages."""
    if get_origin(kind) is Literal:
        allowed = {value: value for value in get_args(kind)}
        return allowed.__getitem__, " or ".join(allowed)
    if kind is bool:
        return {"true": True, "false": False}.__getitem__, "true or false"
    return kind, kind.__name__


@cache
def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read ``settings_class`` from this process's environment, once per execution environment."""
    return read_settings(settings_class)


def read_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read ``settings_class`` as :func:`load_settings` does, and keep nothing."""
    return parse_settings(settings_class, os.environ)


def runs_on_lambda() -> bool:
    """Return True in a process of Lambda; tests and tools on a laptop need not start as fast."""
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ


def is_snapshotted() -> bool:
    """Return True where Lambda starts the process for a snapshot, which later processes begin from (SnapStart)."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
