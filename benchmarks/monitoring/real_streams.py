"""Measure alerts on streams of real rows in which nothing changes, and on one with a true shift.

    python benchmarks/monitoring/real_streams.py --bike hour.csv                                  # weekly, 28 days
    python benchmarks/monitoring/real_streams.py --bike hour.csv --stream annual --days 365 --rows-per-hour 20
    python benchmarks/monitoring/real_streams.py --bike hour.csv --stream shift --days 365 --rows-per-hour 20

*weekly*: the rows of every hour are drawn from all real rows of that weekday and hour, so that nothing changes, ever.
*annual*: only from those within ten days of the date: the year's seasons, which training has seen. *shift*: a model of
2011 serves 2012, when the demand was 60 % higher.

Rows pass through the product's own histograms, windows, seasonality, verdicts, persistence, cooldown and incidents,
with the defaults of the spec and the limits of the stored state. The windows are kept in memory instead of a bucket.
Outcomes arrive at once, or ``--delay`` hours later. Seeds differ in the training rows, in the draws and in the day on
which the stream begins.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from bike import Bike, BikeModel, Hours, read_bike, train
from millrace.histograms.outcomes import ErrorSums
from millrace.histograms.predictions import Traffic, ValueHistogram
from millrace.histograms.tables import count_in_bins
from millrace.monitoring import windows
from millrace.monitoring.context import MonitorContext
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.state import MAX_SEGMENTS, OpenWindow, OutcomeHistory, Segment, TrafficHistory
from millrace.monitoring.window_findings import WindowEvaluation
from millrace.spec import ModelSpec

#: A Monday, the first day of a year of the streams.
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WEEK, MONTH = timedelta(days=7), timedelta(days=30)


@dataclass
class Told:
    """The alerts of one stream, and the windows in breach by subject."""

    opened: list[tuple[timedelta, str, str]] = field(default_factory=list)  # since the begin; event; first subject
    resolved: list[tuple[timedelta, str]] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    breaches: Counter[str] = field(default_factory=Counter)  # after the first week, by key
    still_open: dict[str, float] = field(default_factory=dict)  # days, by event

    def later(self, event: str = "") -> list[timedelta]:
        """Return when alerts opened after the first week."""
        return [at for at, own, _ in self.opened if at > WEEK and own.startswith(event)]

    def most_in_30_days(self, event: str = "") -> int:
        """Return the most alerts in 30 days after the first week."""
        times = self.later(event)
        return max((sum(first <= other < first + MONTH for other in times) for first in times), default=0)


class MemoryWindows:
    """Keeps windows and counted outcomes in memory, in the place of the functions that store and read them."""

    def __init__(self) -> None:
        self.traffic: dict[str, Traffic] = {}
        self.outcomes: dict[str, ErrorSums] = {}

    def install(self) -> None:
        """Replace the functions of :mod:`millrace.monitoring.windows`."""
        windows._store_traffic = self._store
        windows._load_traffic = lambda _store, key: self.traffic.get(key)
        windows.count_outcomes = lambda _store, segment, *_more: self.outcomes[segment.key]

    def _store(self, context: MonitorContext, traffic: Traffic, name: str) -> str:
        key = f"{name}-{context.token}"
        self.traffic[key] = traffic
        return key


class Stream:
    """A version in production, monitored every hour."""

    def __init__(self, bike: Bike, model: BikeModel, hours: Hours, spec: ModelSpec, start_day: int) -> None:
        self._bike, self._model, self._hours, self._spec, self._start_day = bike, model, hours, spec, start_day
        self._traffic, self._outcomes, self._incidents = TrafficHistory(), OutcomeHistory(), IncidentHistory()
        self._memory = MemoryWindows()
        self._memory.install()
        self._begin = MONDAY + timedelta(days=start_day)
        self.told = Told()

    def run(self, days: int, rate: int, delay: int) -> Told:
        """Serve some days, and return what was told."""
        for hour in range(24 * days):
            self._serve(hour, rate)
            self._label(hour - delay)
            now = self._begin + timedelta(hours=hour + 1)
            context = MonitorContext(
                "m", self._spec, 1, self._model.schema, self._model.monitored, "", None, now, str(hour)
            )
            self._traffic, of_traffic = windows.close_traffic_window(context, self._traffic)
            self._outcomes, of_outcomes = windows.close_outcome_window(context, self._outcomes, self._traffic.inputs)
            for evaluation in (of_traffic, of_outcomes):
                if evaluation:
                    self._advance(evaluation, now)
        end = self._begin + timedelta(days=days)
        for incident in self._incidents.open_incidents():
            self.told.still_open[incident.event] = (end - incident.opened_at) / timedelta(days=1)
        return self.told

    def _serve(self, hour: int, rate: int) -> None:
        rows = self._hours.rows(self._start_day, hour, rate)
        reference = self._model.monitored.reference
        columns = {name: values[rows] for name, values in self._bike.columns.items()}
        features = count_in_bins(columns, len(rows), reference.bins, reference.plan)
        values, outcomes = self._model.predictions[rows], self._bike.target[rows]
        begin, end = self._begin + timedelta(hours=hour), self._begin + timedelta(hours=hour, minutes=59, seconds=59)
        traffic = Traffic(features=features, predictions=ValueHistogram.count(values, reference.target))
        window = windows.extend_window(self._traffic.open, OpenWindow(traffic=traffic, begin=begin, end=end))
        self._traffic = replace(self._traffic, open=window)
        self._memory.outcomes[str(hour)] = ErrorSums.measure(
            values, outcomes, origin=reference.target.center, bins=reference.target
        )
        segment = Segment(key=str(hour), begin=begin, end=end, rows=len(rows), requests=len(rows))
        self._outcomes = replace(self._outcomes, segments=(*self._outcomes.segments, segment)[-MAX_SEGMENTS:])

    def _label(self, hour: int) -> None:
        """Let the outcomes of an earlier hour arrive."""
        self._outcomes = replace(
            self._outcomes,
            segments=tuple(
                replace(one, labelled=one.rows) if one.key == str(hour) else one for one in self._outcomes.segments
            ),
        )

    def _advance(self, evaluation: WindowEvaluation, now: datetime) -> None:
        since = now - self._begin
        self.told.windows[evaluation.source] += 1
        if since > WEEK:
            self.told.breaches.update(one.key for one in evaluation.findings if one.status == "breach")
        self._incidents, transitions = advance(
            self._incidents,
            evaluation.findings,
            self._spec.monitoring,
            model="m",
            version=1,
            window=(evaluation.begin, now),
            repeat_after=timedelta(hours=24),
        )
        for transition in transitions:
            incident = transition.incident
            if transition.step == "opened":
                keys = [key for key, active in incident.findings.items() if not active.quiet_windows]
                self.told.opened.append((since, incident.event, ", ".join(keys[:4])))
            elif transition.step == "resolved":
                self.told.resolved.append((since, incident.event))


def measure(bike: Bike, chosen: argparse.Namespace, rate: int, seed: int) -> Told:
    """Run one stream; its first day is another one with each seed."""
    start_day = (seed * 73) % 365
    model = train(bike, chosen.stream, seed)
    return Stream(bike, model, Hours(bike, chosen.stream, seed), ModelSpec(), start_day).run(
        chosen.days, rate, chosen.delay
    )


def main(chosen: argparse.Namespace) -> None:
    """Print a row for each stream, and with ``--verbose`` each alert."""
    bike = read_bike(chosen.bike)
    print(
        "| stream | rows an hour | days | seed | windows (outcomes) | alerts in week 1 |"
        " later, of inputs or predictions | most in 30 days |"
        " later, of quality | most in 30 days | all-clears | open at the end, days |"
    )
    print("|---|" + "---|" * 11)
    for rate in chosen.rows_per_hour:
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            told = measure(bike, chosen, rate, seed)
            first = sum(at <= WEEK for at, _, _ in told.opened)
            cells = [f"{len(told.later(event))} | {told.most_in_30_days(event)}" for event in ("D", "Q")]
            still = ", ".join(f"{event} {days:.0f}" for event, days in told.still_open.items()) or "-"
            windows_text = f"{told.windows['traffic']:,} ({told.windows['outcomes']:,})"
            print(
                f"| {chosen.stream} | {rate:,} | {chosen.days} | {seed} | {windows_text} | {first} |"
                f" {' | '.join(cells)} | {len(told.resolved)} | {still} |",
                flush=True,
            )
            if chosen.verbose:
                for at, event, keys in told.opened:
                    print(f"    opened day {at / timedelta(days=1):.2f} {event}: {keys}")
                for at, event in told.resolved:
                    print(f"    resolved day {at / timedelta(days=1):.2f} {event}")
                print("    breaches after week 1:", dict(told.breaches.most_common(12)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bike", type=Path, required=True, help="hour.csv of the bike sharing dataset")
    parser.add_argument("--stream", choices=("weekly", "annual", "shift"), default="weekly")
    parser.add_argument("--rows-per-hour", type=lambda text: [int(one) for one in text.split(",")], default=[200])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--delay", type=int, default=0, help="hours until outcomes arrive")
    parser.add_argument("--verbose", action="store_true", help="print every alert, and the commonest breaches")
    main(parser.parse_args())
