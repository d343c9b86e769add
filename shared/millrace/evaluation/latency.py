"""How long the ONNX session takes: for one row, and for a batch.

Whatever else runs on the machine only ever makes a call slower. So calls are timed in blocks, and the quietest
block's percentiles are what the gate judges: a neighbour would have to disturb every block to change the verdict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.features import FeatureMatrix
from millrace.serving.onnx_model import OnnxModel

#: Rows of a batch.
BATCH_ROWS = 1_000

WARM_UP_CALLS = 5
BLOCKS = 5
CALLS_OF_A_ROW = 40
CALLS_OF_A_BATCH = 8

#: Seconds after which no further block is begun: a model this slow has shown it.
MAX_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call, in the quietest block."""

    rows: int
    median: float
    p95: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"rows": self.rows, "p50_milliseconds": self.median, "p95_milliseconds": self.p95, "calls": self.calls}


def measure_latency(model: OnnxModel, features: FeatureMatrix, clock: Callable[[], float]) -> dict[str, Latency]:
    """Time one row and a batch of the holdout's rows, repeated where there are fewer.

    Parameters
    ----------
    clock : callable
        Seconds from any fixed point, monotonic.

    Returns
    -------
    dict of str to Latency
        ``row`` and ``batch``.
    """
    rows = [features.take(np.array([row % len(features)])) for row in range(CALLS_OF_A_ROW)]
    batch = features.take(np.arange(BATCH_ROWS) % len(features))
    return {
        "row": _time(model, rows, clock),
        "batch": _time(model, [batch] * CALLS_OF_A_BATCH, clock),
    }


def _time(model: OnnxModel, inputs: list[FeatureMatrix], clock: Callable[[], float]) -> Latency:
    for features in inputs[:WARM_UP_CALLS]:
        model.run(features)
    begun = clock()
    blocks: list[tuple[float, float]] = []
    while not blocks or (len(blocks) < BLOCKS and clock() - begun < MAX_SECONDS):
        taken = []
        for features in inputs:
            start = clock()
            model.run(features)
            taken.append(1_000.0 * (clock() - start))
        median, p95 = np.percentile(taken, [50, 95])
        blocks.append((float(median), float(p95)))
    median, p95 = min(blocks, key=lambda block: block[1])
    return Latency(len(inputs[0]), median, p95, len(blocks) * len(inputs))
