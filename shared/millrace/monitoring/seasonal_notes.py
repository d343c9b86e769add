"""Breaches that may be the season's, where training does not show whether they are, say so."""

from collections.abc import Sequence
from datetime import datetime

from millrace.histograms.tables import TableHistogram
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.drift import describe_unseen_time_of_year, find_seasonal_features
from millrace.monitoring.rules import SEASONAL_EVENTS, VERDICTS
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec


def note_seasonal(
    findings: Sequence[WindowFinding],
    monitored: MonitoredVersion,
    spec: MonitoringSpec,
    now: datetime,
    features: TableHistogram | None = None,
) -> list[WindowFinding]:
    """Return the findings; breaches say that they may be seasonal where training does not show whether they are.

    ``features`` are those of a window of traffic, whose predictions may be seasonal if all drifted features may be.
    """
    reference = monitored.reference
    if spec.seasonality == "off":
        return list(findings)
    unseen = describe_unseen_time_of_year(reference, now)
    known = find_seasonal_features(reference, features, now) if features and not unseen else {}
    drifted = {one.subject for one in findings if one.status == "breach" and one.subject in reference.bins}
    of_predictions = known[min(drifted)] if drifted and drifted <= known.keys() else ""

    def note(finding: WindowFinding) -> WindowFinding:
        if finding.status != "breach" or VERDICTS[finding.verdict].event not in SEASONAL_EVENTS:
            return finding
        own = of_predictions if finding.verdict == "prediction_drift" else known.get(finding.subject, "")
        reason = unseen or own
        return finding.with_seasonal_reason(reason) if reason else finding

    return [note(finding) for finding in findings]
