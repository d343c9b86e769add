"""Every colour can be read on what it stands on, in light and in dark (WCAG 2.2)."""

import re

import pytest
from millrace.reports.render import TEMPLATES

STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")
LIGHT, DARK, *_ = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", rule)) for rule in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)

#: Text and the ground it is written on.
TEXT_PAIRS = (
    *((ink, ground) for ink in ("ink", "quiet", "accent") for ground in ("page", "surface", "sunken")),
    ("accent", "accent-soft"),
    ("ink", "accent-soft"),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *(("ink", f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *((tone, ground) for tone in ("good", "warn", "bad") for ground in ("surface", "sunken")),
)
#: Marks and the ground they stand on.
MARK_PAIRS = (("mark", "surface"), ("mark-other", "surface"), ("mark", "sunken"), ("mark-other", "sunken"))


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_the_standard_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("above", "below", "least"), [(*p, 4.5) for p in TEXT_PAIRS] + [(*p, 3.0) for p in MARK_PAIRS])
def test_what_stands_on_a_ground_can_be_told_from_it(colours, above, below, least):
    assert contrast(colours[above], colours[below]) >= least


def test_dark_has_every_colour_of_light_and_the_style_uses_no_other():
    assert len(LIGHT) == 16
    assert set(LIGHT) == set(DARK)
    used = {part.split(")")[0] for part in STYLE.split("var(--")[1:]}
    assert used <= set(LIGHT)
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_tables_that_do_not_fit_are_stacked_by_script_and_style_together():
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    assert "toggle('stacked'" in script
    assert "dataset.label" in script
    assert "content: attr(data-label)" in STYLE
    assert ".stacked thead { display: none }" in STYLE
