"""Summarise the values of columns: what they could be, counted batch by batch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.parsers import (
    EXPONENT,
    INTEGER,
    LEADING_ZERO,
    Parsed,
    candidate_formats,
    cast_numbers,
    matches,
    parse_datetimes,
    parse_numbers,
    parse_some_numbers,
    rewrite_by_first,
    with_plain_minus,
)
from millrace.data.typed_table import hash_text
from millrace.features import EXACT_FLOAT32, float32_centre
from millrace.quantities import PLAIN, NumberStyle

#: Distinct values that are counted; a column with more of them has "more than" so many.
MAX_DISTINCT = 10_000
#: Characters of a category.
MAX_CATEGORY_LENGTH = 128
#: Values whose distinct ones decide which date formats are tried.
_EXAMPLE_VALUES = 200
_EXAMPLES = 20
#: Least tokens of a prose value, and the share of the examples that must be prose.
PROSE_TOKENS = 3
PROSE_SHARE = 0.5
#: A period so many times longer than another reading's is not the right one.
_LIKELY_PERIODS = 4.0

NO_MARKS = pa.array([], type=pa.string())


@dataclass(slots=True)
class DateFormatCounts:
    """Counts of the values that fit date formats.

    ``together`` counts those that fit either of two formats, ``differing`` those that fit both as different dates.
    """

    fitting: Counter[str] = field(default_factory=Counter)
    together: Counter[tuple[str, str]] = field(default_factory=Counter)
    differing: Counter[tuple[str, str]] = field(default_factory=Counter)
    spans: dict[str, tuple[np.datetime64, np.datetime64]] = field(default_factory=dict)

    def likely(self, forms: Sequence[str]) -> list[str]:
        """Return formats without those whose two-digit year is a day in others, which need a much shorter period.

        12/05/23 and 13/05/23 are two days of a year, not of eleven years.
        """
        periods = {form: float((self.spans[form][1] - self.spans[form][0]) / np.timedelta64(1, "D")) for form in forms}
        first, last = (
            [periods[form] for form in forms if form.startswith("%y") is year_first] for year_first in (True, False)
        )
        if not first or not last or not any("%y" in form and not form.startswith("%y") for form in forms):
            return list(forms)
        longest = _LIKELY_PERIODS * min(periods.values()) + 1.0
        return [form for form in forms if form.startswith("%y") is (min(first) < min(last)) or periods[form] <= longest]

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
            if mask.any():
                known = times[form][mask]
                first, last = self.spans.get(form, (known[0], known[0]))
                self.spans[form] = min(first, known.min()), max(last, known.max())
        for one, other in combinations(sorted(times), 2):
            both = fits[one] & fits[other]
            self.together[one, other] += int((fits[one] | fits[other]).sum())
            self.differing[one, other] += int((times[one][both] != times[other][both]).sum())


@dataclass(slots=True)
class ColumnSummary:
    """Facts about the values of a column.

    ``keep_values`` has the uniqueness of numbers checked too, as the column is named like an identifier; ``strings``
    has strings counted from the start, whether or not the first values are numbers. ``notation`` is the column's own,
    in the place of the file's.
    """

    keep_values: bool
    strings: bool = False
    notation: NumberStyle | None = None
    rows: int = 0
    present: int = 0
    longest: int = 0
    numbers: int = 0
    integers: int = 0
    whole: int = 0
    leading_zeros: int = 0
    exponents: int = 0
    marks: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    float32_values: int = 0
    float64_values: int = 0
    centred_values: int = 0  # as models read them
    first: str | None = None
    constant: bool = True
    formats: DateFormatCounts = field(default_factory=DateFormatCounts)
    examples: list[str] = field(default_factory=list)
    uncounted: bool = False
    too_many: bool = False
    _distinct: pa.Array = field(default_factory=lambda: pa.array([], type=pa.string()))
    _values: list[npt.NDArray[np.uint64]] | None = field(default_factory=list)

    def add(
        self,
        strings: pa.Array,
        numbers: NumberStyle = PLAIN,
        marks: pa.Array = NO_MARKS,
        taken: Counter[str] | None = None,
    ) -> None:
        """Add values, with their notation of numbers, strings that may mean a missing one, and those taken for it."""
        self.rows += len(strings)
        self.taken.update(taken or {})
        known = strings.drop_null() if strings.null_count else strings
        self.present += len(known)
        if not len(known):
            return
        self._add_first(known)
        numbers = self.notation or numbers
        plain, written = known, rewrite_by_first((numbers,), known)
        parsed = cast_numbers(written)
        numeric = parsed is not None
        if parsed is None:
            plain = self._without_marks(known, marks)
            if plain is known:
                written = with_plain_minus(written)
                parsed = parse_some_numbers(written)
            else:
                written = with_plain_minus(rewrite_by_first((numbers,), plain))
                parsed = parse_numbers(written)
        self._add_numbers(written, parsed)
        if numeric and not self.strings:
            self.uncounted = True
        else:
            self._add_strings(known)
            self.formats.add(plain)
        self._add_values(known)

    @property
    def nullable(self) -> bool:
        """True when a value is missing."""
        return self.present < self.rows

    @property
    def parsable(self) -> int:
        """Number of values that are numbers or dates, if the column is one: marks of missing ones do not count."""
        return self.present - self.marks.total()

    @property
    def codes(self) -> int:
        """Number of numbers that may be codes."""
        fractions = self.numbers - self.integers - self.exponents
        return self.leading_zeros + (0 if fractions else self.exponents)

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

    @property
    def known_examples(self) -> list[str]:
        """The first distinct values that mean no missing one."""
        return [example for example in self.examples if example not in self.marks]

    def numeric(self, least_share: float) -> bool:
        """Return whether at least this share of the known values are numbers."""
        return bool(self.numbers) and self.numbers >= least_share * self.parsable

    def strings_needed(self, least_share: float) -> bool:
        """Return whether a column that is not numeric has batches in which strings were not counted."""
        return self.uncounted and not self.strings and self.numbers < least_share * self.parsable

    def _add_first(self, known: pa.Array) -> None:
        if self.first is None:
            self.first = known[0].as_py()
            self.examples = pc.unique(known.slice(0, _EXAMPLE_VALUES)).to_pylist()
        if self.constant:
            self.constant = bool(pc.all(pc.equal(known, pa.scalar(self.first, pa.string()))).as_py())

    def _add_numbers(self, known: pa.Array, parsed: Parsed) -> None:
        if parsed.bad_count == len(known):
            return
        all_whole, fractions = self.whole == self.numbers, self.numbers > self.integers + self.exponents
        self.numbers += len(known) - parsed.bad_count
        if not self.float64_values and np.nanmax(np.abs(parsed.values), initial=0.0) > EXACT_FLOAT32:
            different = np.unique(parsed.values[~np.isnan(parsed.values)])
            centred = different - (float32_centre(parsed.values) or 0.0)
            self.float64_values, self.float32_values = len(different), len(np.unique(different.astype(np.float32)))
            self.centred_values = len(np.unique(centred.astype(np.float32)))
        integers = int((matches(known, INTEGER) & ~parsed.bad).sum())
        self.integers += integers
        self.leading_zeros += int(matches(known, LEADING_ZERO).sum())
        if all_whole:
            self.whole += int(np.count_nonzero(parsed.values % 1 == 0)) if integers < len(known) else integers
        if integers < len(known) and not fractions:
            self.exponents += int(matches(known, EXPONENT).sum())

    def _without_marks(self, known: pa.Array, marks: pa.Array) -> pa.Array:
        found = pc.is_in(known, value_set=marks)
        if not pc.any(found).as_py():
            return known
        self.marks.update({pair["values"]: pair["counts"] for pair in pc.value_counts(known.filter(found)).to_pylist()})
        return known.filter(pc.invert(found))

    def _add_strings(self, known: pa.Array) -> None:
        self.longest = max(self.longest, pc.max(pc.utf8_length(known)).as_py())
        if not self.too_many:
            self._distinct = pc.unique(pa.concat_arrays([self._distinct, pc.unique(known)]))
            # Longer values are no categories, and would take memory without a bound.
            if len(self._distinct) > MAX_DISTINCT or self.longest > MAX_CATEGORY_LENGTH:
                self._distinct, self.too_many = pa.array([], type=pa.string()), True

    def _add_values(self, known: pa.Array) -> None:
        if self._values is None:
            return
        numeric = self.numbers == self.present
        if (numeric and not self.keep_values) or self.nullable or pc.count_distinct(known).as_py() < len(known):
            self._values = None
            return
        self._values.append(hash_text(known))
