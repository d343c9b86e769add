"""How much of a model's traffic is captured."""

from pydantic import Field

from millrace.spec.part import SpecPart


class CaptureSpec(SpecPart):
    """What is kept of predictions; it goes into each version's signature, and holds from the next version on.

    Parameters
    ----------
    sampling_rate : float, default=1.0
        Share of the requests that are captured; 0 captures nothing.
    max_rows : int, default=1000
        Rows of one request that are captured; of more, rows at equal distances.
    """

    sampling_rate: float = Field(default=1.0, ge=0.0, le=1.0)
    max_rows: int = Field(default=1_000, ge=1, le=100_000)
