"""How many rows fit into the memory of one training function, and what training costs."""

from collections.abc import Iterable
from dataclasses import dataclass

from millrace.registry.entities import Trial
from millrace.training.prepared_size import PreparedSize

#: Python with scikit-learn, ONNX Runtime and the converter loaded, and what a model itself takes.
FIXED_BYTES = 500_000_000

#: Copies of the prepared rows, and of the encoded matrix, that fitting holds at its peak; see docs/training.md.
ROW_COPIES = 2.0
ENCODED_COPIES = 4.0

#: Share of the memory that is planned with.
USABLE_SHARE = 0.9

#: AWS Lambda, x86, first tier, us-east-1: dollars a GB-second. Other regions and tiers differ a little.
USD_PER_GB_SECOND = 0.0000166667


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a training function can hold.

    Parameters
    ----------
    memory_mb : int
        Its memory.
    """

    memory_mb: int

    def max_rows(self, size: PreparedSize, encoded_columns: int) -> int:
        """Return how many training rows fit, with a like share of the validation split.

        Parameters
        ----------
        size : PreparedSize
            Of the run's prepared data.
        encoded_columns : int
            Width of the widest matrix that a candidate fits on, in float32.
        """
        prepared = (size.train_bytes + size.validation_bytes) / max(1, size.train_rows)
        each = ROW_COPIES * prepared + ENCODED_COPIES * 4 * encoded_columns
        usable = self.memory_mb * 2**20 * USABLE_SHARE - FIXED_BYTES
        return max(0, int(usable / max(1.0, each)))

    def cost_usd(self, seconds: float) -> float:
        """Return what so many seconds of the function cost by the list price."""
        return seconds * self.memory_mb / 1024 * USD_PER_GB_SECOND


def seconds_spent(trials: Iterable[Trial]) -> float:
    """Return how long trials have run so far, earlier rounds included."""
    return sum(
        (trial.duration_seconds or 0.0) + sum(earlier["duration_seconds"] or 0.0 for earlier in trial.earlier_rounds)
        for trial in trials
    )
