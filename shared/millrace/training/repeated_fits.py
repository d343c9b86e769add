"""One network that is the average of several fits of a recipe, each with a seed of its own.

A network begins with weights that are drawn: two fits of one recipe differ, and their average errs less than either.
The fits are merged into one network whose hidden units are those of all, side by side, so that its ONNX form and the
proof of parity stay those of a single fit. It averages before the link: values, or log odds.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.linalg import block_diag
from sklearn.base import clone
from sklearn.neural_network import _multilayer_perceptron

#: Fits of a recipe that are averaged in a refit, by the least weight that it has there: the share that its draws have
#: in the error of an average falls with the square of the weight.
REPEATS = {0.6: 3, 0.3: 2}
#: Rows above which one fit is enough: fits differ less, and each takes longer.
MAX_REPEATED_ROWS = 20_000
NETWORK = "neural_network"
_GENERAL_INDEXING = _multilayer_perceptron._safe_indexing


@contextmanager
def plain_batches() -> Iterator[None]:
    """Let networks take the rows of a batch by index alone, in the place of scikit-learn's general function.

    That one asks of every batch anew whether it comes from a data frame, which is a third of a fit; rows are the same.
    A fit on another thread that is not done when this one ends goes on with the general function.
    """
    _multilayer_perceptron._safe_indexing = lambda rows, positions: rows[positions]
    try:
        yield
    finally:
        _multilayer_perceptron._safe_indexing = _GENERAL_INDEXING


def count_repeats(candidate: str, rows: int, weight: float = 1.0) -> int:
    """Return the number of fits of a recipe, of some weight in an average, whose mean is worth more than one.

    Fits of boosting differ too, but averages of trials hold two of them already.
    """
    if candidate != NETWORK or rows > MAX_REPEATED_ROWS:
        return 1
    return next((repeats for least, repeats in REPEATS.items() if weight >= least), 1)


def fit_repeatedly(network: Any, encoded: Any, target: Any, repeats: int) -> Any:
    """Return the merged fits of a network; the first has its own seed, each other the next one."""
    seed = network.random_state
    fits = [clone(network).set_params(random_state=seed + number) for number in range(repeats)]
    return merge_fits([fit.fit(encoded, target) for fit in fits])


def merge_fits(fits: Sequence[Any]) -> Any:
    """Return the first of some fitted networks, changed so that it predicts their average."""
    merged = fits[0]
    first, *hidden, last = zip(*(fit.coefs_ for fit in fits), strict=True)
    share = last[0].dtype.type(1 / len(fits))
    merged.coefs_ = [
        np.concatenate(first, axis=1),
        *(block_diag(*layer) for layer in hidden),
        np.concatenate(last, axis=0) * share,
    ]
    *inner, outer = zip(*(fit.intercepts_ for fit in fits), strict=True)
    merged.intercepts_ = [*map(np.concatenate, inner), np.mean(outer, axis=0)]
    merged.hidden_layer_sizes = [len(intercepts) for intercepts in merged.intercepts_[:-1]]
    return merged
