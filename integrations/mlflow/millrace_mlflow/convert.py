"""Conversion of a scikit-learn model to ONNX, with a proof that both predict the same.

It runs where the model was trained, on rows of its own: Millrace loads no pickle. The proof compares predictions of the
rows, and of copies in which one column at a time is missing, extreme or unheard of; where the estimator itself refuses
such a copy, there is nothing to agree on, and the proof says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Probabilities and values may differ by the rounding of float32.
TOLERANCE = 1e-4
#: Rows that are compared, and the columns of which copies are made.
MAX_ROWS, MAX_COLUMNS = 1_000, 50
_EXTREMES = (0.0, -1e6, 1e6)
_UNHEARD_OF = "never seen before"
_MATRIX = "input"


class ParityError(RuntimeError):
    """The ONNX model predicts something else than its estimator."""


@dataclass(frozen=True)
class Proof:
    """Copies of the rows that were compared, and those that the estimator refused."""

    rows: int
    largest_difference: float
    compared: tuple[str, ...] = ()
    refused: tuple[str, ...] = field(default=())


def convert(estimator: Any, rows: Any) -> tuple[Any, Proof]:
    """Convert a fitted estimator or pipeline to ONNX.

    Parameters
    ----------
    estimator : scikit-learn estimator
        A classifier with `predict_proba`, or a regressor.
    rows : pandas.DataFrame
        Rows as it was fitted on: each column becomes an input, or, where all are numbers, all together one.

    Returns
    -------
    onnx.ModelProto, Proof

    Raises
    ------
    ParityError
        When the two differ.
    """
    from onnxruntime import InferenceSession
    from skl2onnx import to_onnx

    rows = rows.head(MAX_ROWS)
    options = {"zipmap": False} if hasattr(estimator, "predict_proba") else None
    model = to_onnx(estimator, initial_types=_inputs(rows), options={id(estimator): options} if options else None)
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    largest, compared, refused = 0.0, [], []
    for name, table in _copies(rows):
        try:
            expected = np.asarray(_predict(estimator, table), dtype=np.float64)
        except (ValueError, TypeError):
            refused.append(name)
            continue
        found = np.asarray(session.run(None, _feeds(session, table))[-1], dtype=np.float64).reshape(expected.shape)
        difference = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
        if not np.array_equal(np.isfinite(found), np.isfinite(expected)) or np.nanmax(difference) > TOLERANCE:
            row = int(np.nanargmax(difference.reshape(len(table), -1).max(axis=1)))
            raise ParityError(f"{name}, row {row}: ONNX predicts {found[row]}, the estimator {expected[row]}")
        largest = max(largest, float(np.nanmax(difference)))
        compared.append(name)
    return model, Proof(len(rows), largest, tuple(compared), tuple(refused))


def _predict(estimator: Any, rows: Any) -> Any:
    return estimator.predict_proba(rows) if hasattr(estimator, "predict_proba") else estimator.predict(rows)


def _inputs(rows: Any) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    numbers = [name for name in rows.columns if _is_number(rows[name])]
    if len(numbers) == len(rows.columns):
        return [(_MATRIX, FloatTensorType([None, len(numbers)]))]  # estimators without a pipeline take one input
    return [(str(name), (FloatTensorType if name in numbers else StringTensorType)([None, 1])) for name in rows.columns]


def _is_number(column: Any) -> bool:
    return column.dtype.kind in "fiub"


def _feeds(session: Any, rows: Any) -> dict[str, Any]:
    kinds = {one.name: one.type for one in session.get_inputs()}
    if list(kinds) == [_MATRIX]:
        return {_MATRIX: rows.to_numpy(np.float32)}
    return {
        name: rows[name].to_numpy(np.float32 if "float" in kind else object).reshape(-1, 1)
        for name, kind in kinds.items()
    }


def _copies(rows: Any) -> Any:
    """Yield the rows, and copies of them with one column changed, each with its name."""
    yield "the rows", rows
    for name in rows.columns[:MAX_COLUMNS]:
        if _is_number(rows[name]):
            for value in (float("nan"), *_EXTREMES):
                yield f"{name} = {value:g}", rows.assign(**{name: np.float32(value)})
        else:
            yield f"{name} = {_UNHEARD_OF!r}", rows.assign(**{name: _UNHEARD_OF})
