"""Numbers, shares and moments as people read them."""

import math
from datetime import UTC, datetime

NOT_KNOWN = "\N{EN DASH}"

_DIGITS = 4
_LARGE = 1e6
_TINY = 1e-4
_SMALL_SHARE = 0.001
_LARGE_SHARE = 0.1
#: From which value on a unit is used, the unit, and its name.
_UNITS = ((1e12, 1e12, " T"), (1e9, 1e9, " B"), (1e6, 1e6, " M"), (1e4, 1e3, " k"))


def number(value: float | None) -> str:
    """Return a quantity with about four significant digits: ``1,204``, ``0.3125``, ``1.2e+09``."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if value == int(value) and abs(value) < _LARGE:
        return f"{int(value):,}"
    if abs(value) >= _LARGE or abs(value) < _TINY:
        return f"{value:.{_DIGITS}g}"
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    written = f"{value:,.{decimals}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def short_number(value: float) -> str:
    """Return a quantity for an axis, where there is little room: ``12 k``, ``1.5 M``."""
    for least, factor, unit in _UNITS:
        if abs(value) >= least:
            return f"{value / factor:.3g}{unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def count(value: int | None, one: str = "", many: str = "") -> str:
    """Return how many there are, with the noun when one is given: ``1 row``, ``2,000 rows``."""
    if value is None:
        return NOT_KNOWN
    noun = one if value == 1 else many or f"{one}s"
    return f"{value:,} {noun}" if one else f"{value:,}"


def share(value: float | None) -> str:
    """Return a share as a percentage; a small one is never shown as nothing, nor nearly all as all."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if 0 < value < _SMALL_SHARE:
        return "<0.1 %"
    if 1 - _SMALL_SHARE < value < 1:
        return ">99.9 %"
    near_an_end = 0 < value < _LARGE_SHARE or 1 - _LARGE_SHARE < value < 1
    return f"{value:.{1 if near_an_end else 0}%}".replace("%", " %")


def moment(value: str | None) -> str:
    """Return an ISO 8601 moment as ``2026-05-03 14:15 UTC``, and a midnight as a day; other text as it is."""
    if not value:
        return NOT_KNOWN
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return value
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    written = parsed.isoformat(" ", "minutes")[:16]
    midnight = (parsed.hour, parsed.minute, parsed.second) == (0, 0, 0)
    return written[:10] if midnight else f"{written} UTC"


def seconds(value: float | None) -> str:
    """Return seconds since 1970 as :func:`moment` writes them; what no calendar holds, as a number."""
    if value is None:
        return NOT_KNOWN
    try:
        return moment(datetime.fromtimestamp(value, UTC).isoformat())
    except (OverflowError, ValueError, OSError):
        return number(value)
