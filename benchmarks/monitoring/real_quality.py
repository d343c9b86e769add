"""Measure alerts on the quality of models in streams of real hours, and how long a real loss takes to be told.

    python benchmarks/monitoring/real_quality.py --bike hour.csv --rows-per-hour 20,60 --days 365        # weekly
    python benchmarks/monitoring/real_quality.py --bike hour.csv --task binary --rows-per-hour 200
    python benchmarks/monitoring/real_quality.py --bike hour.csv --stream shift --rows-per-hour 20 --days 365
    python benchmarks/monitoring/real_quality.py --bike hour.csv --task binary --loss 0.2 --days 14     # flipped labels
    python benchmarks/monitoring/real_quality.py --bike hour.csv --loss 0.5 --days 14                   # larger errors

Streams are those of ``real_streams.py``, with ground truth at once; a classifier predicts whether the demand is above
its median, or in which third it is. Only the verdicts on outcomes are evaluated, with inputs that hold. After a quiet
week (``--quiet-days``), ``--loss`` flips such a share of the labels, or adds such a multiple of the holdout's RMSE to
the predictions as noise.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from bike import TRAINING_ROWS, Bike, Hours, read_bike, train
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.measured_windows import MeasuredWindow, RecentOutcomes, measure_metrics, pool_old
from millrace.monitoring.rules import evaluate_outcomes, rows_needed
from millrace.monitoring.state import MAX_HISTORY
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec
from real_streams import MONDAY, MONTH

INPUTS = (WindowFinding("feature_drift", "every feature", "ok", ""),)
QUANTILES = {"binary": [0.5], "classes": [1 / 3, 2 / 3]}


@dataclass
class Told:
    """Alerts of one stream, as times since its begin, and windows in breach by subject."""

    windows: int = 0
    opened: list[timedelta] = field(default_factory=list)
    resolved: list[timedelta] = field(default_factory=list)
    breaches: Counter[str] = field(default_factory=Counter)
    messages: list[str] = field(default_factory=list)  # of the findings of each alert
    is_open: bool = False


class Model:
    """A version, and the outcomes of rows that it serves."""

    def __init__(self, bike: Bike, stream: str, task: str, seed: int, loss: float) -> None:
        self._draw, self._loss, self._task = np.random.default_rng((seed, 5)), loss, task
        regression = train(bike, stream, seed)
        self.monitored, self._target = regression.monitored, regression.monitored.reference.target
        self._values, self._truth = regression.predictions, bike.target
        if task != "regression":
            self._train_classes(bike, stream, seed)

    def _train_classes(self, bike: Bike, stream: str, seed: int) -> None:
        self._truth = np.digitize(bike.target, np.quantile(bike.target, QUANTILES[self._task])).astype(np.int64)
        known = np.flatnonzero(bike.year == bike.year.min()) if stream == "shift" else np.arange(len(bike.target))
        shuffled = np.random.default_rng((seed, 1)).permutation(known)
        cut = len(known) * 7 // 10 if stream == "shift" else TRAINING_ROWS
        names = [kind.name for kind in bike.kinds if kind.type != "datetime"]
        matrix = np.stack([bike.columns[name] for name in names], axis=1)
        model = HistGradientBoostingClassifier(max_leaf_nodes=15, random_state=seed)
        model.fit(matrix[shuffled[:cut]], self._truth[shuffled[:cut]])
        self._values, holdout = model.predict_proba(matrix), shuffled[cut:]
        rows = self._predict(holdout)
        profile = PredictionProfile(
            predictions=PredictionHistogram.count(rows), outcomes=OutcomeHistogram.count(rows, self._truth[holdout])
        )
        classes = tuple("abc"[: self._values.shape[1]])
        task = "binary" if self._task == "binary" else "multiclass"
        self.monitored = MonitoredVersion(task, classes, self.monitored.reference, profile)

    def _predict(self, rows: np.ndarray) -> ClassPredictions:
        return ClassPredictions(self._values[rows].argmax(axis=1), self._values[rows])

    def count(self, rows: np.ndarray, *, is_lossy: bool) -> AnyOutcomes:
        """Return the outcomes of rows, of which some are lost."""
        truth, loss = self._truth[rows], self._loss if is_lossy else 0.0
        if self._task != "regression":
            flipped = self._draw.random(len(rows)) < loss
            truth = np.where(flipped, (truth + 1) % self._values.shape[1], truth)
            return OutcomeHistogram.count(self._predict(rows), truth)
        deviation = loss * measure_metrics(self.monitored.profile.outcomes)["rmse"].value
        values = self._values[rows] + deviation * self._draw.normal(size=len(rows))
        return ErrorSums.measure(values, truth, origin=self._target.center, bins=self._target)


def run(bike: Bike, chosen: argparse.Namespace, rate: int, seed: int) -> Told:
    """Serve a stream, and return what was told."""
    spec, start_day, told = MonitoringSpec(), 0 if chosen.loss else (seed * 73) % 365, Told()
    model, hours = Model(bike, chosen.stream, chosen.task, seed, chosen.loss), Hours(bike, chosen.stream, seed)
    profile, target = model.monitored.profile, model.monitored.reference.target
    incidents, pooled, windows, counts, rows, first = IncidentHistory(), (), [], [], [], 0
    begun_at = MONDAY + timedelta(days=start_day)
    for hour in range(24 * chosen.days):
        rows.append(hours.rows(start_day, hour, rate))
        if rate * len(rows) < rows_needed(spec, "outcomes"):
            continue
        begin, end = (MONDAY + timedelta(days=start_day, hours=at) for at in (first, hour + 1))
        outcomes = model.count(np.concatenate(rows), is_lossy=hour >= 24 * chosen.quiet_days)
        window = MeasuredWindow.measure(outcomes, profile, target, (begin, end))
        earlier = [*pooled, *windows]
        recent = RecentOutcomes(window, earlier, [*(one.counts for one in pooled), *counts])
        found = evaluate_outcomes(outcomes, outcomes.rows, model.monitored, spec, INPUTS, recent=recent)
        windows, counts = [*windows, window], [*counts, outcomes.coarsen()]
        left = [*zip(windows[:-MAX_HISTORY], counts, strict=False)]
        pooled = pool_old(pooled, left) if left else pooled
        windows, counts = windows[-MAX_HISTORY:], counts[-MAX_HISTORY:]
        rows, first = [], hour + 1
        told.windows += 1
        told.breaches.update(one.key for one in found if one.status == "breach" and hour >= 24 * chosen.quiet_days)
        times = {"version": 1, "window": (begin, end), "repeat_after": timedelta(days=9_999), "begun_at": begun_at}
        incidents, steps = advance(incidents, found, spec, model="m", **times)
        for step in steps:
            since = timedelta(hours=hour + 1)
            if step.step == "opened":
                told.opened.append(since)
                messages = [active.finding.message for active in step.incident.findings.values()]
                told.messages.append("; ".join(messages[:4]))
            elif step.step == "resolved":
                told.resolved.append(since)
    told.is_open = bool(incidents.open_incidents())
    return told


def main(chosen: argparse.Namespace) -> None:
    """Print a row for each stream."""
    bike = read_bike(chosen.bike)
    print(
        "| task | stream | loss | rows an hour | days | seed | windows | in quiet days | later | most in 30 days |",
        end="",
    )
    print(" all-clears | open at the end | hours until told after the quiet days |\n|---|" + "---|" * 12)
    for rate in chosen.rows_per_hour:
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            told = run(bike, chosen, rate, seed)
            quiet = timedelta(days=chosen.quiet_days)
            later = [at for at in told.opened if at > quiet]
            most = max((sum(at <= other < at + MONTH for other in later) for at in later), default=0)
            delay = f"{(later[0] - quiet) / timedelta(hours=1):g}" if later else "-"
            cells = (
                chosen.task,
                chosen.stream,
                f"{chosen.loss:g}",
                f"{rate:,}",
                chosen.days,
                seed,
                f"{told.windows:,}",
            )
            cells += (len(told.opened) - len(later), len(later), most, len(told.resolved), told.is_open, delay)
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            if chosen.verbose:
                for at, message in zip(told.opened, told.messages, strict=True):
                    print(f"    opened day {at / timedelta(days=1):.2f}: {message}")
                print(f"    windows in breach after week 1: {dict(told.breaches)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bike", type=Path, required=True, help="hour.csv of the bike sharing dataset")
    parser.add_argument("--stream", choices=("weekly", "annual", "shift"), default="weekly")
    parser.add_argument("--task", choices=("regression", "binary", "classes"), default="regression")
    parser.add_argument("--loss", type=float, default=0.0, help="share of flipped labels, or noise in RMSEs")
    parser.add_argument("--quiet-days", type=int, default=7, help="days before the loss")
    parser.add_argument("--rows-per-hour", type=lambda text: [int(one) for one in text.split(",")], default=[200])
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print every alert, and windows in breach")
    main(parser.parse_args())
