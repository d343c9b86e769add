"""Broken dependence: features that each look as they did and no longer go together as they did."""

from dataclasses import dataclass

import numpy as np

from millrace.monitoring.findings import Finding, too_few
from millrace.monitoring.statistics import discoveries
from millrace.monitoring.tails import normal_tail
from millrace.sketches.dependence import LEAST_ROWS, DependenceSketch, ScorePlan
from millrace.spec.monitoring import DependenceWatch


@dataclass(frozen=True, slots=True)
class BrokenPair:
    """How one pair's correlation changed."""

    first: str
    second: str
    before: float
    now: float
    p_value: float

    @property
    def change(self) -> float:
        """By how much."""
        return abs(self.now - self.before)


def compare_dependence(plan: ScorePlan, reference: DependenceSketch, present: DependenceSketch) -> list[BrokenPair]:
    """Compare every pair of scores of different columns, by Fisher's z.

    The transform ``atanh(r)`` has a standard deviation of about ``1 / sqrt(n - 3)`` (Fisher 1921, *Metron* 1: 3-32).
    """
    if min(reference.rows, present.rows) < LEAST_ROWS:
        return []
    before, now = reference.correlations(), present.correlations()
    deviation = float(np.sqrt(1.0 / (reference.rows - 3) + 1.0 / (present.rows - 3)))
    limit = 1.0 - 1e-6
    transformed = np.arctanh(np.clip(now, -limit, limit)) - np.arctanh(np.clip(before, -limit, limit))
    pairs: list[BrokenPair] = []
    for i, j in zip(*np.triu_indices(len(plan), 1), strict=True):
        one, other = plan.scores[int(i)], plan.scores[int(j)]
        if one.column == other.column or np.isnan(transformed[i, j]):
            continue
        p_value = 2.0 * normal_tail(abs(float(transformed[i, j])) / deviation)
        pairs.append(BrokenPair(one.name, other.name, float(before[i, j]), float(now[i, j]), p_value))
    return pairs


def find_broken_pairs(
    plan: ScorePlan, reference: DependenceSketch, present: DependenceSketch, watch: DependenceWatch, rate: float
) -> list[Finding]:
    """Judge all pairs together: a finding for each that broke, and one for the rest."""
    if present.rows < watch.min_rows:
        return [too_few("dependence", "every pair", present.rows, watch.min_rows)]
    if not reference.rows:
        return [Finding("dependence", "every pair", "unknown", "the training data's correlations were not kept")]
    pairs = compare_dependence(plan, reference, present)
    found = discoveries([pair.p_value for pair in pairs], rate)
    broken = [pair for pair, real in zip(pairs, found, strict=True) if real and pair.change >= watch.threshold]
    broken.sort(key=lambda pair: (-pair.change, pair.first, pair.second))
    largest = max((pair.change for pair in pairs), default=0.0)
    message = f"{len(pairs) - len(broken):,} pairs of features go together as in training"
    rest = Finding("dependence", "every other pair", "ok", message, "change", largest, watch.threshold, present.rows)
    return [_judge(pair, watch.threshold, present.rows) for pair in broken] + ([] if broken else [rest])


def _judge(pair: BrokenPair, threshold: float, rows: int) -> Finding:
    return Finding(
        verdict="dependence",
        subject=f"{pair.first} and {pair.second}",
        status="breach",
        message=f"{pair.first!r} and {pair.second!r} no longer go together as in training: correlation "
        f"{pair.before:.2f} → {pair.now:.2f}, although each may look as it did",
        measure="change of correlation",
        value=pair.change,
        threshold=threshold,
        rows=rows,
        p_value=pair.p_value,
        details={"before": pair.before, "now": pair.now},
    )
