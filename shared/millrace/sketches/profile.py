"""The model's own reference: how it answered, and how well, on the holdout that let it in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from millrace.sketches.outcomes import ErrorSketch, OutcomeSketch
from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.tables import ColumnSketch


@dataclass(frozen=True, slots=True)
class PredictionProfile:
    """How a version answered its holdout.

    Parameters
    ----------
    answers : AnswerSketch, or ColumnSketch for regression
        Of every row.
    outcomes : OutcomeSketch, or ErrorSketch for regression
        Of every row.
    """

    answers: AnswerSketch | ColumnSketch
    outcomes: OutcomeSketch | ErrorSketch

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"answers": self.answers.to_dict(), "outcomes": self.outcomes.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        if "confusion" in document["outcomes"]:
            return cls(AnswerSketch.from_dict(document["answers"]), OutcomeSketch.from_dict(document["outcomes"]))
        return cls(ColumnSketch.from_dict(document["answers"]), ErrorSketch.from_dict(document["outcomes"]))
