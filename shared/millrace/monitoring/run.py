"""What one run of the monitor works with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.monitoring.alerts import make_alerts
from millrace.monitoring.baselines import WatchedVersion
from millrace.monitoring.findings import Finding
from millrace.monitoring.incidents import advance
from millrace.monitoring.intake import IntakeNotes
from millrace.monitoring.state import MonitoringState
from millrace.ports import ObjectStore
from millrace.spec import ModelSpec

#: How long the bus hears nothing of an incident that goes on, at least.
_SOONEST = timedelta(hours=1)


@dataclass(slots=True)
class Run:
    """What a run works with."""

    model: str
    spec: ModelSpec
    state: MonitoringState
    watched: WatchedVersion
    store: ObjectStore
    now: datetime
    token: str
    notes: IntakeNotes

    def advance(self, source: str, findings: Sequence[Finding], begin: datetime) -> None:
        """Take into account what is found now of a window that began then."""
        self.state.book, transitions = advance(
            self.state.book,
            findings,
            self.spec.monitoring,
            model=self.model,
            version=self.watched.version,
            window=(begin, self.now),
            ask_again_after=max(_SOONEST, timedelta(hours=self.spec.retraining.cooldown_hours)),
        )
        self.state.outbox += make_alerts(self.model, transitions, self.now)
        self.state.findings[source] = list(findings)
