"""Explanations of a request's predictions: which output is explained, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix
from millrace.serving.explaining import Attribution, Output
from millrace.serving.loading import LoadedModel
from millrace.serving.rows import TypedRows
from millrace.serving.scorer import Scores


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a prediction is what it is.

    Parameters
    ----------
    label : Any
        The class whose probability is explained: the second of a binary task's, the predicted one of others; None for
        regression, whose value is.
    prediction : float
        That probability or value.
    features : tuple of str
        In the order of the attribution's values.
    attribution : Attribution
        Base value, and what each feature adds to it.
    """

    label: Any
    prediction: float
    features: tuple[str, ...]
    attribution: Attribution

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        known = {} if self.label is None else {"label": self.label}
        return {
            "output": "value" if self.label is None else "probability",
            **known,
            "prediction": self.prediction,
            "base_value": self.attribution.base_value,
            "attributions": dict(zip(self.features, self.attribution.values.tolist(), strict=True)),
            "standard_errors": dict(zip(self.features, self.attribution.standard_errors.tolist(), strict=True)),
        }


def explain_scores(loaded: LoadedModel, rows: TypedRows, scores: Scores) -> list[Explanation | None]:
    """Explain every prediction; None for rows that have none.

    Raises
    ------
    InvalidInputError
        When there are too many rows, or the version has no background.
    """
    explainer = loaded.explainer
    explainer.check_cost(rows.n_rows)
    total = rows.n_rows + len(rows.bad_rows)
    good = [row for row in range(total) if row not in rows.bad_rows]
    names = tuple(column.name for column in loaded.schema.features)
    found: list[Explanation | None] = [None] * total
    for place, row in enumerate(good):
        chosen = _choose_output(loaded, scores, row)
        if chosen is not None:
            label, prediction, output = chosen
            features = _objects(rows.features(place, place + 1), place)
            found[row] = Explanation(label, prediction, names, explainer.explain(features, output))
    return found


def _choose_output(loaded: LoadedModel, scores: Scores, row: int) -> tuple[Any, float, Output] | None:
    """Return the class to explain, its probability, and how to compute it; None where nothing finite was predicted."""
    if scores.values is not None:
        value = scores.values[row]
        return None if value is None else (None, value, loaded.onnx.run)
    probabilities: Sequence[float] | None = scores.probabilities[row]
    if probabilities is None:
        return None
    index = 1 if loaded.schema.task == "binary" else int(np.argmax(probabilities))

    def output(features: FeatureMatrix) -> npt.NDArray[np.float32]:
        return loaded.onnx.run(features)[:, index]

    return loaded.labels[index], probabilities[index], output


def _objects(features: FeatureMatrix, place: int) -> FeatureMatrix:
    """Return one row, with strings as objects; few rows come as a whole, whichever was asked for."""
    if len(features) > 1:
        features = features.take(np.array([place]))
    return FeatureMatrix(features.numbers, features.strings.astype(object))
