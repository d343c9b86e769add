"""Which cell a number is in: what a binary search says, several times as fast.

A binary search mispredicts half of its branches. Here the range of the edges is cut into many buckets of equal width; a
table says how many edges lie below each bucket, and what is left are comparisons with the few edges inside it. Rounding
cannot move a value past an edge, because values and edges are put into buckets by the same two operations, and both are
monotone.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: The table has to stay in the processor's nearest cache.
_BUCKETS = 4_096
#: With more edges than this in one bucket, a binary search is as fast.
_MOST_ROUNDS = 4
#: For fewer values the search costs nothing.
_FEWEST_VALUES = 500


class EdgeFinder:
    """Finds how many edges a value has reached.

    Parameters
    ----------
    edges : float64 array of shape (n_edges,)
        Ascending.
    """

    def __init__(self, edges: Floats) -> None:
        self._edges = edges
        self._rounds = 0
        if not len(edges):
            return
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            self._factor = (_BUCKETS - 1) / (edges[-1] - edges[0])
        if not 0.0 < self._factor < np.inf:
            return
        buckets = self._buckets(edges)
        rounds = int(np.bincount(buckets).max())
        if rounds <= _MOST_ROUNDS:
            self._rounds = rounds
            self._below = np.searchsorted(buckets, np.arange(_BUCKETS), "left")
            self._next_edge = np.append(edges, np.inf)

    def locate(self, values: Floats) -> Indices:
        """Return ``numpy.searchsorted(edges, values, 'right')`` of values that are numbers."""
        if not self._rounds or len(values) < _FEWEST_VALUES:
            return np.searchsorted(self._edges, values, "right")
        found = self._below[self._buckets(values)]
        for _ in range(self._rounds):
            found += values >= self._next_edge[found]
        return found

    def _buckets(self, values: Floats) -> Indices:
        with np.errstate(over="ignore"):
            scaled = values - self._edges[0]
            scaled *= self._factor
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, _BUCKETS - 1.0, out=scaled)
        buckets: Indices = scaled.astype(np.int64)
        return buckets
