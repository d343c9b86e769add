"""The model's own reference: how it answered, and how well, on the holdout that let it in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from millrace.sketches.outcomes import ErrorSketch, OutcomeSketch
from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.tables import ColumnSketch
from millrace.sketches.values import ErrorsByValue, ValueSketch


@dataclass(frozen=True, slots=True)
class PredictionProfile:
    """How a version answered its holdout.

    Parameters
    ----------
    answers : AnswerSketch, or ValueSketch for regression
        Of every row.
    outcomes : OutcomeSketch, or ErrorSketch for regression
        Of every row.
    errors_by_value : ErrorsByValue or None, default=None
        Of a regression; None where an older release kept none.
    """

    answers: AnswerSketch | ColumnSketch
    outcomes: OutcomeSketch | ErrorSketch
    errors_by_value: ErrorsByValue | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document = {"answers": self.answers.to_dict(), "outcomes": self.outcomes.to_dict()}
        return document | ({"errors_by_value": self.errors_by_value.to_dict()} if self.errors_by_value else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        if "confusion" in document["outcomes"]:
            return cls(AnswerSketch.from_dict(document["answers"]), OutcomeSketch.from_dict(document["outcomes"]))
        errors = document.get("errors_by_value")
        return cls(
            ValueSketch.from_dict(document["answers"]),
            ErrorSketch.from_dict(document["outcomes"]),
            ErrorsByValue.from_dict(errors) if errors else None,
        )
