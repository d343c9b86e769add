"""Number of iterations of boosting, from its loss on rows that it is not fitted on.

A trial with :data:`PATIENCE` among its parameters has iterations only as long as they pay. Where folds rank the trials,
every fold's loss is measured while it is fitted; the rows of a fold are then predicted by as many iterations as the
*other* folds need, or as many as the fold has. Without folds the validation rows stop the one fit, and are divided
themselves: each part is predicted by as many iterations as the other parts need.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

#: The parameter: iterations without a lower loss after which boosting stops. No estimator knows it.
PATIENCE = "patience"
DEFAULT_PATIENCE = 20
Losses = npt.NDArray[np.float64]


def stops_early(parameters: Mapping[str, Any]) -> bool:
    """Return whether the iterations of a trial are not yet known."""
    return PATIENCE in parameters


def fixed(parameters: Mapping[str, Any], iterations: int | None) -> dict[str, Any]:
    """Return the parameters of an estimator with so many iterations; without any where it does not stop early."""
    known = {name: value for name, value in parameters.items() if name != PATIENCE}
    return known if iterations is None else known | {"max_iter": iterations}


def stopping(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of an estimator that stops by the loss of rows beside its own."""
    rule = {"early_stopping": True, "n_iter_no_change": parameters[PATIENCE], "scoring": "loss", "tol": 0.0}
    return fixed(parameters, None) | rule


def losses_of(estimator: Any) -> Losses:
    """Return the loss after each iteration, that of the baseline first."""
    return -np.asarray(estimator.validation_score_, dtype=np.float64)


def losses_of_parts(losses: Iterable[Losses], part_of: npt.NDArray[np.int64]) -> list[Losses]:
    """Return the mean loss of each part of some rows after each iteration, from the rows' own losses after each.

    As in :func:`losses_of`, the baseline comes first; nobody stops there.
    """
    parts = [part_of == part for part in np.unique(part_of)]
    means = np.array([[own[part].mean() for part in parts] for own in losses])
    return [np.concatenate([[np.inf], curve]) for curve in means.T]


def best_iteration(curves: Sequence[Losses]) -> int:
    """Return the iteration of the lowest mean loss, at least the first; a fit that stopped has its last loss on."""
    most = max(len(curve) for curve in curves)
    padded = [np.concatenate([curve, np.full(most - len(curve), curve[-1])]) for curve in curves]
    return max(1, int(np.argmin(np.mean(padded, axis=0))))


def truncate(estimator: Any, iterations: int) -> None:
    """Take away the trees after so many iterations."""
    estimator._predictors = estimator._predictors[:iterations]
