"""Metrics of a run: one line of CloudWatch's embedded metric format, when there was something to count."""

from datetime import datetime

from millrace.emf import Unit, write_metrics
from millrace.monitoring.running import MonitoringOutcome


def write_verdict(model: str, outcome: MonitoringOutcome, now: datetime) -> None:
    """Write what came of a run; a run that judged nothing writes nothing, for metrics are billed."""
    if not outcome.windows and not outcome.open_incidents:
        return
    metrics: dict[str, tuple[float, Unit]] = {
        "MonitoredRows": (outcome.rows, "Count"),
        "MonitoringBreaches": (outcome.breaches, "Count"),
        "OpenIncidents": (outcome.open_incidents, "Count"),
    }
    write_metrics(metrics, {"model": model}, now.timestamp(), {"outcome": outcome.outcome, "report": outcome.report})
