"""The colours of reports, by what they mean, in light and dark.

Pairs of text and background keep a contrast of 4.5 at least, and marks one of 3 (WCAG 2.2, 1.4.3 and 1.4.11); a test
computes them all.
"""

LIGHT = {
    "page": "#f4f6f9",
    "surface": "#ffffff",
    "sunken": "#eef1f6",
    "line": "#d9dfe8",
    "ink": "#17202e",
    "quiet": "#566275",
    "accent": "#2456c4",
    "accent-soft": "#e6edfb",
    "mark": "#5078cf",
    "mark-other": "#c2570c",
    "good": "#11663a",
    "good-soft": "#e1f4e8",
    "warn": "#7c4a03",
    "warn-soft": "#fdf0d5",
    "bad": "#a11c2b",
    "bad-soft": "#fde7e9",
}

DARK = {
    "page": "#0f141c",
    "surface": "#19202b",
    "sunken": "#222b39",
    "line": "#344053",
    "ink": "#e8ecf3",
    "quiet": "#a6b2c4",
    "accent": "#94b6ff",
    "accent-soft": "#22324f",
    "mark": "#6b93ea",
    "mark-other": "#f0995a",
    "good": "#7fdca6",
    "good-soft": "#163526",
    "warn": "#f3c577",
    "warn-soft": "#3a2c12",
    "bad": "#ff9da8",
    "bad-soft": "#431e25",
}

#: What is written on what.
TEXT_PAIRS = (
    *((ink, ground) for ink in ("ink", "quiet", "accent") for ground in ("page", "surface", "sunken")),
    ("accent", "accent-soft"),
    ("ink", "accent-soft"),
    *((tone, f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *(("ink", f"{tone}-soft") for tone in ("good", "warn", "bad")),
    *((tone, ground) for tone in ("good", "warn", "bad") for ground in ("surface", "sunken")),
)

#: Which marks stand on what.
MARK_PAIRS = (("mark", "surface"), ("mark-other", "surface"), ("mark", "sunken"), ("mark-other", "sunken"))


def declarations(colours: dict[str, str]) -> str:
    """Return colours as CSS custom properties."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())
