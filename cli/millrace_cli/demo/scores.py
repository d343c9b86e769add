"""Served predictions against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

#: A model whose ranking is no better than this has learnt nothing.
CHANCE_AUC = 0.5


@dataclass(frozen=True, slots=True)
class ServedScore:
    """How good served predictions are.

    Parameters
    ----------
    accuracy : float
        Share of rows whose label is right.
    majority : float
        The accuracy of always naming the commonest class.
    roc_auc : float
        Area under the receiver operating characteristic of the positive class.
    """

    rows: int
    accuracy: float
    majority: float
    roc_auc: float

    @property
    def has_learnt(self) -> bool:
        """Whether the model beats always naming the commonest class, in ranking and in labels."""
        return self.accuracy > self.majority and self.roc_auc > CHANCE_AUC


def score_predictions(predictions: Sequence[Mapping[str, Any]], truth: Sequence[str], positive: str) -> ServedScore:
    """Compare predictions with the truth.

    Parameters
    ----------
    predictions : sequence of mapping
        Each with ``label`` and ``probabilities`` by class, as the API serves them.
    truth : sequence of str
        The right labels, as text.
    positive : str
        The class whose probability ranks the rows.

    Raises
    ------
    ValueError
        When there is not one prediction for each row.
    """
    labels = np.array([str(prediction["label"]) for prediction in predictions])
    right = np.array(truth)
    if len(labels) != len(right):
        raise ValueError(f"{len(labels)} predictions for {len(right)} rows")
    probabilities = np.array([float(prediction["probabilities"][positive]) for prediction in predictions])
    is_positive = right == positive
    return ServedScore(
        rows=len(right),
        accuracy=float(np.mean(labels == right)),
        majority=float(max(np.mean(is_positive), 1 - np.mean(is_positive))),
        roc_auc=float(roc_auc_score(is_positive, probabilities)),
    )
