"""A version in production, monitored every hour by the product's own functions, with its windows in memory."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram, Traffic, ValueHistogram
from millrace.histograms.tables import count_in_bins
from millrace.monitoring import windows
from millrace.monitoring.context import MonitorContext, MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, Transition, advance
from millrace.monitoring.state import MAX_SEGMENTS, OpenWindow, OutcomeHistory, Segment, TrafficHistory
from millrace.monitoring.window_findings import WindowEvaluation
from millrace.schema import TableSchema
from millrace.spec import ModelSpec
from msgspec.structs import replace

_HOUR = timedelta(hours=1)


class MonitoredStream:
    """Serves and monitors one version; everything between the rows and the alerts is the product's."""

    def __init__(self, schema: TableSchema, monitored: MonitoredVersion, spec: ModelSpec, begin: datetime) -> None:
        self.schema, self.monitored, self.spec, self.begin = schema, monitored, spec, begin
        self.incidents = IncidentHistory()
        self._traffic, self._outcomes = TrafficHistory(), OutcomeHistory()
        self._stored: dict[str, Traffic] = {}
        self._counted: dict[str, AnyOutcomes] = {}

    def serve(
        self, hour: int, columns: Mapping[str, np.ndarray], predictions: ClassPredictions | np.ndarray, outcomes
    ) -> None:
        """Add the rows of an hour; values are predicted by a regression, class indices are outcomes otherwise."""
        reference, rows = self.monitored.reference, len(predictions)
        features = count_in_bins(columns, rows, reference.bins, reference.plan)
        if isinstance(predictions, ClassPredictions):
            counted = PredictionHistogram.count(predictions)
            self._counted[str(hour)] = OutcomeHistogram.count(predictions, outcomes)
        else:
            counted = ValueHistogram.count(predictions, reference.target)
            self._counted[str(hour)] = ErrorSums.measure(
                predictions, outcomes, origin=reference.target.center, bins=reference.target
            )
        begin = self.begin + hour * _HOUR
        end = begin + _HOUR - timedelta(seconds=1)
        piece = OpenWindow(traffic=Traffic(features=features, predictions=counted), begin=begin, end=end)
        self._traffic = windows.add_traffic(self._traffic, piece, self.monitored)
        segment = Segment(key=str(hour), begin=begin, end=end, rows=rows, requests=rows)
        self._outcomes = replace(self._outcomes, segments=(*self._outcomes.segments, segment)[-MAX_SEGMENTS:])

    def label(self, hour: int) -> None:
        """Let the outcomes of an hour arrive."""
        segments = tuple(
            replace(one, labelled=one.rows) if one.key == str(hour) else one for one in self._outcomes.segments
        )
        self._outcomes = replace(self._outcomes, segments=segments)

    def monitor(self, hour: int) -> list[tuple[WindowEvaluation, list[Transition]]]:
        """Run the monitor at the end of an hour; return what was evaluated, and the incidents' transitions."""
        # In the place of what is stored in a bucket.
        windows._store_traffic = self._store
        windows._load_traffic = lambda _store, key: self._stored.get(key)
        windows.count_outcomes = lambda _store, segment, *_more: self._counted[segment.key]
        now = self.begin + (hour + 1) * _HOUR
        context = MonitorContext("m", self.spec, 1, self.schema, self.monitored, "", None, now, str(hour))
        self._traffic, of_traffic = windows.close_traffic_window(context, self._traffic)
        self._outcomes, of_outcomes = windows.close_outcome_window(context, self._outcomes, self._traffic.inputs)
        return [(one, self._advance(one, now)) for one in (of_traffic, of_outcomes) if one]

    def _store(self, context: MonitorContext, traffic: Traffic, name: str) -> str:
        key = f"{name}-{context.token}"
        self._stored[key] = traffic
        return key

    def _advance(self, evaluation: WindowEvaluation, now: datetime) -> list[Transition]:
        self.incidents, transitions = advance(
            self.incidents,
            evaluation.findings,
            self.spec.monitoring,
            model="m",
            version=1,
            window=(evaluation.begin, now),
            repeat_after=timedelta(hours=24),
            begun_at=self.begin,
        )
        return transitions
