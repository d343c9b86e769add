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

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from bike import Bike, Hours, read_bike, train
from millrace.monitoring.incidents import Transition
from millrace.monitoring.window_findings import WindowEvaluation
from millrace.spec import ModelSpec
from production import MonitoredStream

#: A Monday.
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WEEK, MONTH = timedelta(days=7), timedelta(days=30)


@dataclass
class Told:
    """The alerts of one stream, and the windows in breach by subject."""

    opened: list[tuple[timedelta, str, str]] = field(default_factory=list)  # since the begin; event; first subject
    seasonal: list[timedelta] = field(default_factory=list)  # alerts after the first week that say "season: possible"
    resolved: list[tuple[timedelta, str]] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    breaches: Counter[str] = field(default_factory=Counter)  # after the first week, by key
    still_open: dict[str, float] = field(default_factory=dict)  # days, by event

    def add(self, since: timedelta, evaluation: WindowEvaluation, transitions: list[Transition]) -> None:
        """Add a window."""
        self.windows[evaluation.source] += 1
        if since > WEEK:
            self.breaches.update(one.key for one in evaluation.findings if one.status == "breach")
        for transition in transitions:
            incident = transition.incident
            if transition.step == "opened":
                keys = [key for key, active in incident.findings.items() if not active.quiet_windows]
                may_be_seasonal = any(incident.findings[key].finding.may_be_seasonal for key in keys)
                self.seasonal += [since] if may_be_seasonal and since > WEEK else []
                self.opened.append(
                    (since, incident.event, ", ".join(keys[:4]) + may_be_seasonal * "; season: possible")
                )
            elif transition.step == "resolved":
                self.resolved.append((since, incident.event))

    def later(self, event: str = "") -> list[timedelta]:
        """Return when alerts opened after the first week."""
        return [at for at, own, _ in self.opened if at > WEEK and own.startswith(event)]

    def most_in_30_days(self, event: str = "") -> int:
        """Return the most alerts in 30 days after the first week."""
        times = self.later(event)
        return max((sum(first <= other < first + MONTH for other in times) for first in times), default=0)


def measure(bike: Bike, chosen: argparse.Namespace, rate: int, seed: int) -> Told:
    """Run one stream; its first day is another one with each seed."""
    start_day = (seed * 73) % 365
    model, hours = train(bike, chosen.stream, seed), Hours(bike, chosen.stream, seed)
    stream = MonitoredStream(model.schema, model.monitored, ModelSpec(), MONDAY + timedelta(days=start_day))
    told = Told()
    for hour in range(24 * chosen.days):
        rows = hours.rows(start_day, hour, rate)
        columns = {name: values[rows] for name, values in bike.columns.items()}
        stream.serve(hour, columns, model.predictions[rows], bike.target[rows])
        stream.label(hour - chosen.delay)
        for evaluation, transitions in stream.monitor(hour):
            told.add(timedelta(hours=hour + 1), evaluation, transitions)
    end = stream.begin + timedelta(days=chosen.days)
    for incident in stream.incidents.open_incidents():
        told.still_open[incident.event] = (end - incident.opened_at) / timedelta(days=1)
    return told


def main(chosen: argparse.Namespace) -> None:
    """Print a row for each stream, and with ``--verbose`` each alert."""
    bike = read_bike(chosen.bike)
    print(
        "| stream | rows an hour | days | seed | windows (outcomes) | alerts in week 1 |"
        " later, of inputs or predictions | most in 30 days |"
        " later, of quality | most in 30 days | of the later ones say season | all-clears | open at the end, days |"
    )
    print("|---|" + "---|" * 12)
    for rate in chosen.rows_per_hour:
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            told = measure(bike, chosen, rate, seed)
            first = sum(at <= WEEK for at, _, _ in told.opened)
            cells = [f"{len(told.later(event))} | {told.most_in_30_days(event)}" for event in ("D", "Q")]
            still = ", ".join(f"{event} {days:.0f}" for event, days in told.still_open.items()) or "-"
            windows_text = f"{told.windows['traffic']:,} ({told.windows['outcomes']:,})"
            print(
                f"| {chosen.stream} | {rate:,} | {chosen.days} | {seed} | {windows_text} | {first} |"
                f" {' | '.join(cells)} | {len(told.seasonal)} | {len(told.resolved)} | {still} |",
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
