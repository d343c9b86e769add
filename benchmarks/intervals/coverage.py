"""Coverage of the metrics' confidence intervals on real tables: how often they hold the true value.

    python benchmarks/intervals/coverage.py --tables DIR                      # some minutes, 2,000 draws a cell
    python benchmarks/intervals/coverage.py --tables DIR --draws 300          # a rough look
    python benchmarks/intervals/coverage.py --tables DIR --check              # exits with 1 where a cell does not cover
    python benchmarks/intervals/coverage.py --tables DIR --cost               # processor time beside the bootstrap's

A model is fitted to some rows of each table. The rows that it has not seen are the population, and the metrics on all
of them are the truth. Holdouts of n rows are drawn from the population **with replacement**: that is what an interval
assumes, and without it a table that is hardly larger than the holdout would flatter the interval.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from millrace.evaluation.curves import calibration_curve
from millrace.evaluation_results import CalibrationCurve
from millrace.metrics.bootstrap import ConfidenceInterval, bootstrap, percentile_interval, resamples_for
from millrace.metrics.catalogue import METRICS, Metric
from populations import SOURCES, Array, Population, load_population

CONFIDENCE = 0.95
ROWS = (60, 200, 1_000)
#: Coverage that an interval must have, and the standard errors below and above it that count as chance. Of nearly two
#: hundred cells a few are above by more than two, and too wide an interval does not flatter.
WANTED = (0.93, 0.97)
CHANCE = (2.0, 3.0)

#: Metrics whose unseen row, or noise, is counted generously: their intervals may cover up to so much. RMSE's may below
#: so many rows.
MOST = {"rmse": 0.99, "calibration error": 0.99}
FEW_ROWS = {"rmse": 100}

#: Rows outside the fit beside a holdout: those of the folds, four times as many, up to so many rows in all; else the
#: validation split, as many.
MOST_FOLD_ROWS = 1_000

#: An interval of these rows, beside others; None where there is none.
Rows = tuple[Array, Array]
Intervals = Callable[[Sequence[Metric], Rows, Rows, int], dict[str, ConfidenceInterval | None]]


@dataclass
class Cell:
    """The intervals of one metric of one table at one number of rows; ``ends`` are those given."""

    table: str
    rows: int
    metric: str
    truth: float
    draws: int = 0
    ends: list[tuple[float, float]] = field(default_factory=list)

    @property
    def none(self) -> float:
        """Share of the draws without an interval."""
        return 1 - len(self.ends) / self.draws

    @property
    def below(self) -> float:
        """Share of the intervals that lie below the truth."""
        return float(np.mean([high < self.truth for _, high in self.ends]))

    @property
    def above(self) -> float:
        """Share of the intervals that lie above the truth."""
        return float(np.mean([low > self.truth for low, _ in self.ends]))

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the truth."""
        return 1 - self.below - self.above

    @property
    def width(self) -> float:
        """Median width."""
        return float(np.median([high - low for low, high in self.ends]))

    @property
    def covers(self) -> bool:
        """False where the coverage is outside what is wanted by more than chance; few intervals say nothing.

        Of a metric that most draws have no interval of, those that have one are no sample: it may be too wide then.
        """
        if len(self.ends) < 50:  # noqa: PLR2004  # a cell that is practically without intervals
            return True
        error = np.sqrt(self.coverage * (1 - self.coverage) / len(self.ends))
        is_generous = self.metric in MOST and self.rows < FEW_ROWS.get(self.metric, self.rows + 1)
        most = MOST[self.metric] if is_generous else WANTED[1]
        most = most if self.none < 0.5 else 1.0  # noqa: PLR2004  # a half
        return bool(WANTED[0] - CHANCE[0] * error <= self.coverage <= most + CHANCE[1] * error)


def bootstrap_intervals(
    metrics: Sequence[Metric], rows: Rows, _others: Rows, seed: int
) -> dict[str, ConfidenceInterval | None]:
    """Return percentile bootstrap intervals, Wilson's where every draw has the same accuracy: those before 0054."""
    target, predictions = rows
    statistics = {metric.name: metric.statistic(target, predictions) for metric in metrics}
    samples = bootstrap(statistics, len(target), seed=seed, resamples=resamples_for(len(target)))
    found: dict[str, ConfidenceInterval | None] = {}
    for metric in metrics:
        interval = percentile_interval(samples[metric.name], CONFIDENCE)
        if interval and interval.low == interval.high:
            given = metric.interval(target, predictions, CONFIDENCE)
            interval = given if isinstance(given, ConfidenceInterval) and metric.name == "accuracy" else None
        found[metric.name] = interval
    return found


def formula_intervals(
    metrics: Sequence[Metric], rows: Rows, others: Rows, _seed: int
) -> dict[str, ConfidenceInterval | None]:
    """Return the intervals of the catalogue."""
    given = {metric.name: metric.interval(*rows, CONFIDENCE, others) for metric in metrics}
    return {name: one if isinstance(one, ConfidenceInterval) else None for name, one in given.items()}


METHODS: dict[str, Intervals] = {"bootstrap": bootstrap_intervals, "formula": formula_intervals}


def measure(population: Population, rows: int, draws: int, intervals: Intervals, seed: int) -> list[Cell]:
    """Return a cell for each metric of the task."""
    metrics, whole = METRICS[population.task], (population.target, population.predictions)
    cells = [Cell(population.name, rows, metric.name, metric.compute(*whole), draws) for metric in metrics]
    calibration = None
    if population.task != "regression" and intervals is formula_intervals:
        truth = calibration_of(*whole).expected_error
        calibration = Cell(population.name, rows, "calibration error", truth, draws)
    generator, further = np.random.default_rng([seed, rows]), 4 * rows if 4 * rows <= MOST_FOLD_ROWS else rows
    for draw in range(draws):
        drawn = generator.integers(0, len(population.target), rows + further)
        taken, others = (
            (population.target[part], population.predictions[part]) for part in (drawn[:rows], drawn[rows:])
        )
        given = intervals(metrics, taken, others, draw)
        for cell in cells:
            interval = given[cell.metric]
            if interval is not None:
                cell.ends.append((interval.low, interval.high))
        if calibration is not None:
            curve = calibration_of(*taken)
            if isinstance(curve.expected_error_low, float) and isinstance(curve.expected_error_high, float):
                calibration.ends.append((curve.expected_error_low, curve.expected_error_high))
    return [*cells, calibration] if calibration else cells


def calibration_of(target: Array, probabilities: Array) -> CalibrationCurve:
    """Return the calibration curve of the card: of the second of two classes, or of the predicted class."""
    if probabilities.shape[1] == 2:  # noqa: PLR2004  # a binary task
        return calibration_curve(probabilities[:, 1], target == 1, CONFIDENCE)
    return calibration_curve(probabilities.max(axis=1), probabilities.argmax(axis=1) == target, CONFIDENCE)


def print_costs(populations: Sequence[Population], draws: int = 10) -> None:
    """Print processor time of all intervals of a holdout, by both methods in turn."""
    print("| table | rows | bootstrap | formula | ratio |\n|---|---|---|---|---|")
    for population in populations:
        for rows in (*ROWS, 10_000):
            taken = dict.fromkeys(METHODS, 0.0)
            for draw in range(draws):
                drawn = np.random.default_rng(draw).integers(0, len(population.target), rows)
                part = population.target[drawn], population.predictions[drawn]
                for name, intervals in METHODS.items():
                    begun = time.process_time()
                    intervals(METRICS[population.task], part, part, draw)
                    taken[name] += time.process_time() - begun
            first, second = (1_000 * taken[name] / draws for name in METHODS)
            print(
                f"| {population.name} | {rows:,} | {first:.1f} ms | {second:.2f} ms | {second / first:.3f} |",
                flush=True,
            )


def main() -> None:
    """Print a table of coverage."""
    parser = argparse.ArgumentParser(description="Coverage of the metrics' confidence intervals.")
    parser.add_argument("--tables", type=Path, required=True, help="folder with the files of populations.py")
    parser.add_argument("--names", help=f"of {', '.join(SOURCES)}; all by default".replace("%", "%%"))
    parser.add_argument("--rows", type=int, action="append", help="60, 200 and 1,000 by default")
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument("--method", choices=tuple(METHODS), default="formula")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a cell does not cover")
    parser.add_argument("--cost", action="store_true", help="measure processor time instead")
    options = parser.parse_args()
    names = options.names.split(",") if options.names else list(SOURCES)
    populations = (load_population(name, options.tables) for name in names)
    if options.cost:
        print_costs(list(populations))
        return
    print(
        "| table | rows | metric | truth | coverage | below, above | none | width |\n|---|---|---|---|---|---|---|---|"
    )
    failed, begun = 0, time.monotonic()
    for number, population in enumerate(populations, start=1):
        for rows in options.rows or ROWS:
            progress = f"{population.name}, {rows:,} rows: table {number} of {len(names)}"
            print(f"{progress}, after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
            for cell in measure(population, rows, options.draws, METHODS[options.method], options.seed):
                start = f"| {cell.table} | {cell.rows:,} | {cell.metric} | {cell.truth:.4g} |"
                if not cell.ends:
                    print(f"{start} | | 100 % | |", flush=True)
                    continue
                failed += not cell.covers
                coverage = f"{100 * cell.coverage:.1f} %" if cell.covers else f"**{100 * cell.coverage:.1f} %**"
                misses = f"{100 * cell.below:.1f}, {100 * cell.above:.1f}"
                print(f"{start} {coverage} | {misses} | {100 * cell.none:.0f} % | {cell.width:.3g} |", flush=True)
    if options.check and failed:
        sys.exit(f"{failed} cells are outside what is wanted (WANTED, MOST) by more than chance")


if __name__ == "__main__":
    main()
