"""Measure false alarms on unchanged traffic, and how long graded shifts take to be told, by simulation.

    python benchmarks/monitoring/simulate.py               # every traffic level, with the defaults of the spec
    python benchmarks/monitoring/simulate.py --streams 20 --days 7 --rates 200

Each stream has a training set and a holdout of its own, so that what a small training set gets wrong by chance is in
the rate. Rows pass through the same sketches, windows, verdicts and incidents as in production, only that nothing is
stored. There is no cooldown between two false alarms, so that each counts.
"""

import argparse
import statistics
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from millrace.data.reference import describe_reference  # noqa: E402  # after the path is set
from millrace.monitoring.incidents import Watchbook, advance  # noqa: E402
from millrace.monitoring.judging import (  # noqa: E402
    INPUT_VERDICTS,
    Background,
    Subject,
    Traffic,
    judge_outcomes,
    judge_traffic,
)
from millrace.schema import Column, TableSchema  # noqa: E402
from millrace.sketches.outcomes import OutcomeSketch  # noqa: E402
from millrace.sketches.predictions import Answers, AnswerSketch  # noqa: E402
from millrace.sketches.profile import PredictionProfile  # noqa: E402
from millrace.sketches.reference import Reference  # noqa: E402
from millrace.sketches.tables import sketch_rows  # noqa: E402
from millrace.spec.monitoring import MonitoringSpec  # noqa: E402
from streams import GRADES, HOLDOUT_ROWS, NOTHING, NUMBERS, TRAINING_ROWS, WORDS, Rows, Shift, draw  # noqa: E402

START = datetime(2026, 5, 4, tzinfo=UTC)
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


def answers_of(rows: Rows) -> Answers:
    """Return what the model says: the true chance in training."""
    return Answers((rows.chance >= 0.5).astype(np.int64), np.stack([1.0 - rows.chance, rows.chance], axis=1))  # noqa: PLR2004  # the likelier class


class Stream:
    """One model in production, an hour at a time."""

    def __init__(self, number: int, spec: MonitoringSpec) -> None:
        training, holdout = draw(TRAINING_ROWS, (number, 1)), draw(HOLDOUT_ROWS, (number, 2))
        typed = {name: values.astype(np.str_) if name in WORDS else values for name, values in training.columns.items()}
        reference = Reference.read(describe_reference(SCHEMA, typed, training.outcomes), SCHEMA)
        answers = answers_of(holdout)
        profile = PredictionProfile(AnswerSketch.of(answers), OutcomeSketch.of(answers, holdout.outcomes))
        self.subject = Subject("binary", CLASSES, reference, profile)
        self.spec, self.number, self.book = spec, number, Watchbook()
        self.windows: list[tuple[datetime, bool, Traffic]] = []
        self.skewed: list[str] = []
        self.judged = 0
        self._open: Traffic | None = None
        self._begin = START
        self._outcomes = OutcomeSketch.empty(2)
        self._inputs: list = []

    def hour(self, hour: int, rate: int, shift: Shift = NOTHING) -> list[str]:
        """Serve an hour; return the incidents that opened at its end."""
        rows = draw(rate, (self.number, 3, hour), shift, hour)
        answers = answers_of(rows)
        reference = self.subject.reference
        traffic = Traffic(sketch_rows(rows.columns, rate, reference.cells, reference.plan), AnswerSketch.of(answers))
        begin, end = START + timedelta(hours=hour), START + timedelta(hours=hour + 1)
        if self._open is None:
            self._open, self._begin = traffic, begin
        else:
            self._open.add(traffic)
        self._outcomes.add(OutcomeSketch.of(answers, rows.outcomes))
        opened: list[str] = []
        if self._open.features.rows >= self.spec.rows_needed:
            opened += self._judge_traffic(end)
        if self._outcomes.rows >= self.spec.live_quality.min_rows:
            findings = judge_outcomes(self._outcomes, self._outcomes.rows, self.subject, self.spec, self._inputs)
            opened += self._advance(findings, end)
            self._outcomes = OutcomeSketch.empty(2)
        return opened

    def _judge_traffic(self, end: datetime) -> list[str]:
        traffic = self._open
        assert traffic is not None
        previous = next((window for _, quiet, window in reversed(self.windows) if quiet), None)
        background = Background(
            previous=previous,
            like=lambda: self._like(end),
            skewed=self.skewed,
            first=not self.windows,
        )
        findings = judge_traffic(traffic, self.subject, self.spec, background)
        breaching = [finding for finding in findings if finding.status == "breach"]
        skewed = [finding.subject for finding in breaching if finding.verdict == "skew"]
        self.skewed = skewed if not self.windows else [name for name in self.skewed if name in skewed]
        self._inputs = [finding for finding in findings if finding.verdict in INPUT_VERDICTS]
        self.windows.append((end, not breaching, traffic))
        self.judged += 1
        self._open = None
        return self._advance(findings, end)

    def _like(self, end: datetime) -> Traffic | None:
        alike = [
            window
            for moment, quiet, window in self.windows
            if quiet and moment.date() != end.date() and abs(moment.hour - end.hour) <= 1
        ]
        if len({moment.date() for moment, quiet, _ in self.windows if quiet}) < 3 or len(alike) < 3:  # noqa: PLR2004  # days, as in production
            return None
        plan = self.subject.reference
        total = Traffic(sketch_rows({}, 0, plan.cells, plan.plan), AnswerSketch.empty(2))
        for window in alike[-7:]:
            total.add(window)
        return total

    def _advance(self, findings: list, end: datetime) -> list[str]:
        self.book, transitions = advance(
            self.book,
            findings,
            self.spec,
            model="m",
            version=1,
            window=(self._begin, end),
            ask_again_after=timedelta(days=365),
        )
        return [transition.incident.event for transition in transitions if transition.step == "opened"]


def false_alarms(streams: int, days: int, rate: int, shift: Shift = NOTHING) -> tuple[int, int, dict[str, int]]:
    """Return windows judged, incidents opened, and by event, on traffic that is like training (or seasonal)."""
    spec = MonitoringSpec(cooldown_hours=0.0)
    windows, by_event = 0, {}
    for number in range(streams):
        stream = Stream(number, spec)
        for hour in range(24 * days):
            for event in stream.hour(hour, rate, shift):
                by_event[event] = by_event.get(event, 0) + 1
        windows += stream.judged
    return windows, sum(by_event.values()), by_event


def delays(streams: int, rate: int, shift: Shift, most_hours: int, quiet_hours: int) -> list[int | None]:
    """Return after how many hours each stream's shift was told; None where it was not."""
    found: list[int | None] = []
    for number in range(streams):
        stream = Stream(10_000 + number, MonitoringSpec())
        for hour in range(quiet_hours):
            stream.hour(hour, rate)
        told = None
        for hour in range(quiet_hours, quiet_hours + most_hours):
            if stream.hour(hour, rate, shift):
                told = hour - quiet_hours + 1
                break
        found.append(told)
    return found


def print_false_alarms(name: str, streams: int, days: int, rate: int, shift: Shift = NOTHING) -> None:
    """Print one row of the table of false alarms."""
    windows, alarms, by_event = false_alarms(streams, days, rate, shift)
    told = f" ({', '.join(f'{count} {event}' for event, count in by_event.items())})" if alarms else ""
    monthly = alarms / (streams * days) * 30
    print(f"| {name} | {windows:,} | {alarms}{told} | {alarms / windows * 1_000:.2f} | {monthly:.3f} |", flush=True)


def main(streams: int, days: int, rates: list[int], shifted: int) -> None:
    """Print both tables."""
    print("\n| rows an hour | windows judged | false alarms | per 1,000 windows | in a model's month |")
    print("|---|---|---|---|---|")
    for rate in rates:
        print_false_alarms(f"{rate:,}", streams, days, rate)
    middle = rates[len(rates) // 2]
    for season in (0.3, 0.6):
        name = f"{middle:,}, a daily wave of {season:g} deviations"
        print_false_alarms(name, max(1, streams // 3), days, middle, Shift(season=season))
    heads = " | ".join(f"{rate:,} rows an hour" for rate in rates)
    print(f"\n| shift | grade | {heads} |\n|---|---|{'---|' * len(rates)}")
    for kind, grades in GRADES.items():
        for grade, shift in grades.items():
            cells = []
            for rate in rates:
                windows_hours = max(1, -(-200 // rate))
                found = delays(shifted, rate, shift, most_hours=24 * windows_hours, quiet_hours=3 * windows_hours)
                told = sorted(hours for hours in found if hours is not None)
                median = f"{statistics.median(told):g} h" if told else "never"
                cells.append(f"{median}, {len(told) / len(found):.0%}")
            print(f"| {kind} | {grade} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--rates", type=int, nargs="+", default=[20, 200, 2_000])
    parser.add_argument("--shifted", type=int, default=20)
    chosen = parser.parse_args()
    main(chosen.streams, chosen.days, chosen.rates, chosen.shifted)
