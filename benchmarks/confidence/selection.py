"""Measure what a whole run's intervals, prediction sets and calibrated probabilities are worth on rows it never saw.

    python benchmarks/confidence/selection.py --tables DIR

For each table and seed, some rows become training and validation rows; all trials of a run are fitted, and the winner
is calibrated on its own rows, on which it was also chosen among the trials: the validation split, or with few rows
those held out of the folds. The same winner is calibrated on as many fresh rows too, many times: the difference of both
coverages is the bias of the selection. ``real_tables.py`` names the files.
"""

import argparse
import json
import platform
import sys
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "training")]

from millrace.conformal import ConformalCalibration
from millrace.data.prepared import PreparedSplit
from millrace.evaluation.curves import calibration_curve
from millrace.evaluation.prediction_intervals import calibrate
from millrace.metrics.catalogue import get_metric
from millrace.metrics.functions import log_losses
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.fitting import HeldOutRows, fit_trial
from real_tables import REAL_TABLES, RealTable, read_table
from search import plan
from sklearn.exceptions import ConvergenceWarning
from tables import Table
from threadpoolctl import threadpool_limits

LEVEL = 0.9
FRESH_DRAWS = 40
HOLDOUT_ROWS = 3_000
VALIDATION_SHARE = 0.25


def measure(table: RealTable, folder: Path, rows: int, trials: int, seed: int) -> dict:
    """Run the trials of one draw of rows, and measure the winner on the others."""
    schema, whole = read_table(table, folder)
    order = np.random.default_rng(seed).permutation(len(whole))
    bounds = np.cumsum([int(rows * (1 - VALIDATION_SHARE)), int(rows * VALIDATION_SHARE), HOLDOUT_ROWS])
    train, validation, holdout, fresh = (whole.take(part) for part in np.split(order, bounds))
    splits = {"train": train, "validation": validation, "test": holdout}
    spec = ModelSpec.parse({"training": {"trials": trials}, "seed": seed})
    metric = get_metric(schema.task, None)
    planned = plan(Table(table.name, schema, splits), spec)
    with threadpool_limits(1):
        fitted = [(trial, fit_trial(trial, schema, train, validation)) for trial in planned]
    trial, best = min(fitted, key=lambda pair: metric.gain(0.0, pair[1].metrics[metric.name]))
    model = OnnxModel.load(best.onnx_bytes, schema)
    held_out = HeldOutRows.load(best.held_out_bytes)
    calibration = calibrate(schema, held_out.target, held_out.predictions, seed)
    assert calibration is not None
    own = covered(calibration, model, holdout)
    result = {"table": table.name, "rows": rows, "seed": seed, "winner": trial.candidate, "trials": len(planned)}
    result |= {
        "calibration_rows": calibration.rows,
        "own": own,
        "fresh": fresh_coverage(schema, model, holdout, fresh, calibration.rows),
    }
    if schema.task != "regression":
        after = model.run(holdout.features)
        raw = model.run_raw(holdout.features)
        result["method"] = best.scaling.method if best.scaling else "none"
        for name, probabilities in (("raw", after if raw is None else raw), ("scaled", after)):
            result[name] = [
                float(log_losses(holdout.target, probabilities).mean()),
                expected_error(holdout.target, probabilities),
            ]
        result["accuracy"] = float((after.argmax(axis=1) == holdout.target).mean())
    return result


def covered(calibration: ConformalCalibration, model: OnnxModel, holdout: PreparedSplit) -> float:
    """Return the share of the holdout that is covered."""
    return float(calibration.covered(model.run(holdout.features), holdout.target, LEVEL).mean())


def fresh_coverage(
    schema: TableSchema, model: OnnxModel, holdout: PreparedSplit, fresh: PreparedSplit, rows: int
) -> float:
    """Return the mean coverage by calibrations of as many rows that had no part in the run."""
    predictions, of_holdout = model.run(fresh.features), model.run(holdout.features)
    shares = []
    for draw in range(FRESH_DRAWS):
        chosen = np.random.default_rng(draw).permutation(len(fresh))[:rows]
        calibration = calibrate(schema, fresh.target[chosen], predictions[chosen], draw)
        assert calibration is not None
        shares.append(calibration.covered(of_holdout, holdout.target, LEVEL).mean())
    return float(np.mean(shares))


def expected_error(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the expected calibration error, as the card does."""
    wide = probabilities.astype(np.float64)
    if wide.shape[1] == 2:  # noqa: PLR2004  # of the positive class
        return calibration_curve(wide[:, 1], target == 1, LEVEL).expected_error
    return calibration_curve(wide.max(axis=1), wide.argmax(axis=1) == target, LEVEL).expected_error


def summary(results: list[dict]) -> str:
    """Return the row of one table and size."""
    first = results[0]
    own, fresh = (100 * np.array([entry[name] for entry in results]) for name in ("own", "fresh"))
    bias = own - fresh
    error = bias.std(ddof=1) / np.sqrt(len(bias)) if len(bias) > 1 else float("nan")
    line = f"| {first['table']} | {first['rows']:,} | {first['calibration_rows']:,} | {len(results)} | {own.mean():.1f}"
    line += f" | {fresh.mean():.1f} | {bias.mean():+.1f} ± {error:.1f}"
    if "method" not in first:
        return f"{line} | - | - | - |"
    raw, scaled = (np.array([entry[name] for entry in results]).mean(axis=0) for name in ("raw", "scaled"))
    methods = sum(entry["method"] != "none" for entry in results)
    return f"{line} | {methods} of {len(results)} | {raw[0]:.4f} → {scaled[0]:.4f} | {raw[1]:.4f} → {scaled[1]:.4f} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--rows", type=int, nargs="*", default=[600, 1_500], help="of training and validation together")
    parser.add_argument("--results", type=Path, help="file of results, one a line, that a further call goes on with")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", UserWarning)
    known: list[dict] = []
    if arguments.results and arguments.results.exists():
        known = [json.loads(line) for line in arguments.results.read_text(encoding="utf-8").splitlines()]
    print(
        f"{platform.machine()}, Python {platform.python_version()}, at most {arguments.trials} trials, level {LEVEL}\n"
    )
    heads = "covered | by fresh rows | difference | calibrated | log loss | ECE"
    print(f"| table | rows | calibration rows | runs | {heads} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for rows in arguments.rows:
        for table in REAL_TABLES:
            results = [entry for entry in known if (entry["table"], entry["rows"]) == (table.name, rows)]
            for seed in range(len(results), arguments.seeds):
                results.append(measure(table, arguments.tables, rows, arguments.trials, seed))
                if arguments.results:
                    with arguments.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(results[-1]) + "\n")
            print(summary(results), flush=True)


if __name__ == "__main__":
    main()
