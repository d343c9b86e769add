"""Intervals as small drawings within a table: where a value lies, how sure it is, and what it is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

from millrace.reporting.html import Html

_WIDTH = 120
_MARGIN = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """What a column of spans shows, from left to right."""

    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Scale":
        """Return the scale on which all of these fit."""
        known = [value for value in values if value is not None]
        start, end = min(known, default=0.0), max(known, default=1.0)
        return cls(start, end) if end > start else cls(start - 0.5, end + 0.5)

    def position(self, value: float) -> float:
        """Return where a value stands, within the drawing."""
        part = min(1.0, max(0.0, (value - self.start) / (self.end - self.start)))
        return round(_MARGIN + part * (_WIDTH - 2 * _MARGIN), 1)


def span(value: float | None, low: float | None, high: float | None, scale: Scale, mark: float | None = None) -> Html:
    """Draw an interval as a bar, its value as a dot, and what it is compared with as a line; the numbers stand beside.

    Parameters
    ----------
    value, low, high : float or None
        What is not known is not drawn.
    scale : Scale
        The same for a whole column.
    mark : float or None, default=None
        What to compare with.
    """
    parts = [f'<rect class="track" x="0" y="6" width="{_WIDTH}" height="2"/>']
    if mark is not None:
        parts.append(f'<rect class="mark" x="{scale.position(mark) - 0.75:g}" y="0" width="1.5" height="14"/>')
    if low is not None and high is not None:
        left, right = scale.position(low), scale.position(high)
        parts.append(
            f'<rect class="range" x="{left:g}" y="4.5" width="{max(right - left, 1.0):g}" height="5" rx="2.5"/>'
        )
    if value is not None:
        parts.append(f'<circle class="value" cx="{scale.position(value):g}" cy="7" r="3.5"/>')
    return Html(
        f'<svg class="span" viewBox="0 0 {_WIDTH} 14" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'
    )
