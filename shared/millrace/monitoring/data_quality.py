"""Data quality of requests: missing values, values out of range and unseen categories.

Each share is compared with training's: its growth must reach the threshold, and a one-sided test of two proportions
(pooled, Fleiss, Levin and Paik 2003, *Statistical Methods for Rates and Proportions*, ch. 3) must be significant among
all features.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from millrace.histograms.bins import Bins, NumberBins
from millrace.histograms.tables import ColumnHistogram, TableHistogram
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.quantities import format_range
from millrace.spec.monitoring import DataQualityRule
from millrace.stats.distances import benjamini_hochberg, normal_tail

_NAMED_CATEGORIES = 3
#: Years, quarters, months, weeks and days as text: 2026, 2026-05, 2026-Q3, Q3, 2026-W07, 2026-05-03, May, Jul 2026.
_PERIOD = re.compile(
    r"(?:19|20)\d\d(?:[-/. ]?(?:Q[1-4]|W?\d\d?))?(?:[-/.]\d\d?)?|(?:Q[1-4]|W\d\d?)(?:[-/. ]?(?:19|20)?\d\d)?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?(?:[-/. ]?(?:19|20)?\d\d)?",
    re.IGNORECASE,
)
#: Share of training's range by which values may exceed it.
_NEAR_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _FaultShare:
    """Faulty rows of one kind in one column, in training and now."""

    column: str
    kind: str
    faults: tuple[int, int]
    rows: tuple[int, int]
    note: str

    @property
    def before(self) -> float:
        return self.faults[0] / max(1, self.rows[0])

    @property
    def now(self) -> float:
        return self.faults[1] / max(1, self.rows[1])

    @property
    def p_value(self) -> float:
        if min(self.rows) == 0:
            return 1.0
        pooled = sum(self.faults) / sum(self.rows)
        deviation = math.sqrt(pooled * (1.0 - pooled) * (1.0 / self.rows[0] + 1.0 / self.rows[1]))
        return normal_tail((self.now - self.before) / deviation) if deviation > 0 else 1.0


def find_faulty_data(
    bins: Mapping[str, Bins], reference: TableHistogram, present: TableHistogram, rule: DataQualityRule, rate: float
) -> list[WindowFinding]:
    """Evaluate every feature; return a finding of each feature with faults, and one of all the others."""
    if present.rows < rule.min_rows:
        return [too_few("data_quality", "every feature", present.rows, rule.min_rows)]
    shares = [
        share
        for name, own in bins.items()
        for share in _fault_shares(name, own, reference.columns[name], present.columns[name], present.rows)
    ]
    found = benjamini_hochberg([share.p_value for share in shares], rate)
    findings = [_evaluate(share, rule, significant=real) for share, real in zip(shares, found, strict=True)]
    faulty = [one for one, share in zip(findings, shares, strict=True) if share.faults[1] or one.status == "breach"]
    message = f"no faults in {present.rows:,} rows"
    return [*faulty, WindowFinding("data_quality", "every other feature", "ok", message, rows=present.rows)]


def _fault_shares(
    name: str, bins: Bins, reference: ColumnHistogram, present: ColumnHistogram, rows: int
) -> Iterator[_FaultShare]:
    training_rows = reference.known + reference.missing
    totals = training_rows, rows
    gone = present.missing == rows and reference.missing < training_rows
    note = "requests no longer have the column" if gone else ""
    yield _FaultShare(name, "missing", (reference.missing, present.missing), totals, note)
    if isinstance(bins, NumberBins):
        valid, found = (
            format_range(low, high, is_date=bins.is_date)
            for low, high in ((bins.minimum, bins.maximum), (present.low, present.high))
        )
        faults = reference.out_of_range, _count_out_of_range(bins, present)
        yield _FaultShare(name, "out of range", faults, totals, f"valid are {valid}, requests have {found}")
    else:
        named = ", ".join(repr(category) for category in list(present.unseen)[:_NAMED_CATEGORIES])
        # The next month is unseen, and no fault.
        goes_on = all(map(_PERIOD.fullmatch, (*bins.categories, *present.unseen)))
        unseen = 0 if goes_on else int(present.counts[bins.unseen])
        yield _FaultShare(name, "unknown", (0, unseen), totals, f"for example {named}")


def _count_out_of_range(bins: NumberBins, present: ColumnHistogram) -> int:
    """Return the number of values out of range, without those that merely continue what training had.

    Counters, years and numbers of months grow beyond training's maximum. They do so when most of a window has passed
    it, or when all that is beyond is near it; whether the distribution drifted is for the drift verdicts to say.
    """
    continuing = present.out_of_range - present.far_out
    near = bins.maximum + max(_NEAR_SHARE * (bins.maximum - bins.minimum), float(bins.is_integer))
    goes_on = 2 * continuing >= present.known or (not present.far_out and present.high <= near)
    return present.far_out if goes_on else present.out_of_range


def _evaluate(share: _FaultShare, rule: DataQualityRule, *, significant: bool) -> WindowFinding:
    growth = share.now - share.before
    message = f"{share.kind} values of {share.column!r}: {share.before:.1%} in training, {share.now:.1%} now"
    return WindowFinding(
        verdict="data_quality",
        subject=f"{share.column}: {share.kind}",
        status=breach_or_ok(significant and growth >= rule.threshold),
        message=f"{message}; {share.note}" if share.note and share.faults[1] else message,
        measure=f"share {share.kind}",
        value=growth,
        threshold=rule.threshold,
        rows=share.rows[1],
        p_value=share.p_value,
        details={"column": share.column, "before": share.before, "now": share.now},
    )
