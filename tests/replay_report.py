"""A replay's report, for the tests of what shows it."""

from datetime import UTC, datetime
from typing import Any

from millrace.documents import to_plain
from millrace.releases.replay_evidence import PairedQuality
from millrace.replay.replay_documents import (
    DecisionChange,
    Deviations,
    OutputShift,
    PairedMetric,
    QualityEstimate,
    RefusedRows,
    ReplayCounts,
    ReplayedDay,
    ReplayedSlice,
    ReplayReport,
    ReplaySelfTest,
)
from msgspec.structs import replace

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)


def make_quality(low: float, high: float) -> PairedQuality:
    """Return a test of 60 pairs with a margin of 0.01."""
    losses = {"champion_loss": 0.2, "candidate_loss": 0.15, "gain": 0.05}
    return PairedQuality(
        metric="accuracy", pairs=60, margin=0.01, low=low, high=high, log_e_worse=-1.0, log_e_safe=2.0, **losses
    )


def make_report(**changes: Any) -> ReplayReport:
    """Return a report with something of everything."""
    report = ReplayReport(
        model="churn",
        replay_id="20261130T030000-0f3a9c2b7d1e",
        baseline=6,
        candidate=7,
        since=NOW,
        until=NOW,
        requested_at=NOW,
        requested_by="arn:aws:iam::123456789012:user/ann",
        updated_at=NOW,
        status="succeeded",
        progress=1.0,
        task="binary",
        counts=ReplayCounts(
            rows=110,
            replayed=100,
            by_version={"6": 100},
            omitted=3,
            refused=(RefusedRows(version=7, reason="age expects at most 50", rows=7),),
        ),
        self_test=ReplaySelfTest(compared=100, equal=99, rounded=1),
        agreement=0.9,
        days=tuple(ReplayedDay(day=f"2026-11-2{day}", rows=25, changed=day, labelled=15) for day in range(6, 10)),
        changes=(DecisionChange(champion="no", candidate="yes", rows=10),),
        slices=(ReplayedSlice(name="plan is <basic>", declared=True, rows=40, changed=0.2, difference=0.1),),
        deviations=Deviations(
            median=0.01, p90=0.1, p99=0.4, largest=0.5, mean_change=0.02, edges=(0.0, 0.25, 0.5), counts=(90, 10)
        ),
        shifts=(OutputShift(output="yes", psi=0.12, excess=0.02),),
        labelled=60,
        metrics=(PairedMetric(metric="accuracy", champion=0.8, candidate=0.85, gain=0.05, low=0.01, high=0.09),),
        metric_rows=60,
        quality=make_quality(0.002, 0.1),
        estimates=(
            QualityEstimate(version=6, metric="accuracy", holdout=0.81, value=0.8, low=0.78, high=0.82),
            QualityEstimate(version=7, reason="not known: too far from training"),
        ),
        notes=("a sample: at least 50.00% of the captured rows of an hour were replayed",),
    )
    return replace(report, **changes)


def make_document(**changes: Any) -> dict[str, Any]:
    """Return the API's response with the report."""
    page = "replays/churn/20261130T030000-0f3a9c2b7d1e/report.html"
    return {"model": "churn", "replay": to_plain(make_report(**changes)), "page": page}
