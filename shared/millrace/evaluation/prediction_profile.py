"""The winner's prediction profile: how it answered the holdout, in the cells that monitoring counts traffic in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.reference import describe_column
from millrace.evaluation.threshold import decisions
from millrace.schema import TableSchema
from millrace.sketches.cells import NumberCells, make_cells
from millrace.sketches.outcomes import ErrorSketch, OutcomeSketch
from millrace.sketches.predictions import Answers, AnswerSketch
from millrace.sketches.profile import PredictionProfile
from millrace.sketches.values import ErrorsByValue, ValueSketch

Array = npt.NDArray[Any]


def profile_predictions(
    schema: TableSchema,
    predictions: Array,
    target: Array,
    *,
    train_target: Array,
    threshold: float | None,
    groups: Mapping[str, Array],
) -> PredictionProfile | None:
    """Profile answers on a holdout.

    Parameters
    ----------
    predictions, target : array of shape (n_rows, n_classes) and (n_rows,)
        Of the holdout; predictions of shape (n_rows,) for regression.
    train_target : array of shape (n_train_rows,)
        A regression's answers are counted in its cells.
    threshold : float or None
        From which probability of the second class on it is the label; None takes the likeliest.
    groups : mapping of str to array of shape (n_rows,)
        Of the declared columns of groups.

    Returns
    -------
    PredictionProfile or None
        None for a regression whose target never varied.
    """
    named = {name: group_names(values) for name, values in groups.items()}
    if schema.task == "regression":
        cells = make_cells(describe_column(schema.target, train_target))
        if not isinstance(cells, NumberCells):
            return None
        values = predictions.astype(np.float64)
        truth = target.astype(np.float64)
        return PredictionProfile(
            ValueSketch.of(values, cells, named),
            ErrorSketch.of(values, truth, named, cells.center),
            ErrorsByValue.of(values, truth, cells),
        )
    decided = predictions.argmax(axis=1) if threshold is None else decisions(predictions, threshold)
    answers = Answers(decided.astype(np.int64), predictions.astype(np.float64), named)
    return PredictionProfile(AnswerSketch.of(answers), OutcomeSketch.of(answers, target.astype(np.int64)))


def group_names(values: Array) -> Sequence[str]:
    """Return the group of each row as monitoring writes it."""
    return ["missing" if _is_missing(value) else str(value) for value in values.tolist()]


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))
