"""Data quality: values that are missing, out of range, or of a kind that training never saw.

Each share is compared with training's: the growth must reach the threshold, and a one-sided test of two proportions
(pooled, Fleiss, Levin and Paik 2003, *Statistical Methods for Rates and Proportions*, ch. 3) must find it among all
features.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from millrace.histograms.bins import Cells, NumberCells, WordCells
from millrace.histograms.tables import ColumnSketch, TableSketch
from millrace.monitoring.findings import Finding, too_few
from millrace.spec.monitoring import DataQualityWatch
from millrace.stats.distances import discoveries, normal_tail

#: Unknown values named in a message.
_NAMED_VALUES = 3


@dataclass(frozen=True, slots=True)
class _Share:
    """One kind of fault of one column: rows at fault among rows, in training and now."""

    column: str
    kind: str
    faults: tuple[int, int]
    rows: tuple[int, int]
    note: str = ""

    @property
    def growth(self) -> float:
        before, now = (fault / max(1, rows) for fault, rows in zip(self.faults, self.rows, strict=True))
        return now - before


def find_faults(
    cells: Mapping[str, Cells], reference: TableSketch, present: TableSketch, watch: DataQualityWatch, rate: float
) -> list[Finding]:
    """Judge every feature: a finding for each that has faults now, and one for all the others together."""
    if present.rows < watch.min_rows:
        return [too_few("data_quality", "every feature", present.rows, watch.min_rows)]
    checked = [
        share
        for name, own in cells.items()
        for share in _shares(name, own, reference.columns[name], present.columns[name], present.rows)
    ]
    found = discoveries([_growth_tail(share) for share in checked], rate)
    findings = [_judge(share, watch.threshold, real=real) for share, real in zip(checked, found, strict=True)]
    # What has no faults at all need not be listed feature by feature.
    kept = [one for one, share in zip(findings, checked, strict=True) if share.faults[1] or one.status == "breach"]
    clean = Finding(
        "data_quality", "every other feature", "ok", f"no faults in {present.rows:,} rows", rows=present.rows
    )
    return [*kept, clean]


def _shares(name: str, cells: Cells, reference: ColumnSketch, present: ColumnSketch, rows: int) -> Iterator[_Share]:
    training_rows = reference.known + reference.missing
    gone = present.missing == rows and reference.missing < training_rows
    note = "the column is no longer sent" if gone else ""
    yield _Share(name, "missing", (reference.missing, present.missing), (training_rows, rows), note)
    if isinstance(cells, NumberCells):
        low, high = (f"{limit:.4g}" for limit in (cells.minimum, cells.maximum))
        note = f"training saw {low} to {high}, now {present.low:.4g} to {present.high:.4g} come"
        yield _Share(name, "out of range", (reference.out_of_range, present.out_of_range), (training_rows, rows), note)
    elif isinstance(cells, WordCells):
        named = ", ".join(repr(word) for word, _ in present.strange.most_common(_NAMED_VALUES))
        yield _Share(
            name, "unknown", (0, int(present.counts[cells.unknown])), (training_rows, rows), f"such as {named}"
        )


def _growth_tail(share: _Share) -> float:
    before, now = share.rows
    if min(before, now) == 0:
        return 1.0
    pooled = sum(share.faults) / (before + now)
    deviation = math.sqrt(pooled * (1.0 - pooled) * (1.0 / before + 1.0 / now))
    return normal_tail(share.growth / deviation) if deviation > 0 else 1.0


def _judge(share: _Share, threshold: float, *, real: bool) -> Finding:
    before, now = (fault / max(1, rows) for fault, rows in zip(share.faults, share.rows, strict=True))
    breach = real and share.growth >= threshold
    words = f"{share.kind} values of {share.column!r}: {before:.1%} in training, {now:.1%} now"
    message = f"{words}; {share.note}" if share.note and share.faults[1] else words
    return Finding(
        verdict="data_quality",
        subject=f"{share.column}: {share.kind}",
        status="breach" if breach else "ok",
        message=message,
        measure=f"share {share.kind}",
        value=share.growth,
        threshold=threshold,
        rows=share.rows[1],
        p_value=_growth_tail(share),
        details={"column": share.column, "before": before, "now": now},
    )
