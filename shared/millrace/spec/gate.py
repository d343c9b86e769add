"""What a challenger must show."""

from typing import Literal

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
    champion_rule : {'not_worse', 'better'}, default='not_worse'
        What replaces a champion: a challenger that is not clearly worse, or only one that is clearly better.
    max_model_bytes : int, default=100_000_000
        Largest ONNX file that may serve.
    slice_floors : dict of str to float, default={}
        Least value of a metric (greatest, for errors and losses) on every slice that ``evaluation.slices`` declares.
    max_row_milliseconds : float or None, default=100.0
        What scoring one row may take at the 95th percentile; None for no limit.
    max_batch_milliseconds : float or None, default=5_000.0
        What scoring 1,000 rows at once may take at the 95th percentile; None for no limit.
    """

    floors: dict[str, float] = Field(default_factory=dict)
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    champion_rule: Literal["not_worse", "better"] = "not_worse"
    max_model_bytes: int = Field(default=100_000_000, gt=0)
    slice_floors: dict[str, float] = Field(default_factory=dict)
    max_row_milliseconds: float | None = Field(default=100.0, gt=0.0)
    max_batch_milliseconds: float | None = Field(default=5_000.0, gt=0.0)
