"""Numbers, shares, timestamps and lists as text; the filters of the templates."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.quantities import format_number

NOT_KNOWN = "\N{EN DASH}"
#: Replaces the values of sensitive columns, as findings and the quarantine write it already.
MASK = "***"

#: Characters that are escaped in Markdown; an underscore within a word is none, nor a colon but in an address.
_MARKUP = re.compile(r"[\\`*\[\]<>!|#~&@$]|(?<![a-z0-9])_|_(?![a-z0-9])|:(?=//)|(?<=www)\.", re.IGNORECASE)
#: What makes a list, a rule or a heading at the start of a line.
_LINE_START = re.compile(r"^(\d*)([-+.)](?=\s|$)|[-=](?=[-=\s]*$))")
_SMALL_SHARE = 0.001
_LARGE_SHARE = 0.1
#: The value from which on a unit is used, the unit, and its name.
_UNITS = ((1e12, 1e12, " T"), (1e9, 1e9, " B"), (1e6, 1e6, " M"), (1e4, 1e3, " k"))


def number(value: float | None, digits: int = 4) -> str:
    """Format a quantity plainly, with about four significant digits: ``1,204``, ``0.3125``, ``1,309,000,000``."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    return format_number(value, digits, grouped_from=1_000.0)


def short_number(value: float) -> str:
    """Format a quantity for an axis, where there is little room: ``12 k``, ``1.5 M``."""
    for least, factor, unit in _UNITS:
        if abs(value) >= least:
            return f"{value / factor:.3g}{unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def three_digits(value: float) -> str:
    """Format a quantity with three significant digits, for the ends of an interval."""
    return number(value, 3)


def count(value: float | None, one: str = "", many: str = "") -> str:
    """Format a count, with a noun when one is given: ``1 row``, ``2,000 rows``; stored profiles have some as floats."""
    if value is None:
        return NOT_KNOWN
    noun = one if value == 1 else many or f"{one}s"
    return f"{value:,.0f} {noun}" if one else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Format a share as a percentage; a small one is never shown as nothing, nor nearly all as all."""
    if value is None or not math.isfinite(value):
        return NOT_KNOWN
    if 0 < value < _SMALL_SHARE:
        return "<0.1 %"
    if 1 - _SMALL_SHARE < value < 1:
        return ">99.9 %"
    near_an_end = 0 < value < _LARGE_SHARE or 1 - _LARGE_SHARE < value < 1
    return f"{value:.{1 if near_an_end else 0}%}".replace("%", " %")


def percent(value: float) -> str:
    """Format a share for an axis: ``12.5 %``."""
    return f"{100.0 * value:g} %"


def timestamp(value: str | datetime | None) -> str:
    """Format a timestamp as ``2026-05-03 14:15 UTC``, and midnight as a day; other text stays as it is."""
    if not value:
        return NOT_KNOWN
    try:
        parsed = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        return str(value)
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    written = parsed.isoformat(" ", "minutes")[:16]
    midnight = (parsed.hour, parsed.minute, parsed.second) == (0, 0, 0)
    return written[:10] if midnight else f"{written} UTC"


def epoch_seconds(value: float | None) -> str:
    """Format seconds since 1970 as :func:`timestamp` does; what no calendar holds, as a number."""
    if value is None:
        return NOT_KNOWN
    try:
        return timestamp(datetime.fromtimestamp(value, UTC).isoformat())
    except (OverflowError, ValueError, OSError):
        return number(value)


def epoch_day(value: float) -> str:
    """Format seconds since 1970 as a day."""
    return epoch_seconds(value)[:10]


def metric_label(name: str) -> str:
    """Return a metric's name as people write it; of an unknown one, without its underscores."""
    return METRICS_BY_NAME[name].label if name in METRICS_BY_NAME else name.replace("_", " ")


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """Format the ends of an interval; a dash where there is none."""
    if low is None or high is None:
        return NOT_KNOWN
    return f"{number(low, digits)} to {number(high, digits)}"


def join_names(names: Sequence[str], shown: int) -> str:
    """Join the first ``shown`` names with commas and say how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def sentence(text: str) -> str:
    """Return text with a capital letter and a full stop."""
    written = text[:1].upper() + text[1:]
    return written if written.endswith((".", "!", "?")) else f"{written}."


def paragraphs(text: str) -> list[str]:
    """Split text at empty lines."""
    return [part for part in text.split("\n\n") if part.strip()]


def markdown(text: object) -> str:
    """Return text that is not ours on one line, with every character that has a meaning in Markdown escaped.

    Nothing of it becomes markup, HTML, a link or an image, also where addresses are linked by themselves.
    """
    written = _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))
    return _LINE_START.sub(r"\g<1>\\\g<2>", written)


def markdown_code(text: object) -> str:
    """Return text for a code span of one backtick within a table or a line."""
    return " ".join(str(text).replace("`", "'").split()).replace("|", "\N{BROKEN BAR}") or NOT_KNOWN


def fence(text: str) -> str:
    """Return the fence of a code block: longer than any run of backticks in the text."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
