"""HTML that cannot be broken by what it shows: text is escaped unless this module made it.

>>> element("p", "1 < 2", class_="note")
'<p class="note">1 &lt; 2</p>'
"""

import html
from collections.abc import Iterable

#: Elements that have no content and no end tag.
_VOID = frozenset({"br", "col", "hr", "input", "link", "meta"})

#: Characters that no HTML page may hold, and those that reorder the text around them, so that a value cannot
#: pretend to be another one (Boucher and Anderson, "Trojan Source", 2021).
_UNPRINTABLE = dict.fromkeys(
    (
        *range(0x09),
        0x0B,
        0x0C,
        *range(0x0E, 0x20),
        *range(0x7F, 0xA0),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
        *range(0xD800, 0xE000),
        0xFFFE,
        0xFFFF,
    ),
    "\N{REPLACEMENT CHARACTER}",
)


class Html(str):
    """Text that is HTML already and is not escaped again; made by :func:`element`, :func:`join` and figures only."""

    __slots__ = ()


Content = str | None | Iterable["Content"]


def escape(text: str) -> Html:
    """Return text as HTML that shows it; what cannot be shown becomes a replacement character."""
    return Html(html.escape(text.translate(_UNPRINTABLE), quote=True))


def join(*content: Content) -> Html:
    """Put pieces one after another: HTML as it is, text escaped, None left out, lists piece by piece."""
    return Html("".join(_render(piece) for piece in content))


def _render(piece: Content) -> str:
    if piece is None:
        return ""
    if isinstance(piece, Html):
        return piece
    if isinstance(piece, str):
        return escape(piece)
    return join(*piece)


def element(name: str, /, *content: Content, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
        ``p``, ``td`` ...; never from data.
    *content : Html, str, None or iterable of them
        What is in it.
    **attributes : str, int, bool or None
        ``class_`` stands for ``class`` and ``aria_label`` for ``aria-label``; True gives an attribute without value,
        None and False leave it out.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*content)}</{name}>")


def _attribute(key: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def join_words(pieces: Iterable[Content], between: str) -> Html:
    """Put pieces one after another with some text between them."""
    joined: list[Content] = []
    for piece in pieces:
        joined += [between, piece] if joined else [piece]
    return join(*joined)
