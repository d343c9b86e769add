"""Figures hold what they draw, in little room, and tell it to who cannot see them."""

import re
import sys

import numpy as np
import pytest
from millrace.reporting.figures import Series, bar_list, histogram, round_ticks

EDGES = [0.0, 10.0, 20.0, 40.0]


BAR = re.compile(r"<rect ([^>]*)><title>([^<]*)</title></rect>")


def bars(figure: str) -> list[tuple[float, float, str]]:
    """Width, height and tooltip of every bar."""
    drawn = []
    for given, tip in BAR.findall(figure):
        attributes = dict(re.findall(r'(\S+)="([^"]*)"', given))
        assert attributes["class"] == "bar"
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
    whole, lower = heights["0 to 10, yes: 4"], heights["0 to 10, no: 6"]
    assert lower / whole == pytest.approx(0.6, rel=0.02)
    assert "10 to 20, no: 0" not in heights
    legend = figure.split("<figcaption")[1]
    assert legend.index("key-0") < legend.index("no") < legend.index("key-1") < legend.index("yes")


def test_bars_may_have_names_of_their_own():
    drawn = bars(histogram([0.5, 1.5, 2.5], [Series("", [3, 4])], description="d", bar_names=["one", "two"]))
    assert [tip for _, _, tip in drawn] == ["one: 3", "two: 4"]


def test_a_figure_brings_neither_style_nor_script_nor_today():
    figure = histogram(EDGES, [Series("<b>", [1, 2, 3])], description='"><script>')
    for unwanted in ("<script", "<style", "style=", "<!--", "pygal", "<b>", "http"):
        assert unwanted not in figure
    assert 'role="img"' in figure
    assert 'aria-label="&quot;&gt;&lt;script&gt;"' in figure
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
    assert 'width="50"' in drawn
    assert 'width="100" height="10"/></svg>' in drawn, "a share beyond 1 is a full bar"
    assert drawn.count('aria-hidden="true"') == 2
    assert '<caption class="unseen">Values</caption>' in drawn


def test_drawing_leaves_imports_as_they_were():
    assert "pygal" in sys.modules
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("pygal")]
