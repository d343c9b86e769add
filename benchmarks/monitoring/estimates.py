"""Measure estimates without ground truth on real shifts: coverage of their intervals, and how often none is given.

    python benchmarks/monitoring/estimates.py --tables DIR             # two algorithms, six tables
    python benchmarks/monitoring/estimates.py --tables DIR --nannyml   # and NannyML's CBPE on the same windows

Each shift is served whole (at most 3,000 rows) and in two windows of 250 rows. NannyML's environment is made by uv from
the pinned requirement file beside this one.
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from compare import HERE, interpreter
from millrace.histograms.outcomes import OutcomeHistogram
from millrace.histograms.predictions import PredictionHistogram, Traffic
from millrace.histograms.tables import count_in_bins
from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.quality import measure_outcomes
from millrace.monitoring.rules import evaluate_traffic
from millrace.spec.monitoring import MonitoringSpec
from shifts import LIVE_WINDOW, MAX_WINDOW, TABLES, Shifted, find_shifts, read_table

METRICS = ("accuracy", "roc_auc", "log_loss")
NANNYML_METRICS = ("accuracy", "roc_auc")
_LIVE_WINDOWS = 2
_HEADINGS = (
    "metric",
    "shift",
    "rows",
    "windows",
    "not known",
    "mean error",
    "as on the holdout",
    "in the interval",
    "width",
)


@dataclass(frozen=True)
class Result:
    """One estimate beside the truth; ``estimate`` is None where it is not known."""

    table: str
    shift: str
    name: str
    rows: int
    metric: str
    truth: float
    holdout: float
    estimate: float | None
    low: float | None
    high: float | None
    status: str = ""
    message: str = ""


def judge(shifted: Shifted, rows: np.ndarray, metric: str) -> Result:
    """Return what monitoring says of a window, beside the metric of its outcomes."""
    version, table = shifted.version, shifted.version.table
    monitored = MonitoredVersion(
        version.schema.task, version.schema.classes, version.reference, version.profile, metric
    )
    columns = {name: values[rows] for name, values in table.columns.items()}
    features = count_in_bins(columns, len(rows), version.reference.bins, version.reference.plan)
    predictions = version.predictions(rows)
    traffic = Traffic(features=features, predictions=PredictionHistogram.count(predictions))
    found = evaluate_traffic(traffic, monitored, _only_estimates(), Baselines())
    (finding,) = [one for one in found if one.verdict == "estimated_quality"]
    truth = measure_outcomes(OutcomeHistogram.count(predictions, table.target[rows]))[metric].value
    known = finding.status != "unknown"
    given = [finding.details.get(name) if known else None for name in ("now", "low", "high")]
    holdout = measure_outcomes(version.profile.outcomes)[metric].value
    label = (table.name, shifted.shift, shifted.name, len(rows), metric)
    return Result(*label, truth, holdout, *given, finding.status, finding.message)


def _only_estimates() -> MonitoringSpec:
    off = ("data_quality", "skew", "feature_drift", "feature_change", "dependence", "prediction_drift", "bias")
    return MonitoringSpec.model_validate({name: {"enabled": False} for name in off})


def windows(shifted: Shifted, seed: int) -> Iterator[np.ndarray]:
    """Yield a shift as a whole, and two windows of it."""
    generator = np.random.default_rng((seed, 3, len(shifted.rows)))
    yield generator.permutation(shifted.rows)[:MAX_WINDOW]
    for _ in range(_LIVE_WINDOWS):
        yield generator.choice(shifted.rows, LIVE_WINDOW, replace=False)


class NannyML:
    """Windows that NannyML's process estimates, in files."""

    def __init__(self, work: Path) -> None:
        self.folder, self.asked = work, list[tuple[str, Result]]()
        self._references: dict[int, str] = {}

    def add(self, shifted: Shifted, rows: np.ndarray, result: Result) -> None:
        """Write a window, and its version's holdout the first time."""
        version, target = shifted.version, shifted.version.table.target
        if version.schema.task != "binary" or result.metric not in NANNYML_METRICS:
            return
        if id(version.reference) not in self._references:
            name = self._references[id(version.reference)] = f"reference-{len(self._references)}"
            holdout = version.holdout
            np.savez(self.folder / f"{name}.npz", score=version.probabilities[holdout, 1], target=target[holdout])
        name = f"{self._references[id(version.reference)]}-window-{len(self.asked)}-{result.metric}"
        np.savez(self.folder / f"{name}.npz", score=version.probabilities[rows, 1])
        self.asked.append((name, result))

    def results(self) -> list[Result]:
        """Run NannyML, and return its estimates."""
        python = interpreter("nannyml", self.folder.parent)
        ran = subprocess.run([python, HERE / "run_nannyml.py", self.folder], check=True, capture_output=True, text=True)
        found = json.loads(ran.stdout.splitlines()[-1])
        return [
            Result(**asdict(result) | dict(zip(("estimate", "low", "high"), found[name], strict=True)))
            for name, result in self.asked
        ]


def describe(results: list[Result], title: str) -> None:
    """Print a table by metric, shift and size of window."""
    print(f"\n{title}\n\n| {' | '.join(_HEADINGS)} |\n|{'---|' * len(_HEADINGS)}")
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for one in results:
        size = str(LIVE_WINDOW) if one.rows == LIVE_WINDOW else "all"
        groups[one.metric, one.shift, size].append(one)
        groups[one.metric, "every shift", size].append(one)
    for (metric, shift, size), found in sorted(groups.items()):
        known = [one for one in found if one.estimate is not None and np.isfinite(one.truth)]
        missing = 1.0 - len(known) / len(found)
        if not known:
            print(f"| {metric} | {shift} | {size} | {len(found)} | {missing:.0%} | | | | |")
            continue
        truth, low, high = (np.array([getattr(one, name) for one in known]) for name in ("truth", "low", "high"))
        errors, naive = (
            np.abs(np.array([getattr(one, name) for one in known]) - truth).mean() for name in ("estimate", "holdout")
        )
        inside, width = np.mean((low <= truth) & (truth <= high)), np.mean(high - low)
        label = f"| {metric} | {shift} | {size} | {len(found)} | {missing:.0%}"
        print(f"{label} | {errors:.3f} | {naive:.3f} | {inside:.0%} | {width:.3f} |")


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the files")
    parser.add_argument("--only", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--algorithms", nargs="+", default=("boosting", "logistic"), choices=("boosting", "logistic"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nannyml", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark")
    options = parser.parse_args()
    folder = options.work / "cbpe"
    folder.mkdir(parents=True, exist_ok=True)
    results, nannyml = list[Result](), NannyML(folder)
    for name in options.only:
        table = read_table(options.tables, name, options.seed)
        for algorithm in options.algorithms if name != "cuts" else options.algorithms[:1]:
            for shifted in find_shifts(table, algorithm, options.seed):
                for rows in windows(shifted, options.seed):
                    for metric in METRICS if name != "cuts" else METRICS[:1]:
                        results.append(judge(shifted, rows, metric))
                        nannyml.add(shifted, rows, results[-1])
            print(f"{name}, {algorithm}: {len(results):,} estimates", flush=True)
    assert all(one.metric in METRICS_BY_NAME for one in results)
    describe(results, "Millrace")
    unknown = [one for one in results if one.status == "unknown"]
    print(f"\n{len(unknown):,} of {len(results):,} are not known, such as: {unknown[0].message if unknown else ''}")
    if options.nannyml:
        known = {(one.table, one.name, one.rows, one.metric) for one in results if one.estimate is not None}
        theirs = nannyml.results()
        describe(theirs, "NannyML's CBPE")
        same = [one for one in theirs if (one.table, one.name, one.rows, one.metric) in known]
        describe(same, "NannyML's CBPE, the windows that Millrace knows alone")


if __name__ == "__main__":
    main()
