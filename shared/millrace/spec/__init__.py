"""What a user may say about a model, stage by stage; every field has a default.

``model`` is the whole, and each other module the part of one stage of the life cycle.
"""

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
