"""How much data one function takes: bounds that follow from its memory, and were measured, see docs/operations.md."""

from dataclasses import dataclass
from typing import Self

#: The memory that the bounds below were measured with, in MB: the template's default.
MEASURED_MEMORY = 3_008


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one upload, and of what a run trains on.

    Parameters
    ----------
    max_bytes : int
        That an upload may have, unpacked; of all its files together.
    max_rows : int
        That an upload may have.
    max_prepared_bytes : int
        That the matrices of all splits may have together.
    """

    max_bytes: int = 2_500_000_000
    max_rows: int = 15_000_000
    max_prepared_bytes: int = 400_000_000

    @classmethod
    def for_memory(cls, megabytes: int) -> Self:
        """Return the bounds of a function with so much memory; more than was measured does not widen them."""
        share = min(1.0, megabytes / MEASURED_MEMORY)
        whole = cls()
        return cls(
            max_bytes=round(whole.max_bytes * share),
            max_rows=round(whole.max_rows * share),
            max_prepared_bytes=round(whole.max_prepared_bytes * share),
        )

    def refusal(self, what: str) -> str:
        """Return the verdict on an upload that is larger than a function takes."""
        return (
            f"{what}; at most {self.max_bytes / 1e6:,.0f} MB, unpacked, and {self.max_rows:,} rows are read at once: "
            "upload it as several datasets, which are trained on together"
        )


DEFAULT_LIMITS = Limits()
