"""Measure false alarms on unchanged traffic, and how long graded shifts take to be told, by simulation.

    python benchmarks/monitoring/simulate.py               # every traffic level, with the defaults of the spec
    python benchmarks/monitoring/simulate.py --streams 0 --rates 200 --seasons 0.6       # delays alone, beside a wave
    python benchmarks/monitoring/simulate.py --shifted 0 --seasons 0 0.3 0.6 1           # false alarms alone

Each stream has a training set and a holdout of its own, so that what a small training set gets wrong by chance is in
the rate. Rows pass through the same histograms, windows, verdicts and incidents as in production, only that nothing is
stored. There is no cooldown between two false alarms, so that each counts.
"""

import argparse
import statistics
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from millrace.data.reference import describe_reference
from millrace.evaluation.estimate_errors import measure_estimate_errors
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram, Traffic
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.live_quality import MeasuredWindow, RecentOutcomes
from millrace.monitoring.rules import evaluate_outcomes, evaluate_traffic, input_findings, rows_needed
from millrace.monitoring.seasonality import SeasonalBaselines, find_seasonal_windows
from millrace.monitoring.state import MAX_HISTORY
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import MonitoringSpec
from streams import (
    GRADES,
    HOLDOUT_ROWS,
    NOTHING,
    NUMBERS,
    TRAINING_ROWS,
    WORDS,
    Rows,
    Shift,
    draw,
    draw_days,
)

START = datetime(2026, 5, 4, tzinfo=UTC)
HOURS = 24
CLASSES = ("no", "yes")
SCHEMA = TableSchema(
    columns=(
        *(Column(name, "number") for name in NUMBERS),
        *(Column(name, "category", categories=values) for name, values in WORDS.items()),
        Column("target", "category", role="target", categories=CLASSES),
    ),
    task="binary",
    classes=CLASSES,
)


def predict(rows: Rows) -> ClassPredictions:
    """Return the model's predictions: the true chance in training."""
    return ClassPredictions((rows.chance >= 0.5).astype(np.int64), np.stack([1.0 - rows.chance, rows.chance], axis=1))  # noqa: PLR2004  # the likelier class


@dataclass(frozen=True)
class Window:
    """A closed window."""

    begin: datetime
    end: datetime
    quiet: bool
    traffic: Traffic


class Stream:
    """One model in production, an hour at a time; its training data and holdout are of whole days like its own."""

    def __init__(self, number: int, spec: MonitoringSpec, season: float = 0.0) -> None:
        usual = Shift(season=season)
        training, holdout = draw_days(TRAINING_ROWS, (number, 1), usual), draw_days(HOLDOUT_ROWS, (number, 2), usual)
        typed = {name: values.astype(np.str_) if name in WORDS else values for name, values in training.columns.items()}
        reference = Reference.build(describe_reference(SCHEMA, typed, training.outcomes), SCHEMA)
        predictions = predict(holdout)
        profile = PredictionProfile(
            predictions=PredictionHistogram.count(predictions),
            outcomes=(outcomes := OutcomeHistogram.count(predictions, holdout.outcomes)),
            estimate_errors=measure_estimate_errors(
                SCHEMA,
                predictions.probabilities,
                holdout.outcomes,
                columns={
                    name: values.astype(np.str_) if name in WORDS else values
                    for name, values in holdout.columns.items()
                },
                outcomes=outcomes,
                seed=number,
            ),
        )
        self.monitored = MonitoredVersion("binary", CLASSES, reference, profile)
        self.spec, self.number, self.incidents = spec, number, IncidentHistory()
        self.windows: list[Window] = []
        self.skewed: list[str] = []
        self.closed = 0
        self._open: Traffic | None = None
        self._begin = START
        self._outcomes, self._outcomes_begin = OutcomeHistogram.empty(2), START
        self._measured: list[MeasuredWindow] = []
        self._counts: list[OutcomeHistogram | None] = []
        self._inputs: tuple = ()

    def hour(self, hour: int, rate: int, shift: Shift = NOTHING) -> list[str]:
        """Serve an hour; return the incidents that opened at its end."""
        rows = draw(rate, (self.number, 3, hour), shift, hour)
        predictions = predict(rows)
        reference = self.monitored.reference
        features = count_in_bins(rows.columns, rate, reference.bins, reference.plan)
        traffic = Traffic(features=features, predictions=PredictionHistogram.count(predictions))
        begin, end = START + timedelta(hours=hour), START + timedelta(hours=hour + 1)
        if self._open is None:
            self._open, self._begin = traffic, begin
        else:
            self._open += traffic
        self._outcomes += OutcomeHistogram.count(predictions, rows.outcomes)
        opened: list[str] = []
        if self._open.features.rows >= rows_needed(self.spec):
            opened += self._close_window(end)
        if self._outcomes.rows >= self.spec.live_quality.min_rows:
            span = (self._outcomes_begin, end)
            measured = MeasuredWindow.measure(self._outcomes, self.monitored.profile, None, span)
            recent = RecentOutcomes(measured, self._measured, self._counts, len(self._measured) == MAX_HISTORY)
            arguments = (self._outcomes, self._outcomes.rows, self.monitored, self.spec, self._inputs)
            opened += self._advance(evaluate_outcomes(*arguments, recent=recent), end)
            self._measured = [*self._measured, measured][-MAX_HISTORY:]
            self._counts = [*self._counts, self._outcomes.coarsen()][-MAX_HISTORY:]
            self._outcomes, self._outcomes_begin = OutcomeHistogram.empty(2), end
        return opened

    def _close_window(self, end: datetime) -> list[str]:
        traffic = self._open
        assert traffic is not None
        previous = next((window.traffic for window in reversed(self.windows) if window.quiet), None)
        like = find_seasonal_windows(self.windows, self._begin, end)
        baselines = Baselines(
            previous=previous,
            seasonal=SeasonalBaselines(like, lambda window: window.traffic, traffic),
            skewed=self.skewed,
            first=not self.windows,
        )
        findings = evaluate_traffic(traffic, self.monitored, self.spec, baselines)
        breaching = [finding for finding in findings if finding.status == "breach"]
        skewed = [finding.subject for finding in breaching if finding.verdict == "skew"]
        self.skewed = skewed if not self.windows else [name for name in self.skewed if name in skewed]
        self._inputs = input_findings(findings)
        self.windows.append(Window(self._begin, end, not breaching, traffic))
        self.closed += 1
        self._open = None
        return self._advance(findings, end)

    def _advance(self, findings: list, end: datetime) -> list[str]:
        self.incidents, transitions = advance(
            self.incidents,
            findings,
            self.spec,
            model="m",
            version=1,
            window=(self._begin, end),
            repeat_after=timedelta(days=365),
        )
        return [transition.incident.event for transition in transitions if transition.step == "opened"]


@dataclass
class Alarms:
    """What was told of traffic in which nothing changed."""

    windows: int = 0
    on_the_first_day: int = 0
    later: Counter = field(default_factory=Counter)


def false_alarms(streams: int, days: int, rate: int, season: float) -> Alarms:
    """Return the incidents that opened on traffic that is like training, with or without a daily wave in both."""
    found = Alarms()
    for number in range(streams):
        stream = Stream(number, MonitoringSpec(cooldown_hours=0.0), season)
        for hour in range(24 * days):
            opened = stream.hour(hour, rate, Shift(season=season))
            if hour < HOURS:
                found.on_the_first_day += len(opened)
            else:
                found.later.update(opened)
        found.windows += stream.closed
    return found


def delays(streams: int, rate: int, shift: Shift, most_hours: int) -> list[int | None]:
    """Return after how many hours each stream's shift was told; None where it was not.

    It begins after two days of quiet, each stream's at another hour of the day. An incident that a season opened before
    is not what is looked for, so it has to be over, or another verdict has to find the shift.
    """
    found: list[int | None] = []
    for number in range(streams):
        stream = Stream(10_000 + number, MonitoringSpec(cooldown_hours=0.0), shift.season)
        begin = 2 * HOURS + 5 * number % HOURS
        for hour in range(begin):
            stream.hour(hour, rate, Shift(season=shift.season))
        hours = range(begin, begin + most_hours)
        found.append(next((hour - begin + 1 for hour in hours if stream.hour(hour, rate, shift)), None))
    return found


def print_false_alarms(streams: int, days: int, rates: list[int], seasons: list[float]) -> None:
    """Print how often something was told though nothing had changed."""
    print("\n| rows an hour | daily wave | windows | on the first day, a stream | later | later, per 1,000 windows |")
    print("|---|---|---|---|---|---|")
    for season in seasons:
        for rate in rates:
            found = false_alarms(streams, days, rate, season)
            count = found.later.total()
            told = f" ({', '.join(f'{one} {event}' for event, one in found.later.items())})" if count else ""
            later = found.windows * (days - 1) / days
            first = found.on_the_first_day / streams
            wave = f"{season:g} deviations" if season else "none"
            often = f"{count}{told} | {count / later * 1_000:.1f}"
            print(f"| {rate:,} | {wave} | {found.windows:,} | {first:.1f} | {often} |", flush=True)


def print_delays(streams: int, rates: list[int], season: float) -> None:
    """Print how long each shift took to be told, of those that were, and their share."""
    heads = " | ".join(f"{rate:,} rows an hour" for rate in rates)
    wave = f"a daily wave of {season:g} deviations" if season else "no daily wave"
    print(f"\n| shift, {wave} | grade | {heads} |\n|---|---|{'---|' * len(rates)}")
    for kind, grades in GRADES.items():
        for grade, shift in grades.items():
            cells = []
            for rate in rates:
                window_hours = max(1, -(-200 // rate))
                found = delays(streams, rate, replace(shift, season=season), most_hours=24 * window_hours)
                told = sorted(hours for hours in found if hours is not None)
                median = f"{statistics.median(told):g} h" if told else "never"
                cells.append(f"{median}, {len(told) / len(found):.0%}")
            print(f"| {kind} | {grade} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=20, help="that nothing happens to")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rates", type=int, nargs="+", default=[20, 200, 2_000])
    parser.add_argument("--seasons", type=float, nargs="+", default=[0.0], help="daily waves, in deviations")
    parser.add_argument("--shifted", type=int, default=6, help="streams of each shift")
    chosen = parser.parse_args()
    if chosen.streams:
        print_false_alarms(chosen.streams, chosen.days, chosen.rates, chosen.seasons)
    for strength in chosen.seasons if chosen.shifted else ():
        print_delays(chosen.shifted, chosen.rates, strength)
