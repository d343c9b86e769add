"""Scoring typed rows: labels, probabilities, decisions and explanations, the same for every protocol."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.features import FeatureMatrix
from millrace.serving.array_column import ArrayColumn
from millrace.serving.model import CHUNK_ROWS, LoadedModel, Threshold
from millrace.serving.request import PredictionRequest
from millrace.serving.row_order import MIN_ROWS, RowOrder
from millrace.serving.rows import FEW_ROWS, RowWarning, TypedRows

if TYPE_CHECKING:
    from millrace.serving.explain import Explainer, Explanation, Output

_BAD_ROW = FieldError("*", "cannot be scored")


@dataclass(slots=True)  # a frozen one takes twice as long to make
class Scores:
    """Predictions for the rows of a request, in its order: plain Python values, or the arrays of many rows.

    A number that is not finite is None, and so is everything about a row in ``bad_rows``. For regression there are
    ``values`` alone. Else ``probabilities`` are in the order of ``classes``, a label is the most probable class as
    callers know it, and a decision the positive class from the threshold on that evaluation chose, or the label without
    one. ``explanations`` are there if requested, and so are the ``level`` of intervals, with the ``intervals`` of a
    regression, lower and upper end, or the ``sets`` of labels, most probable first.
    """

    classes: tuple[str, ...]
    labels: Sequence[Any]
    probabilities: Sequence[list[float] | None]
    decisions: Sequence[Any]
    values: Sequence[float | None] | None
    warnings: tuple[RowWarning, ...] = ()
    bad_rows: Mapping[int, tuple[FieldError, ...]] = field(default_factory=dict)
    explanations: "list[Explanation | None] | None" = None
    level: float | None = None
    intervals: list[list[float] | None] | None = None
    sets: list[list[Any] | None] | None = None
    is_finite: bool = True  # False where a good row has no prediction

    def __len__(self) -> int:
        return len(self.labels if self.values is None else self.values)

    def without_columns(self) -> "Scores":
        """Return scores that name no column: without warnings, and of bad rows only their numbers."""
        return replace(self, warnings=(), bad_rows=dict.fromkeys(self.bad_rows, (_BAD_ROW,)))


@dataclass(frozen=True, slots=True)
class Prediction:
    """A scored request: its good rows, and the scores of all its rows in their order."""

    loaded: LoadedModel
    request: PredictionRequest
    rows: TypedRows
    scores: Scores
    prediction_id: str


#: Further fields of :class:`Scores`, from the values or the probabilities of the good rows.
Extension = Callable[[Sequence[Any]], Mapping[str, Any]]


def score(loaded: LoadedModel, rows: TypedRows, extend: Extension = lambda _: {}) -> Scores:
    """Score typed rows; bad rows keep their places, with nothing in them."""
    output = _run(loaded, rows)
    finite = np.asarray(np.isfinite(output).reshape(len(output), -1).all(axis=1))
    known = None if finite.all() else finite
    if loaded.schema.task == "regression":
        values = ArrayColumn(output, known)
        scores = Scores((), [], [], [], _few_as_list(values), rows.warnings, is_finite=known is None, **extend(values))
    else:
        scores = _classify(loaded, output, known, rows.warnings, extend)
    return _with_gaps(scores, rows) if rows.bad_rows else scores


def _run(loaded: LoadedModel, rows: TypedRows) -> npt.NDArray[Any]:
    """Return the model's output; of many rows in the order in which it is computed faster."""
    # One row alone may be computed by other operations: which one that is must not depend on the order.
    if rows.n_rows >= MIN_ROWS and rows.n_rows % CHUNK_ROWS != 1:
        order = loaded.built(RowOrder.of_requests)
        if not order.is_as_they_come:
            return order.score(rows.features(0, rows.n_rows))
    chunks = [(start, min(start + CHUNK_ROWS, rows.n_rows)) for start in range(0, rows.n_rows, CHUNK_ROWS)]
    outputs = [loaded.onnx.run(rows.features(*chunk)) for chunk in chunks]
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


def score_block(loaded: LoadedModel, features: FeatureMatrix) -> npt.NDArray[Any]:
    """Return the model's output for a block of a job's rows, in the order in which it is computed faster."""
    return loaded.built(RowOrder.of).score(features)


def _classify(
    loaded: LoadedModel,
    output: npt.NDArray[Any],
    known: npt.NDArray[np.bool_] | None,
    warnings: tuple[RowWarning, ...],
    extend: Extension,
) -> Scores:
    names, probabilities = loaded.labels, ArrayColumn(output, known)
    labels = decisions = _few_as_list(ArrayColumn(most_probable(output), known, names))
    if loaded.threshold is not None:
        decisions = _few_as_list(ArrayColumn(decide_classes(output, loaded.threshold), known, names))
    further = {"is_finite": known is None, **extend(probabilities)}
    return Scores(loaded.schema.classes, labels, _few_as_list(probabilities), decisions, None, warnings, **further)


def _few_as_list(column: ArrayColumn) -> Sequence[Any]:
    """Return the values of few rows as a list: arrays would be more work for each of them."""
    return column.tolist() if len(column) <= FEW_ROWS else column


def score_row(
    loaded: LoadedModel, inputs: Mapping[str, Any], warnings: tuple[RowWarning, ...], extend: Extension | None
) -> tuple[Scores, npt.NDArray[Any], int | None]:
    """Score one row as :func:`score` does; raises ``ValueError`` where its prediction is not finite.

    Returns its scores, the model's output, and the class that was decided if it is not the label.
    """
    output = loaded.onnx.run_inputs(inputs)
    values = output.tolist()
    is_regression = loaded.schema.task == "regression"
    if not isfinite(values[0] if is_regression else sum(values[0])):
        raise ValueError("not finite")
    further = extend(values) if extend else {}
    if is_regression:
        return Scores((), [], [], [], values, warnings, **further), output, None
    (chances,) = values
    winner = decided = chances.index(max(chances))
    threshold, names = loaded.threshold, loaded.labels
    if threshold is not None:
        decided = threshold.index if chances[threshold.index] >= threshold.value else 1 - threshold.index
    scores = Scores(loaded.schema.classes, [names[winner]], values, [names[decided]], None, warnings, **further)
    return scores, output, None if decided == winner else decided


def most_probable(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the most probable class of each row, the first of equal ones."""
    return np.asarray(probabilities.argmax(axis=1))


def reach_threshold(probabilities: npt.NDArray[Any], threshold: Threshold) -> npt.NDArray[np.bool_]:
    """Return the mask of rows that are decided for the positive class: compared in float64, whatever the model has."""
    return np.asarray(probabilities[:, threshold.index].astype(np.float64) >= threshold.value)


def decide_classes(probabilities: npt.NDArray[Any], threshold: Threshold | None) -> npt.NDArray[np.intp]:
    """Return the class that is decided for each row: by the threshold, or the most probable one without."""
    if threshold is None:
        return most_probable(probabilities)
    positive = reach_threshold(probabilities, threshold)
    return np.where(positive, threshold.index, 1 - threshold.index)


def _with_gaps(scores: Scores, rows: TypedRows) -> Scores:
    """Move scored rows to their places in the request."""
    total = rows.n_rows + len(rows.bad_rows)
    places = np.array(rows.good_rows, dtype=np.intp)

    def spread(values: Sequence[Any]) -> Sequence[Any]:
        if isinstance(values, ArrayColumn):
            return values.spread(places, total)
        remaining = iter(values)
        return [None if row in rows.bad_rows else next(remaining) for row in range(total)]

    names = ("labels", "probabilities", "decisions", "sets") if scores.values is None else ("values", "intervals")
    columns = {name: getattr(scores, name) for name in names}
    spread_out: dict[str, Any] = {name: spread(values) for name, values in columns.items() if values is not None}
    return replace(scores, **spread_out, bad_rows=rows.bad_rows)


def explain_scores(loaded: LoadedModel, rows: TypedRows, scores: Scores) -> "list[Explanation | None]":
    """Explain every prediction; None for rows without one. Raises ``InvalidInputError`` for too many rows."""
    from millrace.serving.explain import Explanation  # noqa: PLC0415 - few requests need it

    explainer = loaded.built(load_explainer)
    explainer.check_cost(rows.n_rows)
    names = tuple(column.name for column in loaded.schema.features)
    found: list[Explanation | None] = [None] * (rows.n_rows + len(rows.bad_rows))
    for place, row in enumerate(rows.good_rows):
        prediction = scores.probabilities[row] if scores.values is None else scores.values[row]
        if prediction is not None:
            label, prediction, output = explained_output(loaded, prediction)
            features = rows.features(place, place + 1)
            if len(features) > 1:  # few rows come all at once
                features = features.take(np.array([place]))
            features = FeatureMatrix(features.numbers, features.strings.astype(object))
            found[row] = Explanation(label, prediction, names, explainer.explain(features, output))
    return found


def load_explainer(loaded: LoadedModel) -> "Explainer":
    """Return what explains a version's predictions; ``InvalidInputError`` when it has no rows to compare with."""
    from millrace.serving.explain import Explainer, load_background  # noqa: PLC0415 - few requests need it

    if loaded.read_background is None:
        message = f"version {loaded.version} of {loaded.model} was registered without data for explanations"
        raise InvalidInputError(f"{message}: train it again")
    return Explainer(loaded.schema, load_background(loaded.read_background()))


def explained_output(loaded: LoadedModel, prediction: Any) -> "tuple[Any, float, Output]":
    """Return the class to explain, its probability, and its function; of a regression None, the value, and the model's.

    ``prediction`` holds the probabilities of a row, or its value.
    """
    if loaded.schema.task == "regression":
        return None, prediction, loaded.onnx.run
    index = 1 if loaded.schema.task == "binary" else int(np.argmax(prediction))

    def output(features: FeatureMatrix) -> npt.NDArray[np.float32]:
        return loaded.onnx.run(features)[:, index]

    return loaded.labels[index], prediction[index], output
