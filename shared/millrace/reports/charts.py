"""Geometry of the charts; ``templates/charts.html`` writes them as SVG that the page's stylesheet colours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from millrace.evaluation_results import MetricEstimate
from millrace.reports.formatting import short_number

WIDTH = 360
HISTOGRAM_HEIGHT = 170
LINE_CHART_HEIGHT = 230

_TOP, _RIGHT, _BOTTOM = 8.0, 8.0, 26.0
#: Room beside the vertical axis, and that of one character of its labels.
_GAP, _CHARACTER = 8.0, 6.0
_X_STEPS = 5
_HISTOGRAM_STEPS, _LINE_STEPS = 4, 5
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
_SPAN_WIDTH, _SPAN_MARGIN = 120, 4

#: ``main`` and ``other`` are measurements, ``reference`` is the comparison, ``bound`` the end of an interval.
LineKind = Literal["main", "other", "reference", "bound"]
Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """Bars of one kind in a histogram, one count a bar; the name is empty when there is only one kind."""

    name: str
    counts: Sequence[float]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve or a cloud of points."""

    name: str  # For the legend; empty leaves the line out of it
    points: Sequence[tuple[float, float]]  # In the order in which they are joined
    kind: LineKind = "main"  # Selects the colour and the stroke
    stroke: bool = True  # join the points
    dots: bool = False  # mark the points
    tips: Sequence[str] = ()  # Tooltip of each dot


@dataclass(frozen=True, slots=True)
class Bar:
    """A horizontal bar of a list: its label, its share of the full width, and the texts beside it."""

    label: str
    share: float
    amount: str
    note: str = ""
    is_rest: bool = False

    @property
    def width(self) -> float:
        """Width in percent."""
        return round(100 * min(1.0, max(0.0, self.share)), 2)


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from values to pixels, with labelled ticks."""

    low: float  # value at the start
    high: float  # value at the end
    start: float  # in pixels
    end: float  # in pixels
    ticks: Sequence[float] = ()  # The labelled values
    write: Format = short_number  # Formats a label

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        # Halved first, because the difference of two finite numbers can be infinite.
        width = self.high / 2 - self.low / 2
        part = (value / 2 - self.low / 2) / width if width else 0.5
        return round(self.start + part * (self.end - self.start), 1)

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Pixel and text of each tick."""
        return [(self.place(tick), self.write(tick)) for tick in self.ticks]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A bar of a histogram in pixels, with its tooltip; ``series`` is the index of its series."""

    x: float
    y: float
    width: float
    height: float
    tip: str
    series: int


@dataclass(frozen=True, slots=True)
class Curve:
    """A line in pixels: the path, empty where points are not joined, and the dots with their tooltips."""

    kind: LineKind
    path: str
    dots: Sequence[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram or curves in pixels; ``legend`` holds the kind and the name of each entry."""

    description: str
    height: int
    x: Axis
    y: Axis
    legend: Sequence[tuple[str, str]]
    bars: Sequence[Rectangle] = ()
    curves: Sequence[Curve] = ()
    x_title: str = ""
    y_title: str = ""


def histogram(
    edges: Sequence[float],
    series: Sequence[Series],
    *,
    description: str,
    write: Format = short_number,
    ticks: Sequence[float] | None = None,
    bar_names: Sequence[str] = (),
) -> Chart:
    """Lay out a histogram of at most two series, stacked on one another; bars need not be equally wide.

    ``description`` is for screen readers; ``bar_names`` are for tooltips, by default from edge to edge.
    """
    totals = [sum(counts) for counts in zip(*(kind.counts for kind in series), strict=True)]
    top = max(totals, default=0.0) or 1.0
    y = _vertical(0.0, top, HISTOGRAM_HEIGHT, round_ticks(0.0, top, _HISTOGRAM_STEPS, least=1.0), short_number)
    given = ticks if ticks is not None else round_ticks(edges[0], edges[-1], _X_STEPS)
    x = _horizontal(edges[0], edges[-1], y, given, write)
    names = bar_names or [f"{write(left)} to {write(right)}" for left, right in pairwise(edges)]
    bars, ground = [], [0.0] * len(totals)
    for index, kind in enumerate(series):
        suffix = f", {kind.name}" if kind.name else ""
        for place, (name, amount, (left, right)) in enumerate(zip(names, kind.counts, pairwise(edges), strict=True)):
            if amount > 0:
                bottom, upper = y.place(ground[place]), y.place(ground[place] + amount)
                width, height = round(x.place(right) - x.place(left), 1), max(round(bottom - upper, 1), 0.1)
                bars.append(Rectangle(x.place(left), upper, width, height, f"{name}{suffix}: {amount:,.0f}", index))
            ground[place] += amount
    legend = [("other" if index else "", kind.name) for index, kind in enumerate(series) if kind.name]
    return Chart(description, HISTOGRAM_HEIGHT, x, y, legend, bars=bars)


def line_chart(
    lines: Sequence[Line],
    *,
    description: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_title: str,
    y_title: str,
    x_write: Format = short_number,
    y_write: Format = short_number,
) -> Chart:
    """Lay out curves in one plane, the later ones over the earlier; ``description`` is for screen readers."""
    y = _vertical(*y_range, LINE_CHART_HEIGHT, round_ticks(*y_range, _LINE_STEPS), y_write)
    x = _horizontal(*x_range, y, round_ticks(*x_range, _X_STEPS), x_write)
    curves = []
    for line in lines:
        placed = [(x.place(left), y.place(up)) for left, up in line.points]
        path = "M" + "L".join(f"{left:g} {up:g}" for left, up in placed) if line.stroke and placed else ""
        tips = line.tips or [""] * len(placed)
        dots = [(left, up, tip) for (left, up), tip in zip(placed, tips, strict=True)] if line.dots else []
        curves.append(Curve(line.kind, path, dots))
    legend = [(f"line {line.kind}", line.name) for line in lines if line.name]
    return Chart(description, LINE_CHART_HEIGHT, x, y, legend, curves=curves, x_title=x_title, y_title=y_title)


def _vertical(low: float, high: float, height: int, ticks: Sequence[float], write: Format) -> Axis:
    return Axis(low, high, height - _BOTTOM, _TOP, ticks, write)


def _horizontal(low: float, high: float, vertical: Axis, ticks: Sequence[float], write: Format) -> Axis:
    """Return the axis to the right of the vertical one's labels."""
    room = max((len(text) for _, text in vertical.labels), default=0)
    return Axis(low, high, _GAP + _CHARACTER * room, WIDTH - _RIGHT, ticks, write)


def round_ticks(low: float, high: float, steps: int, *, least: float = 0.0) -> list[float]:
    """Return round numbers between two others, about ``steps`` of them and at least ``least`` apart."""
    rough = max((high - low) / steps, least)
    if not (0.0 < rough < math.inf):
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * magnitude for factor in _ROUND if factor * magnitude >= rough), 10 * magnitude)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, last + 1)] or [low]


@dataclass(frozen=True, slots=True)
class Span:
    """An interval within a table, in pixels: its ends, its value and the mark it is compared with, where known."""

    value: float | None
    low: float | None
    high: float | None
    mark: float | None

    @property
    def width(self) -> float:
        """Width of the interval."""
        return max(round((self.high or 0.0) - (self.low or 0.0), 1), 1.0)


def spans(
    measured: Sequence[MetricEstimate | None], mark: float | None = None, include: float | None = None
) -> list[Span]:
    """Lay out estimates with their intervals on one scale, with a mark to compare with.

    What is missing is not drawn; the scale includes ``include``.
    """
    ends = [(one.value, one.low, one.high) if one else (None, None, None) for one in measured]
    known = [value for one in (*ends, (mark, include)) for value in one if value is not None]
    start, end = min(known, default=0.0), max(known, default=1.0)
    start, end = (start, end) if end > start else (start - 0.5, end + 0.5)
    axis = Axis(start, end, _SPAN_MARGIN, _SPAN_WIDTH - _SPAN_MARGIN)
    placed = [[None if value is None else axis.place(value) for value in one] for one in (*ends, [mark])]
    return [
        Span(value, *((low, high) if None not in (low, high) else (None, None)), placed[-1][0])
        for value, low, high in placed[:-1]
    ]
