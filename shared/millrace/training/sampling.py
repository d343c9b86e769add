"""Points that fill a search space evenly, whatever their number: a Halton sequence.

Planning has no scipy, and needs a few dozen points in a few dimensions, where a Halton sequence and scipy's Sobol
sequence serve alike. Each point depends on its index and the seed alone, so more trials never change the earlier ones.
"""

import numpy as np
import numpy.typing as npt

#: One base a dimension. Beyond these, successive points of a Halton sequence lie on lines.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def radical_inverse(index: int, base: int) -> float:
    """Return ``index`` written in ``base`` and mirrored at the point: 6 in base 2 is 110, hence 0.011, hence 0.375."""
    value, digit_value = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * digit_value
        digit_value /= base
    return value


def halton_points(count: int, dimensions: int, seed: int) -> npt.NDArray[np.float64]:
    """Return ``count`` points of the unit cube, shape (count, dimensions).

    The sequence of Halton, "On the efficiency of certain quasi-random sequences of points in evaluating
    multi-dimensional integrals", Numerische Mathematik 2, 1960, shifted modulo 1 by a random vector (Cranley and
    Patterson, SIAM Journal on Numerical Analysis 13, 1976), so that another seed gives other points.

    Raises
    ------
    ValueError
        When there are more dimensions than :data:`PRIMES`.
    """
    if dimensions > len(PRIMES):
        raise ValueError(f"{dimensions} dimensions, and at most {len(PRIMES)} can be filled evenly")
    points = np.array(
        [[radical_inverse(index, base) for base in PRIMES[:dimensions]] for index in range(1, count + 1)]
    ).reshape(count, dimensions)
    shift = np.random.default_rng(seed).random(dimensions)
    return np.asarray((points + shift) % 1.0)
