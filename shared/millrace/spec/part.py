"""What every part of a spec has in common."""

from pydantic import BaseModel, ConfigDict


class SpecPart(BaseModel):
    """Base of every part of a spec: frozen, and an unknown field is an error, because it is a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
