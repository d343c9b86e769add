"""Measure what calibrated probabilities bring on rows that had no part in them, estimator by estimator.

    python benchmarks/confidence/probabilities.py --tables DIR

Each estimator is fitted, exported and calibrated as a trial is, on 600 rows (in folds) and 3,000 rows (validation
split) of each table, and measured on 4,000 others. ``real_tables.py`` names the files and where they come from.
"""

import argparse
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from millrace.entities import Trial
from millrace.metrics.functions import log_losses
from millrace.serving.model import OnnxModel
from millrace.training.fitting import fit_trial
from real_tables import REAL_TABLES, RealTable, read_table
from selection import expected_error
from sklearn.exceptions import ConvergenceWarning

FOREST = {
    "n_estimators": 100,
    "max_depth": 16,
    "min_samples_leaf": 3,
    "max_features": "sqrt",
    "max_leaf_nodes": 500,
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "logistic_regression": {"C": 1.0},
    "hist_gradient_boosting": {"learning_rate": 0.1, "max_iter": 100, "max_leaf_nodes": 31, "min_samples_leaf": 20},
    "random_forest": FOREST,
    "extra_trees": FOREST,
    "neural_network": {"hidden_layer_sizes": (32,), "alpha": 0.01, "learning_rate_init": 0.003, "max_iter": 100},
}
SIZES = {600: 5, 3_000: 1}  # rows of training and validation together, and folds
VALIDATION_SHARE = 0.25
TESTED_ROWS = 4_000


def measure(table: RealTable, folder: Path, candidate: str, rows: int, seed: int) -> str:
    """Return a row of the table."""
    schema, whole = read_table(table, folder)
    order = np.random.default_rng(seed).permutation(len(whole))
    bounds = [int((1 - VALIDATION_SHARE) * rows), rows, rows + TESTED_ROWS]
    train, validation, test, _ = (whole.take(part) for part in np.split(order, bounds))
    trial = Trial("benchmark", "run", "01", candidate, ESTIMATORS[candidate], 0, folds=SIZES[rows], calibrate=True)
    fitted = fit_trial(trial, schema, train, validation)
    assert fitted.scaling is not None
    model = OnnxModel.load(fitted.onnx_bytes, schema)
    raw, after = model.run_raw(test.features), model.run(test.features)
    cells = [table.name, f"{rows:,}", f"{fitted.scaling.rows:,}", candidate, fitted.scaling.method]
    if raw is None:
        cells += [f"{log_losses(test.target, after).mean():.4f}", f"{expected_error(test.target, after):.3f}"]
    else:
        before = log_losses(test.target, raw).mean(), expected_error(test.target, raw)
        cells += [
            f"{before[0]:.4f} → {log_losses(test.target, after).mean():.4f}",
            f"{before[1]:.3f} → {expected_error(test.target, after):.3f}",
        ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--estimators", nargs="*", default=list(ESTIMATORS), choices=list(ESTIMATORS))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| table | rows | calibration rows | estimator | calibration | log loss | ECE |")
    print("|---|---|---|---|---|---|---|")
    for table in REAL_TABLES:
        if table.task != "regression":
            for rows in SIZES:
                for candidate in arguments.estimators:
                    print(measure(table, arguments.tables, candidate, rows, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
