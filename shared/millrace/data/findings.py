"""Findings of checks on an upload, each a message with a remedy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

Severity = Literal["error", "warning"]

#: Values quoted in a finding, and the length that each is cut to.
MAX_EXAMPLES = 5
MAX_EXAMPLE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check; an error rejects the upload.

    ``check`` is a stable name, ``count`` the affected rows or values, ``share`` that of the checked ones. ``rows`` are
    the lines and values of the first affected rows, sensitive ones masked; ``files`` theirs, when the upload has
    several.
    """

    severity: Severity
    check: str
    column: str | None
    message: str
    count: int = 0
    examples: tuple[str, ...] = ()
    share: float | None = None
    rows: tuple[tuple[int, str], ...] = ()
    files: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "severity": self.severity,
            "check": self.check,
            "column": self.column,
            "message": self.message,
            "count": self.count,
            "examples": list(self.examples),
            "share": self.share,
            "rows": [
                {"line": line, "value": value} | ({"file": file} if file else {})
                for (line, value), file in zip_longest(self.rows, self.files)
            ],
        }


def error(check: str, message: str, column: str | None = None, count: int = 0, examples: Iterable[str] = ()) -> Finding:
    """Return a finding that rejects the upload."""
    return Finding("error", check, column, message, count, shorten_examples(examples))


def warning(
    check: str, message: str, column: str | None = None, count: int = 0, examples: Iterable[str] = ()
) -> Finding:
    """Return a finding that does not reject the upload."""
    return Finding("warning", check, column, message, count, shorten_examples(examples))


def errors_among(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings that reject the upload."""
    return [finding for finding in findings if finding.severity == "error"]


def shorten(text: str, length: int = MAX_EXAMPLE_LENGTH) -> str:
    """Return ``text``, cut to ``length`` characters."""
    return text if len(text) <= length else text[: length - 3] + "..."


def shorten_examples(values: Iterable[str]) -> tuple[str, ...]:
    """Return the first few distinct values, each cut to a length."""
    return tuple(shorten(value) for value in list(dict.fromkeys(values))[:MAX_EXAMPLES])


def quoted(values: Iterable[str]) -> str:
    """Return values for a sentence: ``'a', 'b', 'c'``."""
    return ", ".join(repr(shorten(value)) for value in values)


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Return the first ``limit`` names for a sentence, and the number of the others."""
    more = len(names) - limit
    return quoted(names[:limit]) + (f" and {more:,} more" if more > 0 else "")
