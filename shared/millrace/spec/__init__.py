"""What a user may say about a model, stage by stage; every field has a default.

``model`` is the whole, and each other module the part of one stage of the life cycle.
"""

from millrace.spec.capture import CaptureSpec
from millrace.spec.errors import invalid_input
from millrace.spec.gate import GateSpec
from millrace.spec.model import MAX_COLUMNS, ModelSpec
from millrace.spec.registry import ApprovalSpec, RetentionSpec
from millrace.spec.training import ParameterRange, TrainingSpec

__all__ = [
    "MAX_COLUMNS",
    "ApprovalSpec",
    "CaptureSpec",
    "GateSpec",
    "ModelSpec",
    "ParameterRange",
    "RetentionSpec",
    "TrainingSpec",
    "invalid_input",
]
