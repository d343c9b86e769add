"""Sums of what receipts count; needs no tables."""

from collections.abc import Mapping, Sequence

from millrace.batch.job import PredictionSummary


def add_summaries(summaries: Sequence[PredictionSummary]) -> PredictionSummary:
    """Return the distribution of all predictions, from those of parts."""
    least = [one.least for one in summaries if one.least is not None]
    greatest = [one.greatest for one in summaries if one.greatest is not None]
    return PredictionSummary(
        rows=sum(one.rows for one in summaries),
        labels=sum_counts([one.labels for one in summaries]),
        decisions=sum_counts([one.decisions for one in summaries]),
        total=sum(one.total for one in summaries),
        least=min(least, default=None),
        greatest=max(greatest, default=None),
    )


def sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts by name, the largest first."""
    found: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
