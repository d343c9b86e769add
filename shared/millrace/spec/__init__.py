"""Spec of a model; every field has a default. ``model_spec`` is the whole, each other module a part."""

from millrace.spec.model_spec import ModelSpec
from millrace.spec.part import invalid_input

__all__ = [
    "ModelSpec",
    "data",
    "expressions",
    "invalid_input",
    "monitoring",
    "operations",
    "part",
    "release",
    "training",
]
