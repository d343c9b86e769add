"""Comparison of predictions of one row with those of a batch."""

from typing import Any


def rounded(value: Any) -> Any:
    """Round every number to six digits: ONNX Runtime adds one row in another order than several, in float32."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 6) if isinstance(value, float) else value
