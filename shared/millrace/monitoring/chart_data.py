"""Chart data of a window: distributions of the features and predictions that moved most, beside their baselines.

Histograms have bins of equal share in training; a chart has bars of equal width, into which the rows of the bins are
spread evenly. Columns with few bins are drawn by bin.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from millrace.documents import Record
from millrace.histograms.bins import Floats, NumberBins
from millrace.histograms.predictions import Traffic
from millrace.histograms.tables import ColumnHistogram
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.drift import ColumnPair, prediction_columns
from millrace.monitoring.rules import VERDICTS
from millrace.monitoring.window_findings import Status, WindowFinding
from millrace.quantities import format_number

#: Columns that are drawn: all of those past their thresholds, up to so many, or the first few of the others.
_MOST, _OTHERS = 6, 3
_BARS = 24
#: Values of a categorical column, and bins of a number, that have a bar each.
_MOST_VALUES = 8
_FEW_BINS = 12
#: Reach of a chart beyond the middle 98 % of the training values, in widths of these.
_BEYOND = 0.5
#: Effects smaller than this share of their threshold are not stored by window.
_STORED_SHARE = 0.1
_MOST_EFFECTS = 60


class Bars(Record, frozen=True, kw_only=True):
    """Shares of a column's rows in the baseline and now, of bars between ``edges`` or of ``values``."""

    before: list[float]
    now: list[float]
    edges: list[float] | UnsetType = UNSET
    values: list[str] | UnsetType = UNSET
    #: True for dates, whose edges are seconds since 1970.
    is_timestamp: bool = msgspec.field(default=False, name="is_moment")


class ChartData(Bars, frozen=True, kw_only=True):
    """Bars of a subject, and the finding on it."""

    subject: str
    verdict: str
    status: Status
    value: float | None
    threshold: float | None


def draw_columns(
    traffic: Traffic, monitored: MonitoredVersion, findings: Sequence[WindowFinding]
) -> tuple[ChartData, ...]:
    """Return the data of charts: subjects past their thresholds first, then those that moved most."""
    columns = _columns(traffic, monitored)
    ranked: dict[str, WindowFinding] = {}
    for finding in sorted(findings, key=lambda one: (one.status != "breach", -(one.value or 0.0))):
        if VERDICTS[finding.verdict].charted and finding.status != "unknown" and finding.subject in columns:
            ranked.setdefault(finding.subject, finding)
    breaching = sum(finding.status == "breach" for finding in ranked.values())
    chosen = list(ranked.values())[: min(_MOST, max(breaching, _OTHERS))]
    return tuple(
        ChartData(
            subject=one.subject,
            verdict=one.verdict,
            status=one.status,
            value=one.value,
            threshold=one.threshold,
            **asdict(draw_column(columns[one.subject])),
        )
        for one in chosen
    )


def effects_of(findings: Sequence[WindowFinding]) -> dict[str, float]:
    """Return the distance of each subject in a window, the largest only, for their timeline over windows."""
    effects = {
        finding.subject: round(finding.value, 4)
        for finding in findings
        if VERDICTS[finding.verdict].charted
        and finding.value is not None
        and finding.value >= _STORED_SHARE * (finding.threshold or 0.0)
    }
    return dict(sorted(effects.items(), key=lambda item: (-item[1], item[0]))[:_MOST_EFFECTS])


def _columns(traffic: Traffic, monitored: MonitoredVersion) -> dict[str, ColumnPair]:
    reference, present = monitored.reference, traffic.features.columns
    columns = {
        name: ColumnPair(name, bins, reference.training.columns[name], present[name])
        for name, bins in reference.bins.items()
    }
    profile, present_predictions = monitored.profile, traffic.predictions
    if profile is not None and present_predictions is not None:
        found = prediction_columns(profile.predictions, present_predictions, monitored.classes, reference.target)
        columns |= {column.name: column for column in found if not monitored.hides_values or monitored.classes}
    return columns


def draw_column(column: ColumnPair) -> Bars:
    """Return the bars of a column."""
    bins = column.bins
    before, now = (_shares(histogram.counts) for histogram in (column.before, column.now))
    if not isinstance(bins, NumberBins):
        return _draw_values([*bins.categories, "other known values", "unknown values"], before, now)
    if len(bins) <= _FEW_BINS:
        return Bars(values=_bin_names(bins, column.before, column.now), before=_rounded(before), now=_rounded(now))
    edges = np.linspace(*_range(bins.edges, column), _BARS + 1)
    spread = (_rounded(_spread(bins.edges, histogram, edges)) for histogram in (column.before, column.now))
    return Bars(edges=edges.tolist(), before=next(spread), now=next(spread), is_timestamp=bins.is_date)


def _draw_values(names: Sequence[str], before: Floats, now: Floats) -> Bars:
    """Draw the values that are common in either, and the rest together."""
    largest = np.maximum(before, now)
    order = np.argsort(-largest, kind="stable")
    shown, rest = order[:_MOST_VALUES], order[_MOST_VALUES:]
    shown = shown[largest[shown] > 0]
    values, first, second = [names[int(index)] for index in shown], before[shown], now[shown]
    if largest[rest].sum() > 0:
        values = [*values, "all others"]
        first, second = np.append(first, before[rest].sum()), np.append(second, now[rest].sum())
    return Bars(values=values, before=_rounded(first), now=_rounded(second))


def _bin_names(bins: NumberBins, before: ColumnHistogram, now: ColumnHistogram) -> list[str]:
    """Return the name of each bin: its value where both histograms have no other, else its range."""
    first = min(before.low, now.low)
    lows = [first, *bins.edges.tolist()]
    single = (before.are_single(bins) & now.are_single(bins)).tolist()
    single[0] &= all(not one.counts[0] or one.low == first for one in (before, now)) and math.isfinite(first)
    ends = [format_number(low, is_date=bins.is_date) for low in lows]
    names = ["every value"] if len(lows) == 1 else [f"below {ends[1]}"]
    names += [f"{low} to {high}" for low, high in pairwise(ends[1:])]
    names += [f"{ends[-1]} or more"] if len(lows) > 1 else []
    return [end if is_single else name for end, name, is_single in zip(ends, names, single, strict=True)]


def _range(edges: Floats, column: ColumnPair) -> tuple[float, float]:
    """Return the ends of a chart: all values, or a wide middle where there are far-off values."""
    first, last = float(edges[0]), float(edges[-1])
    room = _BEYOND * (last - first)
    low = min(column.before.low, column.now.low, first)
    high = max(column.before.high, column.now.high, last)
    return max(low, first - room), min(high, last + room)


def _spread(edges: Floats, histogram: ColumnHistogram, bars: Floats) -> Floats:
    """Return the share of each bar; rows beyond the bars are in the outermost."""
    counts = histogram.counts.astype(np.float64)
    if counts.sum() <= 0:
        return np.zeros(len(bars) - 1)
    # The outermost bins have no far edge: their rows are spread evenly about their mean.
    means = histogram.bin_means()
    low = max(histogram.low, 2.0 * means[0] - edges[0]) if counts[0] else edges[0]
    high = min(histogram.high, 2.0 * means[-1] - edges[-1]) if counts[-1] else edges[-1]
    borders = np.array([min(low, edges[0]), *edges, max(high, edges[-1])])
    reached = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    at_bars = np.interp(bars, borders, reached)
    at_bars[0], at_bars[-1] = 0.0, 1.0
    return np.diff(at_bars)


def _shares(counts: npt.NDArray[Any]) -> Floats:
    return np.asarray(counts / max(1.0, float(counts.sum())), dtype=np.float64)


def _rounded(shares: Floats) -> list[float]:
    return [round(float(share), 5) for share in shares]
