"""Measure coverage and width of intervals and prediction sets on real tables, beside MAPIE on the same rows.

    python benchmarks/confidence/coverage.py --tables DIR

A gradient boosting of each table is fitted and exported as a trial is. The rows that it was not fitted on are drawn,
for each seed, into calibration rows and test rows: ``real_tables.py`` names the files and where they come from.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
UV = ROOT / ".venv" / "bin" / "uv"
sys.path[:0] = [str(HERE)]

from millrace import conformal
from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.fitting import fit_trial
from real_tables import REAL_TABLES, RealTable, read_table

LEVELS = (0.8, 0.9, 0.95)
SIZES = (200, 1_000, 5_000)
#: Rows that the model is fitted on, test rows of a seed, and the least that make one.
FITTED_ROWS, TESTED_ROWS, MIN_TESTED_ROWS = 2_000, 4_000, 1_000
#: The default of each task first; MAPIE's gamma takes positive predictions alone, and its aps more than two classes.
MAPIE_SCORES = {"regression": ("absolute",), "binary": ("lac",), "multiclass": ("lac", "aps")}
PARAMETERS = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.0,
}


def predict_pool(table: RealTable, folder: Path) -> dict[str, np.ndarray]:
    """Return predictions by the ONNX model of rows outside the fit, their true values, and their group.

    Groups are thirds of the predicted values, or the true classes.
    """
    schema, rows = read_table(table, folder)
    order = np.random.default_rng(2026).permutation(len(rows))
    fitted, pool = rows.take(order[:FITTED_ROWS]), rows.take(order[FITTED_ROWS:])
    model = fit_model(schema, fitted, pool.take(np.arange(500)))
    predictions = model.run(pool.features)
    groups = pool.target
    if table.task == "regression":
        groups = np.searchsorted(np.quantile(predictions, [1 / 3, 2 / 3]), predictions)
    return {"predictions": predictions, "target": pool.target, "groups": groups}


def fit_model(schema: TableSchema, fitted: PreparedSplit, validation: PreparedSplit) -> OnnxModel:
    """Fit and export gradient boosting with its defaults, as a trial does."""
    parameters = PARAMETERS if schema.task != "multiclass" else PARAMETERS | {"max_iter": 60}
    trial = Trial("benchmark", "run", "01-hist_gradient_boosting", "hist_gradient_boosting", parameters, 0)
    return OnnxModel.load(fit_trial(trial, schema, fitted, validation).onnx_bytes, schema)


def measure(pool: dict[str, np.ndarray], rows: int, tested: int, seeds: int, *, scaled: bool) -> list[dict]:
    """Return coverage, mean width or size, and coverage by group, of each seed by level."""
    measured = []
    predictions, target, groups = (pool[name] for name in ("predictions", "target", "groups"))
    names = np.unique(groups)
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(target))[: rows + tested]
        first, second = order[:rows], order[rows:]
        if predictions.ndim == 1:
            fitted = conformal.fit_regression(target[first], predictions[first], seed, scaled=scaled)
        else:
            fitted = conformal.fit_classes(target[first], predictions[first])
        result: dict[str, list] = {"coverage": [], "size": []}
        of_groups: list[list[float]] = [[] for _ in names]
        for level in LEVELS:
            covered = fitted.covered(predictions[second], target[second], level)
            if predictions.ndim == 1:
                low, high = fitted.intervals(predictions[second], level)
                size = float((high - low).mean())
            else:
                size = float(fitted.sets(predictions[second], level).sum(axis=1).mean())
            result["coverage"].append(float(covered.mean()))
            result["size"].append(size)
            for position, name in enumerate(names):
                of_groups[position].append(float(covered[groups[second] == name].mean()))
        measured.append(result | {"groups": of_groups})
    return measured


class Mapie:
    """MAPIE's process, in an environment of its own."""

    def __init__(self, work: Path) -> None:
        environment = work / "mapie"
        python, stamp = environment / "bin" / "python", environment / "requirements.txt"
        requirements = HERE / "mapie.txt"
        if not stamp.exists() or stamp.read_bytes() != requirements.read_bytes():
            subprocess.run([UV, "venv", "-q", "--clear", "--python", sys.executable, environment], check=True)
            install = [UV, "pip", "sync", "-q", "--require-hashes", "--python", python, requirements]
            subprocess.run(install, check=True)
            stamp.write_bytes(requirements.read_bytes())
        command = [python, HERE / "run_mapie.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, file: Path, rows: int, tested: int, seeds: int, score: str) -> list[dict]:
        """Return the same as :func:`measure`."""
        assert self.process.stdin
        assert self.process.stdout
        request = {
            "file": str(file),
            "rows": rows,
            "tested": tested,
            "seeds": seeds,
            "score": score,
            "levels": list(LEVELS),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["measured"]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def line(name: str, rows: int, tool: str, measured: list[dict]) -> str:
    """Return a row of the table: coverage with its spread over seeds, width, and the least covered group."""
    coverage = np.array([entry["coverage"] for entry in measured])
    size = np.array([entry["size"] for entry in measured]).mean(axis=0)
    groups = np.array([entry["groups"] for entry in measured]).mean(axis=0)
    cells = [
        f"{100 * coverage[:, position].mean():.1f} ± {100 * coverage[:, position].std():.1f}"
        f" | {size[position]:.4g} | {100 * groups[:, position].min():.1f} to {100 * groups[:, position].max():.1f}"
        for position in range(len(LEVELS))
    ]
    return f"| {name} | {rows:,} | {tool} | " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the files")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="*", default=SIZES, help="of a calibration")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "benchmarks", help="of MAPIE's environment")
    parser.add_argument("--no-mapie", action="store_true")
    arguments = parser.parse_args()
    mapie = None if arguments.no_mapie else Mapie(arguments.work)
    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.seeds} seeds\n")
    heads = [f"{level:g} | width | groups" for level in LEVELS]
    print("| table | calibration rows | | " + " | ".join(heads) + " |")
    print("|---" * (3 + 3 * len(LEVELS)) + "|")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "pool.npz"
        for table in REAL_TABLES:
            pool = predict_pool(table, arguments.tables)
            np.savez(file, **pool)
            for rows in arguments.rows:
                tested = min(TESTED_ROWS, len(pool["target"]) - rows)
                if tested < MIN_TESTED_ROWS:
                    continue
                regression = table.task == "regression"
                for scaled in (True, False) if regression else (False,):
                    tool = ("with scale" if scaled else "without scale") if regression else "Millrace"
                    measured = measure(pool, rows, tested, arguments.seeds, scaled=scaled)
                    print(line(table.name, rows, tool, measured), flush=True)
                for score in MAPIE_SCORES[table.task] if mapie else ():
                    measured = mapie.measure(file, rows, tested, arguments.seeds, score)
                    print(line(table.name, rows, f"MAPIE, {score}", measured), flush=True)
    if mapie:
        mapie.close()


if __name__ == "__main__":
    main()
