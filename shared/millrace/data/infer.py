"""Infer columns and target: types, roles, task and classes.

A column is numeric (or dates) when at least 95 % of its known values are; the others are then malformed rows. With less
than that it is a category or text; text of several words is a feature. Ambiguous values are never guessed: dates whose
day and month could be swapped are reported and left out.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import Finding, quoted, warning
from millrace.data.parsers import (
    BOOLEAN_PAIRS,
    INTEGER,
    LEADING_ZERO,
    PLAIN,
    NumberStyle,
    candidate_formats,
    matches,
    parse_datetimes,
    parse_numbers,
)
from millrace.data.raw import RowBatch, TableReader
from millrace.data.typed_table import hash_text
from millrace.schema import Column, Role

#: Distinct values that are counted; a column with more of them has "more than" so many.
MAX_DISTINCT = 10_000
#: Values whose distinct ones decide which date formats are tried.
_EXAMPLE_VALUES = 200
_EXAMPLES = 20
#: Least tokens of a prose value, and the share of the examples that must be prose.
PROSE_TOKENS = 3
PROSE_SHARE = 0.5


@dataclass(slots=True)
class DateFormatCounts:
    """Counts of the values that fit date formats.

    ``together`` counts those that fit either of two formats, ``differing`` those that fit both as different dates.
    """

    fitting: Counter[str] = field(default_factory=Counter)
    together: Counter[tuple[str, str]] = field(default_factory=Counter)
    differing: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, strings: pa.Array) -> None:
        """Count more values, none of them missing."""
        examples = pc.unique(strings.slice(0, _EXAMPLE_VALUES)).to_pylist()[:_EXAMPLES]
        for example in examples:
            for form in candidate_formats(example):
                self.fitting.setdefault(form, 0)
        times = {form: parse_datetimes(strings, [form]).values for form in self.fitting}
        fits = {form: ~np.isnat(values) for form, values in times.items()}
        for form, mask in fits.items():
            self.fitting[form] += int(mask.sum())
        for one, other in combinations(sorted(times), 2):
            both = fits[one] & fits[other]
            self.together[one, other] += int((fits[one] | fits[other]).sum())
            self.differing[one, other] += int((times[one][both] != times[other][both]).sum())


@dataclass(slots=True)
class ColumnSummary:
    """Facts about the values of a column.

    ``keep_values`` has the uniqueness of numbers checked too, as the column is named like an identifier; ``strings``
    has strings counted from the start, whether or not the first values are numbers.
    """

    keep_values: bool
    strings: bool = False
    rows: int = 0
    present: int = 0
    longest: int = 0
    numbers: int = 0
    integers: int = 0
    leading_zeros: int = 0
    first: str | None = None
    constant: bool = True
    formats: DateFormatCounts = field(default_factory=DateFormatCounts)
    examples: list[str] = field(default_factory=list)
    uncounted: bool = False
    too_many: bool = False
    _distinct: pa.Array = field(default_factory=lambda: pa.array([], type=pa.string()))
    _values: list[npt.NDArray[np.uint64]] | None = field(default_factory=list)

    def add(self, strings: pa.Array, numbers: NumberStyle = PLAIN) -> None:
        """Add values, with their notation of numbers."""
        self.rows += len(strings)
        known = strings.drop_null() if strings.null_count else strings
        self.present += len(known)
        if not len(known):
            return
        self._add_first(known)
        if self._add_numbers(numbers.rewrite(known)) and not self.strings:
            self.uncounted = True
        else:
            self._add_strings(known)
        self._add_values(known)

    @property
    def nullable(self) -> bool:
        """True when a value is missing."""
        return self.present < self.rows

    @property
    def distinct(self) -> int:
        """Number of distinct strings, up to :data:`MAX_DISTINCT`."""
        return MAX_DISTINCT if self.too_many else len(self._distinct)

    @property
    def distinct_strings(self) -> list[str]:
        """The distinct strings, when there are not too many."""
        strings: list[str] = self._distinct.to_pylist()
        return strings

    @property
    def unique(self) -> bool:
        """True when no value is missing or repeated."""
        if self._values is None or self.nullable or self.present < 2:  # noqa: PLR2004  # one value repeats nothing
            return False
        ordered = np.sort(np.concatenate(self._values))
        return len(ordered) == self.present and bool(np.all(ordered[1:] != ordered[:-1]))

    @property
    def is_prose(self) -> bool:
        """True when the first distinct values mostly have several tokens, as no code or name has."""
        prose = sum(len(example.split()) >= PROSE_TOKENS for example in self.examples)
        return bool(self.examples) and prose >= PROSE_SHARE * len(self.examples)

    def strings_needed(self, least_share: float) -> bool:
        """Return whether a column that is not numeric has batches in which strings were not counted."""
        return self.uncounted and not self.strings and self.numbers < least_share * self.present

    def _add_first(self, known: pa.Array) -> None:
        if self.first is None:
            self.first = known[0].as_py()
            self.examples = pc.unique(known.slice(0, _EXAMPLE_VALUES)).to_pylist()
        if self.constant:
            self.constant = bool(pc.all(pc.equal(known, pa.scalar(self.first, pa.string()))).as_py())

    def _add_numbers(self, known: pa.Array) -> bool:
        """Count numbers; return whether all values are."""
        parsed = parse_numbers(known)
        self.numbers += len(known) - parsed.bad_count
        if parsed.bad_count == len(known):
            return False
        self.integers += int((matches(known, INTEGER) & ~parsed.bad).sum())
        self.leading_zeros += int(matches(known, LEADING_ZERO).sum())
        return not parsed.bad_count

    def _add_strings(self, known: pa.Array) -> None:
        self.longest = max(self.longest, pc.max(pc.utf8_length(known)).as_py())
        if not self.too_many:
            self._distinct = pc.unique(pa.concat_arrays([self._distinct, pc.unique(known)]))
            # Longer values are no categories, and would take memory without a bound.
            if len(self._distinct) > MAX_DISTINCT or self.longest > MAX_CATEGORY_LENGTH:
                self._distinct, self.too_many = pa.array([], type=pa.string()), True
        self.formats.add(known)

    def _add_values(self, known: pa.Array) -> None:
        if self._values is None:
            return
        numeric = self.numbers == self.present
        if (numeric and not self.keep_values) or self.nullable or pc.count_distinct(known).as_py() < len(known):
            self._values = None
            return
        self._values.append(hash_text(known))


#: Share of a column's known values that must parse for it to be numeric, or a date.
PARSED_SHARE = 0.95
#: Share of numbers with leading zeros past which a column holds codes.
CODE_SHARE = 0.01
MAX_CATEGORIES = 1_000
MAX_CATEGORY_LENGTH = 128
#: A table this small may have a category for every row.
SMALL_TABLE = 20

_AMBIGUOUS = "day and month could change places"
_ALL_DIFFER = "every value differs"
_IDENTIFIER_NAME = re.compile(r"(?:^|.*[_\-. ])(?:id|uuid)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column as inferred, with findings."""

    column: Column
    findings: tuple[Finding, ...] = ()


def infer_columns(
    table: TableReader, target: str, id_column: str | None = None, date_order: str | None = None
) -> tuple[list[Column], list[Finding]]:
    """Infer every column's type and role; at most one is the identifier.

    The table is read once, or twice when a column of numbers ends in strings. Without ``id_column`` the identifier is
    the first column that is unique and named like one; without ``date_order`` a column of ambiguous dates is left out.
    """
    inferred = [
        infer_from_summary(name, summary, is_target=name == target, date_order=date_order)
        for name, summary in summarise_columns(table, table.names).items()
    ]
    columns = _with_one_identifier([one.column for one in inferred], target, id_column)
    return columns, [finding for one in inferred for finding in one.findings]


def infer_some(table: TableReader, names: Sequence[str], date_order: str | None = None) -> list[Column]:
    """Infer a few columns, none of them the target; nothing is read when there are none."""
    summaries = summarise_columns(table, names)
    return [infer_from_summary(name, summary, date_order=date_order).column for name, summary in summaries.items()]


def summarise_columns(table: TableReader, names: Sequence[str]) -> dict[str, ColumnSummary]:
    """Summarise some columns of a table."""
    if not names:
        return {}
    summaries = _read_summaries(table, names, strings=False)
    again = [name for name, summary in summaries.items() if summary.strings_needed(PARSED_SHARE)]
    if again:
        summaries |= _read_summaries(table, again, strings=True)
    return summaries


def _read_summaries(table: TableReader, names: Sequence[str], *, strings: bool) -> dict[str, ColumnSummary]:
    summaries = {name: ColumnSummary(bool(_IDENTIFIER_NAME.match(name)), strings) for name in names}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in table.batches():
            # Most of it is Arrow's work, which lets other threads run meanwhile.
            for _ in pool.map(partial(_summarise, batch), summaries.items()):
                pass
    return summaries


def _summarise(batch: RowBatch, named: tuple[str, ColumnSummary]) -> None:
    name, summary = named
    summary.add(batch.column(name), batch.numbers)


def infer_from_summary(
    name: str, summary: ColumnSummary, *, is_target: bool = False, date_order: str | None = None
) -> InferredColumn:
    """Infer one column from its summary."""
    if not summary.present:
        role: Role = "target" if is_target else "ignored"
        return InferredColumn(Column(name, "text", role, nullable=True, reason="every value is missing"))
    typed = _infer_type(name, summary, date_order)
    if is_target:
        return InferredColumn(replace(typed.column, role="target"), typed.findings)
    return InferredColumn(_with_role(typed.column, summary), typed.findings)


def _infer_type(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn:
    if plain := _as_number(name, summary) or _as_boolean(name, summary):
        return InferredColumn(plain)
    if dates := _as_datetime(name, summary, date_order):
        return dates
    few = summary.present < SMALL_TABLE or summary.distinct <= summary.present / 2
    if summary.distinct <= MAX_CATEGORIES and few and summary.longest <= MAX_CATEGORY_LENGTH:
        return InferredColumn(Column(name, "category", nullable=summary.nullable))
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=_text_reason(summary)))


def _as_boolean(name: str, summary: ColumnSummary) -> Column | None:
    if summary.distinct > len(("True", "true", "TRUE", "False", "false", "FALSE")):
        return None
    strings: set[str] = set(summary.distinct_strings)
    lowered = {string.lower() for string in strings}
    for true_name, false_name in BOOLEAN_PAIRS:
        if lowered == {true_name, false_name}:
            boolean = Column(name, "boolean", nullable=summary.nullable)
            if true_name == "true":
                return boolean
            return replace(
                boolean, categories=tuple(sorted(strings)), true_values=(true_name,), false_values=(false_name,)
            )
    return None


def _as_number(name: str, summary: ColumnSummary) -> Column | None:
    if summary.numbers < PARSED_SHARE * summary.present or summary.leading_zeros > CODE_SHARE * summary.present:
        return None
    return Column(name, "integer" if summary.integers == summary.numbers else "number", nullable=summary.nullable)


def _as_datetime(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn | None:
    counts = summary.formats
    needed = PARSED_SHARE * summary.present
    best = max(counts.fitting.values(), default=0)
    if best < needed:
        return _in_two_formats(name, summary, needed)
    winners = [form for form, count in counts.fitting.items() if count == best]
    if date_order is not None:
        first = "%d" if date_order == "day_first" else "%m"
        winners = [form for form in winners if form.startswith(first)] or winners
    rivals = [form for form in winners[1:] if counts.differing[min(winners[0], form), max(winners[0], form)]]
    if not rivals:
        return InferredColumn(Column(name, "datetime", nullable=summary.nullable, formats=(winners[0],)))
    return _ambiguous(name, summary, (winners[0], rivals[0]))


def _in_two_formats(name: str, summary: ColumnSummary, needed: float) -> InferredColumn | None:
    """Accept dates in two formats when no value differs between them."""
    counts = summary.formats
    pairs = [pair for pair, count in counts.together.items() if count >= needed]
    if not pairs:
        return None
    best = min(pairs, key=counts.differing.__getitem__)
    if counts.differing[best]:
        return _ambiguous(name, summary, best)
    formats = tuple(sorted(best, key=lambda form: -counts.fitting[form]))
    written = " and ".join(f"{form} ({counts.fitting[form]:,} values)" for form in formats)
    finding = warning("two_date_formats", f"the dates of {name!r} have two formats, {written}; both are read", name)
    return InferredColumn(Column(name, "datetime", nullable=summary.nullable, formats=formats), (finding,))


def _ambiguous(name: str, summary: ColumnSummary, forms: tuple[str, str]) -> InferredColumn:
    reason = f"{_AMBIGUOUS}: {forms[0]} and {forms[1]} fit every value; write dates as YYYY-MM-DD"
    finding = warning("ambiguous_dates", f"the column {name!r} is left out: {reason}", name, examples=summary.examples)
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=reason), (finding,))


def _with_role(column: Column, summary: ColumnSummary) -> Column:
    """Choose between feature, identifier and ignored."""
    if _IDENTIFIER_NAME.match(column.name) and summary.unique:
        return replace(column, role="identifier", reason="named like an identifier, and unique")
    strings = column.type in ("category", "text") and not column.reason.startswith(_AMBIGUOUS)
    if strings and summary.longest <= MAX_CATEGORY_LENGTH and summary.present >= SMALL_TABLE and summary.unique:
        column = replace(column, type="text", role="ignored", reason=_ALL_DIFFER)
    if strings and column.type == "text" and summary.is_prose and not summary.constant:
        return replace(column, role="feature", reason="")
    if summary.constant and not (column.nullable and column.type == "category"):
        return replace(column, role="ignored", reason=f"constant: every value is {quoted([summary.first or ''])}")
    return column


def _with_one_identifier(columns: list[Column], target: str, id_column: str | None) -> list[Column]:
    """Keep the first identifier, or that of the spec; the others would only repeat it."""
    if id_column != target:
        columns = [
            replace(column, role="identifier", reason="named by the spec") if column.name == id_column else column
            for column in columns
        ]
    found = [column for column in columns if column.role == "identifier"]
    if len(found) < 2:  # noqa: PLR2004  # two of a kind
        return columns
    kept = next((column for column in found if column.name == id_column), found[0])
    reason = f"identifies rows, as {kept.name!r} does already"
    return [
        replace(column, role="ignored", reason=reason) if column in found and column is not kept else column
        for column in columns
    ]


def _text_reason(summary: ColumnSummary) -> str:
    if summary.longest > MAX_CATEGORY_LENGTH:
        return (
            f"free text: a value is {summary.longest:,} characters long (categories have at most {MAX_CATEGORY_LENGTH})"
        )
    return (
        f"free text: {'more than ' if summary.too_many else ''}{summary.distinct:,} different values in "
        f"{summary.present:,} rows (categories have at most {MAX_CATEGORIES:,}, and each twice on average)"
    )
