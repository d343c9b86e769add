"""Figures as SVG within the page: drawn by pygal, coloured by the page's style, readable by a screen reader.

pygal writes a style sheet, a script and tooltips of its own into every chart; those are taken out, which leaves a
tenth of the size, and the page's own style applies in light, in dark and on paper.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pygal

from millrace.reporting.html import Html, element, escape, join
from millrace.reporting.wording import short_number

# pygal puts a finder for map plugins on the import path that Python 3.12 and later pass over, and that makes 3.11 warn
# at every import that follows. There are no map plugins here.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

WIDTH = 360
HEIGHT = 170

#: What pygal draws for its own tooltips, styles and scripts.
PYGAL_ONLY = frozenset({"defs", "desc", "title"})
_PYGAL_ONLY_CLASSES = ("tooltip-overlay", "plot overlay", "text-overlay", "titles")
#: What is kept of what pygal says of an element.
KEPT_ATTRIBUTES = frozenset({"x", "y", "width", "height", "d", "class", "transform", "viewBox", "text-anchor"})

_X_STEPS = 5
_Y_STEPS = 4
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)

_LONG_DECIMALS = re.compile(r"(\d+\.\d)\d+")


@dataclass(frozen=True, slots=True)
class Series:
    """The bars of one kind in a histogram.

    Parameters
    ----------
    name : str
        For the legend and the bars' tooltips; empty when there is only one kind.
    counts : sequence of float
        One a bar.
    """

    name: str
    counts: Sequence[float]


def histogram(
    edges: Sequence[float],
    series: Sequence[Series],
    *,
    description: str,
    wording: Callable[[float], str] = short_number,
    ticks: Sequence[float] | None = None,
    bar_names: Sequence[str] = (),
) -> Html:
    """Draw a histogram, series stacked on one another.

    Parameters
    ----------
    edges : sequence of float
        Of the bars; they need not be equally wide.
    series : sequence of Series
        At most two; each with one count less than there are edges.
    description : str
        What a reader who cannot see it is told.
    wording : callable, default=short_number
        How an edge is written.
    ticks : sequence of float or None, default=None
        Where the horizontal axis is labelled; None takes round numbers.
    bar_names : sequence of str, default=()
        What the bars are called; by default from edge to edge.
    """
    chart = pygal.Histogram(**chart_options(), xrange=(edges[0], edges[-1]))
    chart.x_labels = list(ticks if ticks is not None else round_ticks(edges[0], edges[-1], _X_STEPS))
    chart.x_value_formatter = wording
    totals = [sum(counts) for counts in zip(*(kind.counts for kind in series), strict=True)]
    chart.y_labels = round_ticks(0.0, max(totals, default=0.0), _Y_STEPS, least=1.0)
    chart.value_formatter = short_number
    names = bar_names or [f"{wording(left)} to {wording(right)}" for left, right in pairwise(edges)]
    tips = []
    floor = list(totals)
    # The topmost first: each series is drawn over the one before it, from the ground up.
    for kind in reversed(series):
        heights = [height if amount else 0 for height, amount in zip(floor, kind.counts, strict=True)]
        chart.add(kind.name, [(height, *ends) for height, ends in zip(heights, pairwise(edges), strict=True)])
        suffix = f", {kind.name}" if kind.name else ""
        tips.append([f"{name}{suffix}: {amount:,.0f}" for name, amount in zip(names, kind.counts, strict=True)])
        floor = [height - amount for height, amount in zip(floor, kind.counts, strict=True)]
    legend = [
        element("span", element("i", class_=f"key key-{index}"), kind.name, class_="legend-entry")
        for index, kind in enumerate(series)
        if kind.name
    ]
    svg = _clean(chart.render_tree(), tips, description)
    return element(
        "figure",
        svg,
        element("figcaption", legend, class_="legend") if legend else None,
        class_="chart" if len(series) == 1 else "chart two",
    )


def bar_list(
    rows: Sequence[tuple[Html | str, float, str, str]], *, caption: str, heads: Sequence[str], wide: bool = False
) -> Html:
    """Draw amounts as bars in a table, which reads well aloud, on paper, and on a narrow screen.

    Parameters
    ----------
    rows : sequence of (label, share, amount, note)
        ``share`` of the full width, from 0 to 1; ``amount`` and ``note`` are written beside it.
    caption : str
        What the table is, for screen readers.
    heads : sequence of str
        Of the label, the amount and, unless there is none, the note.
    wide : bool, default=False
        Whether bars stand beside their labels instead of below them.
    """
    noted = len(heads) > 2  # noqa: PLR2004  # label and amount
    body = [
        element(
            "tr",
            element("th", label, None if wide else _bar(part), scope="row"),
            element("td", _bar(part), class_="bar-cell") if wide else None,
            element("td", amount, class_="amount"),
            element("td", note, class_="note") if noted else None,
        )
        for label, part, amount, note in rows
    ]
    head = element(
        "tr",
        element("th", heads[0], scope="col"),
        element("td", class_="bar-cell") if wide else None,
        element("th", heads[1], scope="col", class_="amount"),
        element("th", heads[2], scope="col", class_="note") if noted else None,
    )
    return element(
        "table",
        element("caption", caption, class_="unseen"),
        element("thead", head),
        element("tbody", body),
        class_="bars wide" if wide else "bars",
    )


def _bar(part: float) -> Html:
    width = round(100 * min(1.0, max(0.0, part)), 2)
    return Html(
        '<svg class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="100" height="10"/><rect class="bar" width="{width:g}" height="10"/></svg>'
    )


def chart_options() -> dict[str, Any]:
    """Return what every chart is asked of pygal."""
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "show_legend": False,
        "js": (),
        "css": (),
        "margin": 6,
        "disable_xml_declaration": True,
        "include_x_axis": True,
        "truncate_label": -1,
    }


def round_ticks(low: float, high: float, steps: int, *, least: float = 0.0) -> list[float]:
    """Return round numbers between two others, about ``steps`` of them and at least ``least`` apart."""
    rough = max((high - low) / steps, least)
    if not (0.0 < rough < math.inf):
        return [low]
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * magnitude for factor in _ROUND if factor * magnitude >= rough), 10 * magnitude)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [index * step for index in range(first, last + 1)] or [low]


def _clean(root: Any, tips: Sequence[Sequence[str]], description: str) -> Html:
    """Write pygal's tree again with what the page needs of it."""
    bars = iter([tip for kind in tips for tip in kind])
    # ElementTree's or lxml's, whichever pygal found; both are walked alike.
    body = join(*(_write(child, bars) for child in root))
    return element(
        "svg",
        body,
        viewBox=root.get("viewBox"),
        role="img",
        aria_label=description,
        focusable="false",
    )


def _write(node: Any, tips: Iterator[str]) -> Html | None:
    tag = node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
    classes = node.get("class") or ""
    if not tag or tag in PYGAL_ONLY or any(part in classes for part in _PYGAL_ONLY_CLASSES):
        return None
    if tag == "rect" and "background" in classes:
        return None
    attributes = {key: shorter(value) for key, value in node.attrib.items() if key in KEPT_ATTRIBUTES}
    if tag == "rect":
        attributes["class"] = "bar"
        tip = next(tips, "")
        return write_node(tag, attributes, element("title", tip)) if float(node.get("height")) > 0 else None
    children = [written for child in node if (written := _write(child, tips)) is not None]
    if tag == "g" and not children:
        return None
    return write_node(tag, attributes, join(escape(node.text or ""), *children))


def write_node(tag: str, attributes: dict[str, str], content: Html) -> Html:
    """Return an SVG element."""
    given = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items() if value)
    return Html(f"<{tag}{given}>{content}</{tag}>" if content else f"<{tag}{given}/>")


def shorter(value: str) -> str:
    """Return an attribute with its long decimals cut: a tenth of a pixel shows nowhere."""
    return _LONG_DECIMALS.sub(r"\1", value)
