"""Findings: what is remarkable about an upload, each in words that say how to mend it."""

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
    """One thing that a check found.

    Parameters
    ----------
    severity : {'error', 'warning'}
        An error rejects the upload.
    check : str
        Which check found it, as a name that stays the same: ``missing_column``, ``too_few_rows`` ...
    column : str or None
        The column, when it is about one.
    message : str
        A readable sentence.
    count : int, default=0
        Rows or values that it is about.
    examples : tuple of str, default=()
        A few of the values.
    share : float or None, default=None
        ``count`` as a share of the rows or values that were looked at.
    rows : tuple of (int, str), default=()
        Lines and values of the first few rows that it is about; ``***`` stands for a value that is sensitive.
    files : tuple of str, default=()
        The files of these rows, when the upload has several.
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
    """Return a finding that is worth knowing."""
    return Finding("warning", check, column, message, count, shorten_examples(examples))


def errors_among(findings: Sequence[Finding]) -> list[Finding]:
    """Return those that reject the upload."""
    return [finding for finding in findings if finding.severity == "error"]


def shorten(text: str, length: int = MAX_EXAMPLE_LENGTH) -> str:
    """Return ``text``, cut to ``length`` characters where it is longer."""
    return text if len(text) <= length else text[: length - 3] + "..."


def shorten_examples(values: Iterable[str]) -> tuple[str, ...]:
    """Return the first few distinct values, each cut to a length."""
    return tuple(shorten(value) for value in list(dict.fromkeys(values))[:MAX_EXAMPLES])


def quoted(values: Iterable[str]) -> str:
    """Return values for a sentence: ``'a', 'b', 'c'``."""
    return ", ".join(repr(shorten(value)) for value in values)


def listed(names: Sequence[str], limit: int = 20) -> str:
    """Return column names for a sentence, the first ``limit`` of them."""
    more = len(names) - limit
    return quoted(names[:limit]) + (f" and {more:,} more" if more > 0 else "")
