"""Tail probabilities of the distributions that tests refer to; scipy is far too large for what is needed of it."""

import math

_SERIES_TERMS = 500
_PRECISION = 1e-12
_TINY = 1e-300


def normal_tail(z: float) -> float:
    """Return the probability that a standard normal value is greater than ``z``."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def chi_square_tail(statistic: float, degrees: int) -> float:
    """Return the probability that a chi-square value is greater than ``statistic``.

    The regularised incomplete gamma function, by its series below ``a + 1`` and by Lentz's continued fraction above
    (Press et al., *Numerical Recipes*, 3rd ed., section 6.2).
    """
    if statistic <= 0.0 or degrees < 1:
        return 1.0
    a, x = degrees / 2.0, statistic / 2.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        return max(0.0, 1.0 - scale * _gamma_series(a, x))
    return scale * _gamma_fraction(a, x)


def _gamma_series(a: float, x: float) -> float:
    term = total = 1.0 / a
    for step in range(1, _SERIES_TERMS):
        term *= x / (a + step)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _gamma_fraction(a: float, x: float) -> float:
    b = x + 1.0 - a
    c, d = 1.0 / _TINY, 1.0 / b
    fraction = d
    for step in range(1, _SERIES_TERMS):
        factor = -step * (step - a)
        b += 2.0
        d = 1.0 / _away_from_zero(factor * d + b)
        c = _away_from_zero(b + factor / c)
        fraction *= d * c
        if abs(d * c - 1.0) < _PRECISION:
            break
    return fraction


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def kolmogorov_tail(distance: float, first_rows: float, second_rows: float) -> float:
    """Return how likely two samples of one distribution are at least so far apart, by Kolmogorov's limit.

    With Stephens' correction for small samples (Stephens 1970, *J. R. Stat. Soc. B* 32: 115-122). On cells rather than
    raw values the distance can only be too small, so the probability errs towards "nothing changed".
    """
    if distance <= 0.0 or min(first_rows, second_rows) <= 0:
        return 1.0
    rows = math.sqrt(first_rows * second_rows / (first_rows + second_rows))
    reach = (rows + 0.12 + 0.11 / rows) * distance
    if reach < 0.2:  # noqa: PLR2004  # below, the alternating series has not converged, and the tail is 1 to 12 digits
        return 1.0
    total = 0.0
    for k in range(1, _SERIES_TERMS):
        term = math.exp(-2.0 * (k * reach) ** 2)
        total += term if k % 2 else -term
        if term < _PRECISION * _PRECISION:
            break
    return min(1.0, max(0.0, 2.0 * total))
