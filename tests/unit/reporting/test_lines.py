"""Curves and intervals are drawn where their numbers say, and say so to who cannot see them."""

import re

import pytest
from millrace.reporting.lines import Line, line_chart
from millrace.reporting.spans import Scale, span

PATH = re.compile(r'<path [^>]*class="line (\w+)"[^>]*/>')


def draw(lines, **options):
    given = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0), "x_title": "recall", "y_title": "precision"}
    return line_chart(lines, description="d", **(given | options))


def points_of(figure: str, kind: str) -> list[tuple[float, float]]:
    path = re.search(rf'<path ([^>]*class="line {kind}"[^>]*)/>', figure).group(1)
    numbers = re.findall(r"[ML]?([\d.]+) ([\d.]+)", re.search(r' ?d="([^"]*)"', path).group(1))
    return [(float(x), float(y)) for x, y in numbers]


def test_lines_are_classed_by_kind_and_named_in_the_legend():
    figure = draw([Line("chance", [(0, 0), (1, 1)], kind="reference"), Line("model", [(0, 0), (0.5, 0.8), (1, 1)])])
    assert PATH.findall(figure) == ["reference", "main"]
    assert figure.index('key reference"') < figure.index("chance") < figure.index("model")
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
    assert re.findall(r'<circle [^>]*class="dot main"><title>([^<]*)</title></circle>', figure) == [
        "&lt;one&gt;",
        "two",
    ]
    assert PATH.findall(figure) == []
    assert "<figcaption" not in figure


def test_a_chart_brings_neither_style_nor_script():
    figure = draw([Line("<b>", [(0, 0), (1, 1)])])
    for unwanted in ("<script", "<style", "style=", "pygal", "<b>", "http"):
        assert unwanted not in figure
    assert figure == draw([Line("<b>", [(0, 0), (1, 1)])])


def test_a_span_lies_on_its_scale():
    scale = Scale.of([0.0, None, 10.0])
    assert (scale.position(0.0), scale.position(5.0), scale.position(10.0)) == (4.0, 60.0, 116.0)
    assert scale.position(99.0) == 116.0
    drawn = span(5.0, 2.5, 7.5, scale, mark=10.0)
    assert 'class="range" x="32" y="4.5" width="56"' in drawn
    assert 'cx="60"' in drawn
    assert 'class="mark" x="115.25"' in drawn


def test_a_span_of_what_is_not_known_draws_nothing_of_it():
    drawn = span(None, None, 1.0, Scale.of([]))
    assert "circle" not in drawn
    assert "range" not in drawn
    assert Scale.of([3.0, 3.0]) == Scale(2.5, 3.5)
