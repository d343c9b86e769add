"""What was asked of one version in some time, and what it answered."""

from dataclasses import dataclass

from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.tables import ColumnSketch, TableSketch


@dataclass(slots=True)
class Traffic:
    """What was asked of one version in a window, and what it answered.

    Parameters
    ----------
    features : TableSketch
        Of the rows.
    answers : AnswerSketch, ColumnSketch for regression, or None
        Of the rows; None when none could be read.
    """

    features: TableSketch
    answers: AnswerSketch | ColumnSketch | None = None

    def add(self, other: "Traffic") -> None:
        """Add another window's."""
        self.features.add(other.features)
        self.answers = _add_answers(self.answers, other.answers)


def _add_answers(
    total: AnswerSketch | ColumnSketch | None, other: AnswerSketch | ColumnSketch | None
) -> AnswerSketch | ColumnSketch | None:
    if total is None or other is None:
        return total or other
    if isinstance(total, AnswerSketch):
        if isinstance(other, AnswerSketch):
            total.add(other)
    elif isinstance(other, ColumnSketch):
        total.add(other)
    return total
