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
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from millrace.data.reference import describe_reference
from millrace.evaluation.estimate_errors import measure_estimate_errors
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import Reference
from millrace.monitoring.context import MonitoredVersion
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec
from millrace.spec.monitoring import MonitoringSpec
from production import MonitoredStream
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
        monitored = MonitoredVersion("binary", CLASSES, reference, profile)
        self.number, self.closed = number, 0
        self._stream = MonitoredStream(SCHEMA, monitored, ModelSpec(monitoring=spec), START)

    def hour(self, hour: int, rate: int, shift: Shift = NOTHING) -> list[str]:
        """Serve an hour; return the incidents that opened at its end."""
        rows = draw(rate, (self.number, 3, hour), shift, hour)
        self._stream.serve(hour, rows.columns, predict(rows), rows.outcomes)
        self._stream.label(hour)
        found = self._stream.monitor(hour)
        self.closed += sum(evaluation.source == "traffic" for evaluation, _ in found)
        return [one.incident.event for _, transitions in found for one in transitions if one.step == "opened"]


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


def delays(streams: int, rate: int, shift: Shift, most_hours: int, quiet_days: int) -> list[int | None]:
    """Return after how many hours each stream's shift was told; None where it was not.

    It begins after some days of quiet, each stream's at another hour of the day. An incident that a season opened
    before is not what is looked for, so it has to be over, or another verdict has to find the shift.
    """
    found: list[int | None] = []
    for number in range(streams):
        stream = Stream(10_000 + number, MonitoringSpec(cooldown_hours=0.0), shift.season)
        begin = quiet_days * HOURS + 5 * number % HOURS
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


def print_delays(streams: int, rates: list[int], season: float, quiet_days: int) -> None:
    """Print how long each shift took to be told, of those that were, and their share."""
    heads = " | ".join(f"{rate:,} rows an hour" for rate in rates)
    wave = f"a daily wave of {season:g} deviations" if season else "no daily wave"
    print(f"\n| shift, {wave} | grade | {heads} |\n|---|---|{'---|' * len(rates)}")
    for kind, grades in GRADES.items():
        for grade, shift in grades.items():
            cells = []
            for rate in rates:
                window_hours = max(1, -(-200 // rate))
                found = delays(
                    streams, rate, replace(shift, season=season), most_hours=24 * window_hours, quiet_days=quiet_days
                )
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
    parser.add_argument("--quiet-days", type=int, default=2, help="before a shift")
    chosen = parser.parse_args()
    if chosen.streams:
        print_false_alarms(chosen.streams, chosen.days, chosen.rates, chosen.seasons)
    for strength in chosen.seasons if chosen.shifted else ():
        print_delays(chosen.shifted, chosen.rates, strength, chosen.quiet_days)
