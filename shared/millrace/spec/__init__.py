"""Spec of a model; every field has a default. ``model`` is the whole, each other module a part."""

from millrace.spec.model_spec import ModelSpec
from millrace.spec.operations import ApprovalSpec, CaptureSpec, RetentionSpec
from millrace.spec.part import invalid_input
from millrace.spec.training import GateSpec, ParameterRange, TrainingSpec

__all__ = [
    "ApprovalSpec",
    "CaptureSpec",
    "GateSpec",
    "ModelSpec",
    "ParameterRange",
    "RetentionSpec",
    "TrainingSpec",
    "invalid_input",
]
