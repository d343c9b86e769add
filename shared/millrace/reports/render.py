"""The Jinja2 environment of the reports.

Every page is one file that opens from a disk or a bucket, loads nothing from a network and is readable without
JavaScript. Templates escape every value, and an undefined name is an error.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from millrace.reports import formatting

TEMPLATES = Path(__file__).parent / "templates"

#: Characters that no HTML page may hold, and those that reorder the text around them, so that a value cannot
#: pretend to be another one (Boucher and Anderson, "Trojan Source", 2021).
_UNPRINTABLE = dict.fromkeys(
    (*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"
) | dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\ufffd")
#: Functions of :mod:`formatting` that templates use as filters.
_FILTERS = (
    *("number", "three_digits", "count", "share", "timestamp", "interval", "join_names", "paragraphs"),
    *("markdown", "markdown_code", "fence", "metric_label"),
)


class Render(Protocol):
    """Renders a template with values."""

    def __call__(self, template: str, /, **values: Any) -> str:
        """Return the text."""


def render(template: str, /, **values: Any) -> str:
    """Render a template as a file of its own; the same values give the same text.

    Parameters
    ----------
    template : str
        File name in the templates folder. ``.md`` is not escaped, every other one is.
    **values : object
        The variables of the template.

    Raises
    ------
    jinja2.UndefinedError
        When the template uses a value that it was not given.
    """
    return render_within(environment(), template, **values)


def render_within(frame: Environment, template: str, /, **values: Any) -> str:
    """Render a template within an environment's frame; errors as :func:`render`."""
    return frame.get_template(template).render(values).translate(_UNPRINTABLE)


@cache
def environment(*folders: Path) -> Environment:
    """Return the environment, with filters, the stylesheet, the script and the policy that allows these two.

    Templates in ``folders`` come before those of the reports: another ``page.html`` there is another frame.
    """
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in (*folders, TEMPLATES)]),
        autoescape=select_autoescape(disabled_extensions=("md",), default=True),
        undefined=StrictUndefined,
        finalize=lambda value: "" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    made.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "page.js"))
    made.globals |= {
        "style": Markup(style),  # noqa: S704  # our own file
        "script": Markup(script),  # noqa: S704  # our own file
        "policy": _policy(style, script),
        "not_known": formatting.NOT_KNOWN,
    }
    return made


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style and this script and nothing else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
