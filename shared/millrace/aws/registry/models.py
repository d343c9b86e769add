"""Models: state and spec."""

import json
from dataclasses import replace
from typing import Any

from millrace.aws.registry.keys import MODELS_PARTITION, SPEC, STATE, model_key
from millrace.aws.registry.serialisation import decode
from millrace.aws.registry.table import TableItems
from millrace.errors import ConflictError, ModelNotFoundError
from millrace.registry.entities import ModelState
from millrace.spec import ModelSpec


class ModelItems(TableItems):
    """State and spec of models."""

    def list_models(self) -> list[ModelState]:
        """Return every model's state, by name."""
        names = [item["model"]["S"] for item in self._table.query(MODELS_PARTITION, "MODEL#")]
        return [self.get_state(name) for name in sorted(names)]

    def get_state(self, model: str) -> ModelState:
        """Return a model's state; raises ``ModelNotFoundError``."""
        item: Any = self._table.get(model_key(model, STATE))
        if item is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        return decode_state(item)

    def get_spec(self, model: str) -> ModelSpec:
        """Return a model's spec, or the default one when none was given."""
        item: Any = self._table.get(model_key(model, SPEC))
        return ModelSpec() if item is None else ModelSpec.parse(json.loads(item["document"]["S"]))

    def put_spec(self, model: str, spec: ModelSpec) -> None:
        """Replace a model's spec."""
        self._table.put({**model_key(model, SPEC), "document": {"S": spec.model_dump_json()}})

    def set_schema_version(self, model: str, schema_version: int) -> None:
        """Make ``schema_version`` the current one; raises ``ConflictError`` unless it follows the present one."""
        followed = self._table.change(
            model_key(model, STATE),
            {"schema_version": schema_version},
            condition="schema_version = :present",
            present=schema_version - 1,
        )
        if not followed:
            present = self.get_state(model).schema_version
            raise ConflictError(f"schema version {schema_version} of {model!r} does not follow version {present}")


def decode_state(item: Any) -> ModelState:
    """Read a ``STATE`` item; aliases are a map of their own, so that one can be moved without the others."""
    state = decode(ModelState, {name: value for name, value in item.items() if name != "aliases"})
    return replace(state, aliases={alias: int(version["N"]) for alias, version in item["aliases"]["M"].items()})
