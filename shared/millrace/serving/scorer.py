"""Scoring: typed rows in, labels, probabilities and decisions out, for every dialect the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from millrace.errors import FieldError
from millrace.serving.loading import LoadedModel
from millrace.serving.rows import Notice, TypedRows

if TYPE_CHECKING:
    from millrace.serving.explanations import Explanation

#: Rows that are scored at once: matrices stay small whatever a request holds.
CHUNK_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says about the rows of a request, as plain Python values.

    A number that is not finite is None, and so is whatever belongs to a bad row.

    Parameters
    ----------
    classes : tuple of str
        In the order of ``probabilities``; empty for regression.
    labels : list
        The likeliest class of each row, as the value a caller knows; empty for regression.
    probabilities : list of (list of float or None)
        Of each row; empty for regression.
    decisions : list
        What to do about each row: the positive class from the threshold on that evaluation chose, the other below;
        the label where no threshold was chosen. Empty for regression.
    values : list of (float or None), or None
        The prediction for each row, for regression.
    notices : tuple of Notice
        What a caller should know about the rows.
    bad_rows : mapping of int to tuple of FieldError
        What is wrong with rows that were not scored.
    explanations : list of (Explanation or None), or None
        Of each row, where they were asked for.
    """

    classes: tuple[str, ...]
    labels: list[Any]
    probabilities: list[list[float] | None]
    decisions: list[Any]
    values: list[float | None] | None
    notices: tuple[Notice, ...] = ()
    bad_rows: Mapping[int, tuple[FieldError, ...]] = field(default_factory=dict)
    explanations: "list[Explanation | None] | None" = None


def score(loaded: LoadedModel, rows: TypedRows) -> Scores:
    """Score typed rows with a loaded model; bad rows have their places, and nothing in them."""
    chunks = [(start, min(start + CHUNK_ROWS, rows.n_rows)) for start in range(0, rows.n_rows, CHUNK_ROWS)]
    outputs = [loaded.onnx.run(rows.features(*chunk)) for chunk in chunks]
    output = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    scores = _values(output, rows) if loaded.schema.task == "regression" else _classes(loaded, output, rows)
    return _with_gaps(scores, rows) if rows.bad_rows else scores


def _values(output: Any, rows: TypedRows) -> Scores:
    values = output.tolist()
    if not np.isfinite(output).all():
        values = [value if known else None for value, known in zip(values, np.isfinite(output).tolist(), strict=True)]
    return Scores((), [], [], [], values, rows.notices)


def _classes(loaded: LoadedModel, output: Any, rows: TypedRows) -> Scores:
    names = loaded.labels
    probabilities = output.tolist()
    labels = [names[winner] for winner in output.argmax(axis=1).tolist()]
    decisions = labels
    if loaded.threshold is not None:
        positive, negative = names[loaded.threshold.index], names[1 - loaded.threshold.index]
        index, least = loaded.threshold.index, loaded.threshold.value
        decisions = [positive if row[index] >= least else negative for row in probabilities]
    if not np.isfinite(output).all():
        known = np.isfinite(output).all(axis=1).tolist()
        labels, probabilities, decisions = (
            [value if is_known else None for value, is_known in zip(values, known, strict=True)]
            for values in (labels, probabilities, decisions)
        )
    return Scores(loaded.schema.classes, labels, probabilities, decisions, None, rows.notices)


def _with_gaps(scores: Scores, rows: TypedRows) -> Scores:
    """Move the rows that were scored to where they stood in the request."""
    total = rows.n_rows + len(rows.bad_rows)

    def spread(values: list[Any]) -> list[Any]:
        remaining = iter(values)
        return [None if row in rows.bad_rows else next(remaining) for row in range(total)]

    return replace(
        scores,
        labels=spread(scores.labels) if scores.classes else [],
        probabilities=spread(scores.probabilities) if scores.classes else [],
        decisions=spread(scores.decisions) if scores.classes else [],
        values=None if scores.values is None else spread(scores.values),
        bad_rows=rows.bad_rows,
    )
