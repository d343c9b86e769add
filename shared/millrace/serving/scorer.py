"""Scoring: typed rows in, labels and probabilities out, for every dialect the same."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix, build_features
from millrace.serving.loading import LoadedModel
from millrace.serving.rows import Notice, TypedRows

#: Rows that are scored at once: matrices stay small whatever a request holds.
CHUNK_ROWS = 1_024


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model says about rows, as plain Python values; a number that is not finite is None.

    Parameters
    ----------
    classes : tuple of str
        In the order of ``probabilities``; empty for regression.
    labels : list
        The likeliest class of each row, as the value a caller knows; empty for regression.
    probabilities : list of (list of float or None)
        Of each row; empty for regression.
    values : list of (float or None), or None
        The prediction for each row, for regression.
    notices : tuple of Notice
        What a caller should know about the rows.
    """

    classes: tuple[str, ...]
    labels: list[Any]
    probabilities: list[list[float] | None]
    values: list[float | None] | None
    notices: tuple[Notice, ...] = ()


def score(loaded: LoadedModel, rows: TypedRows) -> Scores:
    """Score typed rows with a loaded model."""
    outputs = [loaded.onnx.run(_chunk_features(loaded, rows, start)) for start in range(0, rows.n_rows, CHUNK_ROWS)]
    output = outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    finite = np.isfinite(output)
    if loaded.schema.task == "regression":
        values = [value if known else None for value, known in zip(output.tolist(), finite.tolist(), strict=True)]
        return Scores((), [], [], values, rows.notices)
    known_rows: list[bool] = np.all(finite, axis=1).tolist()
    winners = output.argmax(axis=1).tolist()
    labels = loaded.labels
    return Scores(
        classes=loaded.schema.classes,
        labels=[labels[winner] if known else None for winner, known in zip(winners, known_rows, strict=True)],
        probabilities=[row if known else None for row, known in zip(output.tolist(), known_rows, strict=True)],
        values=None,
        notices=rows.notices,
    )


def _chunk_features(loaded: LoadedModel, rows: TypedRows, start: int) -> FeatureMatrix:
    stop = min(start + CHUNK_ROWS, rows.n_rows)
    chunk: dict[str, npt.NDArray[Any]] = {name: values[start:stop] for name, values in rows.columns.items()}
    return build_features(loaded.schema, chunk, stop - start)
