"""Curves and scattered points as SVG within the page; drawn by pygal like the histograms of :mod:`figures`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pygal

from millrace.reporting.figures import (
    KEPT_ATTRIBUTES,
    PYGAL_ONLY,
    WIDTH,
    chart_options,
    round_ticks,
    shorter,
    write_node,
)
from millrace.reporting.html import Html, element, escape, join
from millrace.reporting.wording import short_number

HEIGHT = 230

_STEPS = 5
_LEFT_OUT = ("text-overlay", "tooltip-overlay", "titles")

#: ``main`` and ``other`` are what is shown, ``reference`` what it is compared with, ``bound`` how sure it is.
LineKind = Literal["main", "other", "reference", "bound"]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve, or one cloud of points.

    Parameters
    ----------
    name : str
        For the legend; empty leaves it out of it.
    points : sequence of (float, float)
        In the order in which they are joined.
    kind : {'main', 'other', 'reference', 'bound'}, default='main'
        How it looks.
    stroke, dots : bool
        Whether points are joined, and whether they are marked.
    tips : sequence of str, default=()
        What each dot says when it is pointed at.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: LineKind = "main"
    stroke: bool = True
    dots: bool = False
    tips: Sequence[str] = ()


def line_chart(
    lines: Sequence[Line],
    *,
    description: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x_title: str,
    y_title: str,
    x_wording: Callable[[float], str] = short_number,
    y_wording: Callable[[float], str] = short_number,
) -> Html:
    """Draw curves in one plane.

    Parameters
    ----------
    lines : sequence of Line
        The later ones are drawn over the earlier.
    description : str
        What a reader who cannot see it is told.
    x_range, y_range : tuple of float
        What the axes show.
    x_title, y_title : str
        What they are.
    x_wording, y_wording : callable, default=short_number
        How their labels are written.
    """
    options = chart_options() | {
        "height": HEIGHT,
        "xrange": x_range,
        "range": y_range,
        "dots_size": 2.5,
        "include_x_axis": False,
    }
    chart = pygal.XY(**options)
    chart.x_labels = round_ticks(*x_range, _STEPS)
    chart.y_labels = round_ticks(*y_range, _STEPS)
    chart.x_value_formatter = x_wording
    chart.value_formatter = y_wording
    for line in lines:
        chart.add(line.name, list(line.points), stroke=line.stroke, show_dots=line.dots)
    tips = iter([tip for line in lines if line.dots for tip in (line.tips or [""] * len(line.points))])
    kinds = [line.kind for line in lines]
    tree = chart.render_tree()
    body = join(*(_write(child, kinds, tips, "main") for child in tree))
    viewed = f"0 0 {WIDTH} {HEIGHT}"
    svg = element("svg", body, viewBox=viewed, role="img", aria_label=description, focusable="false")
    legend = [
        element("span", element("i", class_=f"key {line.kind}"), line.name, class_="legend-entry")
        for line in lines
        if line.name
    ]
    return element(
        "figure",
        element("div", y_title, class_="axis-title"),
        svg,
        element("div", x_title, class_="axis-title x"),
        element("figcaption", legend, class_="legend") if legend else None,
        class_="chart lines",
    )


def _write(node: Any, kinds: Sequence[LineKind], tips: Iterator[str], kind: str) -> Html | None:
    """Write pygal's tree again; a series' elements are classed by its kind."""
    tag = node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
    classes = node.get("class") or ""
    if not tag or tag in PYGAL_ONLY or tag == "rect" or any(part in classes for part in _LEFT_OUT):
        return None
    attributes = {key: shorter(value) for key, value in node.attrib.items() if key in KEPT_ATTRIBUTES}
    if "serie-" in classes:
        kind = kinds[int(classes.split("serie-")[1].split()[0])]
        attributes["class"] = "series"
    if tag == "circle":
        place = {key: shorter(node.get(key)) for key in ("cx", "cy", "r")}
        tip = next(tips, "")
        return write_node(tag, place | {"class": f"dot {kind}"}, element("title", tip) if tip else Html(""))
    if tag == "path" and "reactive" in classes:
        attributes["class"] = f"line {kind}"
    children = [written for child in node if (written := _write(child, kinds, tips, kind)) is not None]
    if tag == "g" and not children:
        return None
    return write_node(tag, attributes, join(escape(node.text or ""), *children))
