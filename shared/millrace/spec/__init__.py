"""Spec of a model; every field has a default. ``model`` is the whole, each other module a part."""

from millrace.spec.base import invalid_input
from millrace.spec.lifecycle import ApprovalSpec, CaptureSpec, RetentionSpec
from millrace.spec.model import ModelSpec
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
