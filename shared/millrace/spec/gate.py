"""What a challenger must show."""

from pydantic import Field

from millrace.spec.part import SpecPart


class GateSpec(SpecPart):
    """What a challenger must show before it may serve.

    Parameters
    ----------
    floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses), by the metric's name.
    confidence : float, default=0.95
        Of the paired bootstrap interval that compares challenger and champion.
    max_model_bytes : int, default=100_000_000
        Largest ONNX file that may serve.
    """

    floors: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    max_model_bytes: int = Field(default=100_000_000, gt=0)
