"""The specification of a model as it is applied: read, checked, and changed field by field."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, RefusedError


def change_spec(
    api: ApiClient, model: str, changes: Iterable[tuple[Sequence[str], Any]], reason: str
) -> dict[str, Any]:
    """Replace fields of a model's specification; returns the API's response.

    Parameters
    ----------
    changes : iterable of (path, value)
        A value of None restores the default.

    Raises
    ------
    RefusedError
        When the changed specification is invalid; lists every invalid field.
    """
    spec = read_applied_spec(api, model)
    for path, value in changes:
        part = spec
        for name in path[:-1]:
            part = part.setdefault(name, {})
            if not isinstance(part, dict):
                raise RefusedError(f"{'.'.join(path)} is not a field: {name} has no fields")
        if value is None:
            part.pop(path[-1], None)
        else:
            part[path[-1]] = value
    return api.put(
        f"/models/{model}/spec", {"spec": validate_spec(spec, "the changed specification"), "reason": reason}
    )


def read_applied_spec(api: ApiClient, model: str) -> dict[str, Any]:
    """Return the fields of a model's specification that differ from their defaults; none for an unknown model."""
    try:
        document = api.get(f"/models/{model}/spec")["spec"]
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return {}
    return ModelSpec.parse(document).model_dump(mode="json", exclude_defaults=True)


def validate_spec(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the fields that a specification sets; raises ``RefusedError`` with every invalid one."""
    try:
        return ModelSpec.parse(document).model_dump(mode="json", exclude_unset=True)
    except InvalidInputError as error:
        faults = [f"  {fault.field}: {fault.message}" for fault in error.fields]
        raise RefusedError("\n".join([f"{name} is not a valid specification", *faults])) from error
