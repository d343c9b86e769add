"""The page: one file that opens from a disk or a bucket, asks nothing of a network, and reads without JavaScript."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from millrace.reporting.html import Content, Html, element, join
from millrace.reporting.style import STYLE

#: A convenience only: narrows what is marked ``data-filter`` to what is typed.
_SCRIPT = """
document.querySelectorAll('.filter').forEach(function (form) {
  var input = form.querySelector('input'), told = form.querySelector('output');
  var items = document.querySelectorAll('[data-filter="' + form.dataset.for + '"]');
  form.hidden = false;
  input.addEventListener('input', function () {
    var wanted = input.value.trim().toLowerCase(), shown = 0;
    items.forEach(function (item) {
      item.hidden = item.dataset.name.toLowerCase().indexOf(wanted) < 0;
      shown += item.hidden ? 0 : 1;
    });
    told.textContent = wanted ? shown + ' of ' + items.length : '';
  });
});
addEventListener('beforeprint', function () {
  document.querySelectorAll('details').forEach(function (part) { part.open = true; });
});
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page that its table of contents names.

    Parameters
    ----------
    identifier : str
        Of its anchor.
    title : str
        Its heading.
    content : Html
        What is in it.
    lead : str, default=""
        A sentence below the heading.
    short_title : str, default=""
        For the table of contents, where the heading is long.
    """

    identifier: str
    title: str
    content: Html
    lead: str = ""
    short_title: str = ""


def render_page(
    *,
    title: str,
    kicker: str,
    badge: Html | None,
    subtitle: Content,
    summary: Content,
    sections: Sequence[Section],
    footer: Content,
) -> str:
    """Return a whole HTML document.

    Parameters
    ----------
    title : str
        Of the page and the browser's tab.
    kicker : str
        What kind of report it is, above the title.
    badge : Html or None
        The verdict, beside the title.
    subtitle, summary : Html, str or None
        Below the title: a line, and the tiles and callouts that matter most.
    sections : sequence of Section
        In order; those without content are left out by the caller.
    footer : Html, str or None
        How the page came about.

    Notes
    -----
    The content security policy allows this page's own style and script and nothing else, so that whatever a value
    might smuggle in could neither run nor call home.
    """
    masthead = element(
        "header",
        element(
            "div",
            element("p", kicker, class_="kicker"),
            element("div", element("h1", title), badge, class_="title-row"),
            element("p", subtitle, class_="subtitle") if subtitle else None,
            summary,
            class_="wrap",
        ),
        class_="masthead",
    )
    body = join(
        element("a", "Skip to the content", href="#content", class_="skip"),
        masthead,
        _contents(sections),
        element("main", element("div", [_section(part) for part in sections], class_="wrap"), id="content"),
        element("footer", element("div", footer, class_="wrap")),
        element("script", Html(_SCRIPT)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{_head(f"{title} · {kicker}")}<body>{body}</body></html>\n'


def _head(title: str) -> Html:
    digests = {kind: _digest(text) for kind, text in (("style", STYLE), ("script", _SCRIPT))}
    policy = (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Html(STYLE)),
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _contents(sections: Sequence[Section]) -> Html:
    entries = [
        element("li", element("a", part.short_title or part.title, href=f"#{part.identifier}")) for part in sections
    ]
    return element(
        "nav", element("div", element("ul", entries), class_="wrap"), class_="contents", aria_label="Contents"
    )


def _section(part: Section) -> Html:
    return element(
        "section",
        element("h2", part.title, id=f"{part.identifier}-title"),
        element("p", part.lead, class_="lead") if part.lead else None,
        part.content,
        id=part.identifier,
        aria_labelledby=f"{part.identifier}-title",
    )
