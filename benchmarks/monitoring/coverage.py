"""Measure alerts about the coverage of intervals on real rows: false ones where nothing changes, and a true shift.

    python benchmarks/monitoring/coverage.py --bike hour.csv

A model of bike rentals is calibrated on rows of its own years. *stationary*: the outcomes of every hour are drawn from
the real ones of that weekday and hour, which the model has not seen. *shift*: a model of 2011 serves 2012, in which
demand was 60 % higher, drawn likewise. Windows hold at least a hundred outcomes; two of three in breach are an alert.
The table also counts what windows without the sum over a day would have alerted.
"""

import argparse
import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from millrace.conformal import ConformalCalibration, fit_regression
from millrace.monitoring.coverage import LEVEL, HeldOutcomes, evaluate_coverage, find_low_coverage
from millrace.monitoring.measured_windows import MeasuredWindow, RecentOutcomes
from millrace.spec.monitoring import MonitoringSpec
from sklearn.ensemble import HistGradientBoostingRegressor

FEATURES = (
    "season",
    "mnth",
    "hr",
    "holiday",
    "weekday",
    "workingday",
    "weathersit",
    "temp",
    "atemp",
    "hum",
    "windspeed",
)
START = datetime(2026, 1, 4, tzinfo=UTC)
SPEC = MonitoringSpec()
#: Rows an hour, and days.
STREAMS = ((20, 365), (60, 180), (200, 56), (2_000, 28))


class Rentals:
    """Real hours with a model's verdict about each: whether the interval held the outcome."""

    def __init__(self, path: Path, *, shift: bool, calibration_rows: int, seed: int) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        features = np.array([[float(row[name]) for name in FEATURES] for row in rows])
        target, year = (np.array([float(row[name]) for row in rows]) for name in ("cnt", "yr"))
        rng = np.random.default_rng(seed)
        known = year == 0 if shift else rng.random(len(rows)) < 0.6  # noqa: PLR2004 - a share
        fitted = rng.permutation(np.flatnonzero(known))
        held_out, fitted = fitted[:calibration_rows], fitted[calibration_rows:]
        model = HistGradientBoostingRegressor(random_state=0).fit(features[fitted], target[fitted])
        self.calibration: ConformalCalibration = fit_regression(
            target[held_out], model.predict(features[held_out]), seed
        )
        served = np.flatnonzero(~known)
        covered = self.calibration.covered(model.predict(features[served]), target[served], LEVEL)
        weekday, hour = (features[served, FEATURES.index(name)].astype(int) for name in ("weekday", "hr"))
        self.share = float(covered.mean())
        self.by_hour = [float(covered[hour == one].mean()) for one in range(24)]
        self._covered = {(day, one): covered[(weekday == day) & (hour == one)] for day in range(7) for one in range(24)}

    def windows(self, rows: int, days: int, seed: int) -> list[MeasuredWindow]:
        """Return windows of at least a hundred outcomes."""
        rng, found, open_since, counts = np.random.default_rng(seed), [], 0, np.zeros(2, dtype=np.int64)
        for hour in range(24 * days):
            drawn: npt.NDArray[Any] = rng.choice(self._covered[hour // 24 % 7, hour % 24], rows)
            counts += rows, int(drawn.sum())
            if counts[0] >= SPEC.coverage.min_rows:
                times = {"begin": START + timedelta(hours=open_since), "end": START + timedelta(hours=hour + 1)}
                found.append(MeasuredWindow(outcomes=int(counts[0]), covered=int(counts[1]), **times))
                open_since, counts = hour + 1, np.zeros(2, dtype=np.int64)
        return found

    def alerts(self, windows: Sequence[MeasuredWindow], *, by_day: bool) -> tuple[int, float | None]:
        """Return the alerts, each of which ends with two quiet windows, and the hours until the first."""
        recent: list[bool] = []
        alerts, first, quiet, is_open = 0, None, 0, False
        rule = SPEC.coverage
        for number, window in enumerate(windows):
            if by_day:
                outcomes = RecentOutcomes(window, windows[max(0, number - 24 * 9) : number])
                finding = evaluate_coverage(outcomes, self.calibration, rule, SPEC.false_discovery_rate)
            else:
                held = HeldOutcomes(window.outcomes, window.covered)
                finding = find_low_coverage(held, self.calibration, rule, SPEC.false_discovery_rate)
            if finding.status == "unknown":
                continue
            recent = [*recent, finding.status == "breach"][-rule.windows :]
            quiet = 0 if recent[-1] else quiet + 1
            if sum(recent) >= rule.breaches and not is_open:
                alerts, is_open = alerts + 1, True
                first = first or (window.end - START) / timedelta(hours=1)
            is_open = is_open and quiet < SPEC.windows_to_resolve
        return alerts, first


def main() -> None:
    """Print a table of alerts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bike", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--calibration-rows", type=int, default=600)
    arguments = parser.parse_args()
    print("| stream | rows an hour | days | alerts, by seed | first after | alerts by window alone |")
    print("|---|---|---|---|---|---|")
    for shift in (False, True):
        models = [
            Rentals(arguments.bike, shift=shift, calibration_rows=arguments.calibration_rows, seed=seed)
            for seed in range(arguments.seeds)
        ]
        for rows, days in STREAMS:
            found: dict[bool, list[tuple[int, float | None]]] = {True: [], False: []}
            for seed, model in enumerate(models):
                windows = model.windows(rows, days, seed)
                for by_day in (True, False):
                    found[by_day].append(model.alerts(windows, by_day=by_day))
            counts, alone = (", ".join(str(alerts) for alerts, _ in found[by_day]) for by_day in (True, False))
            firsts = [first for _, first in found[True] if first is not None]
            after = f"{max(firsts):.0f} h" if firsts else "-"
            print(f"| {'shift' if shift else 'stationary'} | {rows:,} | {days} | {counts} | {after} | {alone} |")
        by_hour = np.mean([model.by_hour for model in models], axis=0)
        share = np.mean([model.share for model in models])
        print(f"coverage {share:.1%}; by hour {by_hour.min():.0%} to {by_hour.max():.0%}")


if __name__ == "__main__":
    main()
