"""What is known of a column after seeing its cells batch by batch: enough to infer its type and its role.

A summary's size does not depend on the number of rows, except where uniqueness is in question: of a column of words
eight bytes a row are kept for as long as none of them repeats in a batch. A batch of numbers is only counted; should
the column turn out not to be numeric after all, :attr:`ColumnSummary.words_needed` asks for a second look that counts
words from the start.
"""

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.cells import candidate_formats, integer_cells, leading_zero_cells, parse_datetimes, parse_numbers
from millrace.data.number_style import PLAIN, NumberStyle
from millrace.data.words import hash_words

#: Distinct values that are counted; a column with more of them has "more than" so many.
MAX_DISTINCT = 10_000
#: Cells whose distinct values say which date formats are worth trying.
_EXAMPLE_CELLS = 200
_EXAMPLES = 20
#: Words that a cell of prose has at least, and the share of the example cells that must be prose.
PROSE_WORDS = 3
PROSE_SHARE = 0.5


@dataclass(slots=True)
class FormatCount:
    """How the cells of a column read as dates.

    Parameters
    ----------
    fitting : dict of str to int
        Cells that fit each format.
    together, differing : dict of pair of str to int
        Cells that fit either of two formats, and those that fit both but are then different moments.
    """

    fitting: dict[str, int] = field(default_factory=dict)
    together: dict[tuple[str, str], int] = field(default_factory=dict)
    differing: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, cells: pa.Array) -> None:
        """Count more cells, none of them missing."""
        examples = pc.unique(cells.slice(0, _EXAMPLE_CELLS)).to_pylist()[:_EXAMPLES]
        for example in examples:
            for form in candidate_formats(example):
                self.fitting.setdefault(form, 0)
        moments = {form: parse_datetimes(cells, [form]).values for form in self.fitting}
        fits = {form: ~np.isnat(values) for form, values in moments.items()}
        for form, mask in fits.items():
            self.fitting[form] += int(mask.sum())
        for pair in combinations(sorted(moments), 2):
            one, other = pair
            both = fits[one] & fits[other]
            either = int((fits[one] | fits[other]).sum())
            self.together[pair] = self.together.get(pair, 0) + either
            differing = int((moments[one][both] != moments[other][both]).sum())
            self.differing[pair] = self.differing.get(pair, 0) + differing


@dataclass(slots=True)
class ColumnSummary:
    """What is known of one column.

    Parameters
    ----------
    keep_values : bool
        Whether uniqueness of numbers is in question too, because the column is named like an identifier.
    words : bool, default=False
        Count words from the start, whether or not the first cells are numbers.
    """

    keep_values: bool
    words: bool = False
    rows: int = 0
    present: int = 0
    longest: int = 0
    numbers: int = 0
    integers: int = 0
    leading_zeros: int = 0
    first: str | None = None
    constant: bool = True
    formats: FormatCount = field(default_factory=FormatCount)
    examples: list[str] = field(default_factory=list)
    uncounted: bool = False
    too_many: bool = False
    _distinct: pa.Array = field(default_factory=lambda: pa.array([], type=pa.string()))
    _values: list[npt.NDArray[np.uint64]] | None = field(default_factory=list)

    def add(self, cells: pa.Array, numbers: NumberStyle = PLAIN) -> None:
        """Take more cells into account, in which numbers are written in some style."""
        self.rows += len(cells)
        known = cells.drop_null() if cells.null_count else cells
        self.present += len(known)
        if not len(known):
            return
        self._add_first(known)
        if self._add_numbers(numbers.rewrite(known)) and not self.words:
            self.uncounted = True
        else:
            self._add_words(known)
        self._add_values(known)

    @property
    def nullable(self) -> bool:
        """Whether a cell is missing."""
        return self.present < self.rows

    @property
    def distinct(self) -> int:
        """How many different words there are; the greatest number that is counted where there are more."""
        return MAX_DISTINCT if self.too_many else len(self._distinct)

    @property
    def distinct_in_words(self) -> str:
        """How many different words there are."""
        return f"{'more than ' if self.too_many else ''}{self.distinct:,}"

    @property
    def distinct_words(self) -> list[str]:
        """The different words, when there are not too many."""
        words: list[str] = self._distinct.to_pylist()
        return words

    @property
    def unique(self) -> bool:
        """Whether no value is missing or comes twice."""
        if self._values is None or self.nullable or self.present < 2:  # noqa: PLR2004  # one value repeats nothing
            return False
        ordered = np.sort(np.concatenate(self._values))
        return len(ordered) == self.present and bool(np.all(ordered[1:] != ordered[:-1]))

    @property
    def wordy(self) -> bool:
        """Whether the first different values are mostly written in several words, as no code or name of a thing is."""
        wordy = sum(len(example.split()) >= PROSE_WORDS for example in self.examples)
        return bool(self.examples) and wordy >= PROSE_SHARE * len(self.examples)

    def words_needed(self, least_share: float) -> bool:
        """Tell whether a column that is not numeric has batches in which words were not counted."""
        return self.uncounted and not self.words and self.numbers < least_share * self.present

    def _add_first(self, known: pa.Array) -> None:
        if self.first is None:
            self.first = known[0].as_py()
            self.examples = pc.unique(known.slice(0, _EXAMPLE_CELLS)).to_pylist()
        if self.constant:
            self.constant = bool(pc.all(pc.equal(known, pa.scalar(self.first, pa.string()))).as_py())

    def _add_numbers(self, known: pa.Array) -> bool:
        """Count numbers; tell whether all cells are."""
        parsed = parse_numbers(known)
        self.numbers += len(known) - parsed.bad_count
        if parsed.bad_count == len(known):
            return False
        whole = integer_cells(known)
        self.integers += int((whole & ~parsed.bad).sum())
        self.leading_zeros += int(leading_zero_cells(known).sum())
        return not parsed.bad_count

    def _add_words(self, known: pa.Array) -> None:
        if not self.too_many:
            self._distinct = pc.unique(pa.concat_arrays([self._distinct, pc.unique(known)]))
            if len(self._distinct) > MAX_DISTINCT:
                self._distinct, self.too_many = self._distinct.slice(0, 0), True
        self.longest = max(self.longest, pc.max(pc.utf8_length(known)).as_py())
        self.formats.add(known)

    def _add_values(self, known: pa.Array) -> None:
        if self._values is None:
            return
        numeric = self.numbers == self.present
        if (numeric and not self.keep_values) or self.nullable or pc.count_distinct(known).as_py() < len(known):
            self._values = None
            return
        self._values.append(hash_words(known))


def summarise(cells: pa.Array, *, keep_values: bool = True) -> ColumnSummary:
    """Summarise a column that is in memory."""
    summary = ColumnSummary(keep_values)
    summary.add(cells)
    if summary.words_needed(1.0):
        summary = ColumnSummary(keep_values, words=True)
        summary.add(cells)
    return summary
