"""Charts draw their numbers where they belong, in little room, and describe them to screen readers."""

import re

import numpy as np
import pytest
from millrace.evaluation_results import MetricEstimate
from millrace.reports import charts
from millrace.reports.charts import Axis, Bar, Line, Series, round_ticks, spans
from millrace.reports.render import environment

EDGES = [0.0, 10.0, 20.0, 40.0]
MACROS = environment().get_template("charts.html").module


def histogram(edges, series, **options) -> str:
    return MACROS.chart(charts.histogram(edges, series, **options))


def bar_list(rows, caption, heads, **options) -> str:
    return MACROS.bars([Bar(*row) for row in rows], caption, heads, **options)


def draw(lines, **options) -> str:
    given = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0), "x_title": "recall", "y_title": "precision"}
    return MACROS.chart(charts.line_chart(lines, description="d", **(given | options)))


LINE = re.compile(r'<path class="line (\w+)"')
BAR = re.compile(r"<rect ([^>]*)><title>([^<]*)</title></rect>")


def bars(figure: str) -> list[tuple[float, float, str]]:
    """Width, height and tooltip of every bar."""
    drawn = []
    for given, tip in BAR.findall(figure):
        attributes = dict(re.findall(r'(\S+)="([^"]*)"', given))
        assert attributes["class"] in ("bar", "bar other")
        drawn.append((float(attributes["width"]), float(attributes["height"]), tip))
    return drawn


def test_bars_are_as_high_as_their_counts_and_as_wide_as_their_edges():
    drawn = bars(histogram(EDGES, [Series("", [10, 5, 20])], description="d"))
    assert [tip for _, _, tip in drawn] == ["0 to 10: 10", "10 to 20: 5", "20 to 40: 20"]
    first = drawn[0]
    assert [width / first[0] for width, _, _ in drawn] == pytest.approx([1, 1, 2], rel=0.02)
    assert [height / first[1] for _, height, _ in drawn] == pytest.approx([1, 0.5, 2], rel=0.02)


def test_series_stand_on_one_another_and_the_legend_names_them():
    figure = histogram(EDGES, [Series("no", [6, 0, 10]), Series("yes", [4, 5, 10])], description="d")
    heights = {tip: height for _, height, tip in bars(figure)}
    upper, lower = heights["0 to 10, yes: 4"], heights["0 to 10, no: 6"]
    assert upper / lower == pytest.approx(4 / 6, rel=0.02)
    assert "10 to 20, no: 0" not in heights
    legend = figure.split("<figcaption")[1]
    assert legend.index('"key "') < legend.index("no") < legend.index('"key other"') < legend.index("yes")


def test_bars_may_have_names_of_their_own():
    drawn = bars(histogram([0.5, 1.5, 2.5], [Series("", [3, 4])], description="d", bar_names=["one", "two"]))
    assert [tip for _, _, tip in drawn] == ["one: 3", "two: 4"]


def test_a_figure_brings_neither_style_nor_script_nor_today():
    figure = histogram(EDGES, [Series("<b>", [1, 2, 3])], description='"><script>')
    for unwanted in ("<script", "<style", "style=", "<!--", "<b>", "http"):
        assert unwanted not in figure
    assert 'role="img"' in figure
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in figure
    assert figure == histogram(EDGES, [Series("<b>", [1, 2, 3])], description='"><script>')


def test_a_figure_is_small():
    counts = np.random.default_rng(0).integers(0, 1000, 24).tolist()
    edges = np.linspace(0, 1, 25).tolist()
    figure = histogram(edges, [Series("a", counts), Series("b", counts)], description="d")
    assert len(figure) < 10_000


@pytest.mark.parametrize(
    "edges", [[0.5, 1.5], [-1e300, 0.0, 1e300], [1e-300, 2e-300], [1e15, 1e15 + 1], [-3.0, -2.0, -1.0]]
)
def test_any_range_can_be_drawn(edges):
    drawn = bars(histogram(edges, [Series("", [3] * (len(edges) - 1))], description="d"))
    assert len(drawn) == len(edges) - 1
    assert all(np.isfinite(height) and height > 0 for _, height, _ in drawn)


def test_an_empty_histogram_is_a_frame():
    assert bars(histogram([0, 1, 2], [Series("", [0, 0])], description="d")) == []


@pytest.mark.parametrize(
    ("low", "high", "steps", "least", "ticks"),
    [
        (0, 10, 5, 0, [0, 2, 4, 6, 8, 10]),
        (-0.5, 3.5, 6, 1, [0, 1, 2, 3]),
        (0, 0.7, 3, 1, [0]),
        (13.2, 97, 4, 0, [25, 50, 75]),
        (5, 5, 4, 0, [5]),
        (0, float("inf"), 4, 0, [0]),
    ],
)
def test_ticks_are_round(low, high, steps, least, ticks):
    assert round_ticks(low, high, steps, least=least) == pytest.approx(ticks)


def test_a_bar_list_is_a_table_whose_bars_are_decoration():
    drawn = bar_list([("<i>", 0.5, "10 rows", "3 %"), ("b", 7, "1", "")], caption="Values", heads=("V", "Rows", "yes"))
    assert "&lt;i&gt;" in drawn
    assert 'width="50.0"' in drawn
    assert 'width="100.0" height="10"/></svg>' in drawn, "a share beyond 1 is a full bar"
    assert drawn.count('aria-hidden="true"') == 2
    assert '<caption class="unseen">Values</caption>' in drawn


def points_of(figure: str, kind: str) -> list[tuple[float, float]]:
    path = re.search(rf'<path class="line {kind}" d="([^"]*)"/>', figure).group(1)
    numbers = re.findall(r"[ML]([\d.]+) ([\d.]+)", path)
    return [(float(x), float(y)) for x, y in numbers]


def test_lines_are_classed_by_kind_and_named_in_the_legend():
    figure = draw([Line("chance", [(0, 0), (1, 1)], kind="reference"), Line("model", [(0, 0), (0.5, 0.8), (1, 1)])])
    assert LINE.findall(figure) == ["reference", "main"]
    assert figure.index('key line reference"') < figure.index("chance") < figure.index("model")
    assert "recall" in figure
    assert "precision" in figure


def test_points_stand_where_their_numbers_say():
    drawn = points_of(draw([Line("model", [(0, 0), (0.5, 0.25), (1, 1)])]), "main")
    (x0, y0), (x1, y1), (x2, y2) = drawn
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.2)
    assert (y0 - y1) / (y0 - y2) == pytest.approx(0.25, abs=0.01)


def test_an_axis_need_not_begin_at_nothing():
    drawn = points_of(draw([Line("m", [(0, 0.80), (1, 0.90)])], y_range=(0.8, 0.9)), "main")
    assert drawn[0][1] - drawn[1][1] > 150


def test_dots_have_tips_and_scattered_ones_no_line():
    figure = draw([Line("", [(0.1, 0.2), (0.3, 0.4)], stroke=False, dots=True, tips=["<one>", "two"])])
    assert re.findall(r'<circle class="dot main"[^>]*><title>([^<]*)</title></circle>', figure) == [
        "&lt;one&gt;",
        "two",
    ]
    assert LINE.findall(figure) == []
    assert "<figcaption" not in figure


def test_a_chart_brings_neither_style_nor_script():
    figure = draw([Line("<b>", [(0, 0), (1, 1)])])
    for unwanted in ("<script", "<style", "style=", "<b>", "http"):
        assert unwanted not in figure
    assert figure == draw([Line("<b>", [(0, 0), (1, 1)])])


def test_an_axis_places_any_finite_numbers():
    assert Axis(-1e308, 1e308, 0.0, 100.0).place(0.0) == 50.0
    assert Axis(3.0, 3.0, 0.0, 100.0).place(3.0) == 50.0


def test_intervals_of_a_table_are_on_one_scale():
    first, second = spans([MetricEstimate(5.0, 2.5, 7.5), MetricEstimate(0.0)], mark=10.0)
    assert (first.low, first.value, first.high, first.mark) == (32.0, 60.0, 88.0, 116.0)
    assert (second.value, second.low) == (4.0, None)
    drawn = MACROS.span(first)
    assert 'class="range" x="32.0" y="4.5" width="56.0"' in drawn
    assert 'cx="60.0"' in drawn
    assert 'class="mark" x="115.25"' in drawn


def test_an_interval_that_is_not_known_is_not_drawn():
    [unknown] = spans([None])
    drawn = MACROS.span(unknown)
    assert "circle" not in drawn
    assert "range" not in drawn
    [constant] = spans([MetricEstimate(3.0, 3.0, 3.0)])
    assert constant.value == 60.0
