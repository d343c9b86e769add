"""Compare the model that a run serves with the defaults of other libraries and with AutoGluon, on real tables.

    python benchmarks/training/quality.py --seeds 5 --results quality.jsonl [--tables DIR]

For each table and seed, all get the same rows: the run divides 80 % of them into training and validation rows, the
others are fitted on both, and everybody is measured on the remaining 20 %. A run is the shipped code from planning to
evaluation, with the default spec, over buckets and a registry in memory, one trial after the other on one thread.
AutoGluon gets, on one thread too, the wall time that the run took on this machine. Results are appended to a file, one
a line, and a further call goes on with what is missing there; nothing but the times depends on the machine's load.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE.parent)]

from millrace.conformal import ConformalCalibration
from millrace.layout import confidence_key, trial_key
from millrace.serving.model import OnnxModel
from package_tables import BIKES, TABLES, PackageTable, SplitTable, read_frame, split_table
from peer_tools import make_interpreter
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits

from tests.prepared_data import Dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

OURS, AUTOGLUON = "millrace", "autogluon"
DEFAULTS = ("hist_gradient_boosting", "lightgbm", "xgboost", "catboost")
CONTENDERS = (OURS, *DEFAULTS, AUTOGLUON)
METRICS = {"binary": "ROC AUC", "multiclass": "log loss", "regression": "RMSE"}
LATENCY_CALLS = 200
#: Levels of intervals and sets.
LEVELS = (0.8, 0.9, 0.95)

Line = dict[str, Any]


def run_millrace(table: SplitTable) -> tuple[Any, Line]:
    """Return the predictions of the holdout by the model that a run serves, and its figures."""
    with threadpool_limits(1):
        began, worked = time.perf_counter(), time.process_time()
        world = TrainingRun.prepared(Dataset(table.schema, table.splits), training={})
        world.clock = time.perf_counter
        outcomes = world.search()
        verdict = world.evaluate(outcomes)
        wall, processor = time.perf_counter() - began, time.process_time() - worked
        assert verdict.trial_id, verdict.reasons
        body = world.model_store.get(trial_key(MODEL, RUN_ID, verdict.trial_id, "model.onnx"))
        model = OnnxModel.load(body, table.schema)
        features = table.splits["test"].features
        predictions = model.run(features)
        times = []
        for row in range(LATENCY_CALLS):
            one = features.take(np.array([row % len(features)]))
            start = time.perf_counter()
            model.run(one)
            times.append(time.perf_counter() - start)
    trial = world.registry.get_trial(MODEL, RUN_ID, verdict.trial_id)
    figures = {
        "wall": wall,
        "processor": processor,
        "latency": float(np.median(times)),
        "bytes": len(body),
        "selected": trial.trial_id,
        "parameters": dict(trial.parameters),
        "failed": [outcome.reason for outcome in outcomes if outcome.outcome != "succeeded"],
        **measure_coverage(world, table, predictions),
    }
    return predictions, figures


def measure_coverage(world: TrainingRun, table: SplitTable, predictions: Any) -> Line:
    """Return the share of the holdout that intervals or sets of each level hold, and their mean width or size.

    They are those of the version: calibrated on rows outside the fits before the refit.
    """
    calibration = ConformalCalibration.from_document(json.loads(world.model_store.get(confidence_key(MODEL, RUN_ID))))
    target, held, sizes = table.splits["test"].target, [], []
    for level in LEVELS:
        held.append(float(calibration.covered(predictions, target, level).mean()))
        if table.schema.task == "regression":
            low, high = calibration.intervals(predictions, level)
            sizes.append(float((high - low).mean()))
        else:
            sizes.append(float(calibration.sets(predictions, level).sum(axis=1).mean()))
    return {"calibration_rows": calibration.rows, "covered": held, "sizes": sizes, "tested_rows": len(target)}


def tabulate_coverage(lines: list[Line]) -> str:
    """Return the coverage of the models that runs serve, a mean over seeds with its standard error."""
    rows, found = [], [line for line in lines if "covered" in line]
    for title in dict.fromkeys(line["table"] for line in found):
        own = [line for line in found if line["table"] == title]
        held, sizes = (np.array([line[key] for line in own]) for key in ("covered", "sizes"))
        # By the binomial shares of calibration and test rows; the splits of several seeds overlap.
        shares = np.array(LEVELS)
        error = np.sqrt(shares * (1 - shares) * sum(1 / own[0][key] for key in ("calibration_rows", "tested_rows")))
        cells = [
            f"{100 * share:.1f} ± {100 * one:.1f} | {size:.4g}"
            for share, one, size in zip(held.mean(axis=0), error / np.sqrt(len(own)), sizes.mean(axis=0), strict=True)
        ]
        rows.append(f"| {title} | {own[0]['calibration_rows']:,} | {own[0]['tested_rows']:,} | {' | '.join(cells)} |")
    if not rows:
        return ""
    means = np.mean([line["covered"] for line in found], axis=0)
    rows.append(f"| mean | | | {' | '.join(f'**{100 * mean:.1f}** |' for mean in means)} |")
    columns = ["table", "calibration rows", "tested rows", *(f"{level:g} | width or size" for level in LEVELS)]
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * (3 + 2 * len(LEVELS)) + "|", *rows])


def run_rivals(
    table: SplitTable, names: Iterable[str], seed: int, seconds: float, arguments: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Line]]:
    """Return the predictions and figures of rivals, fitted in their own environment."""
    python = make_interpreter(HERE, "rivals", arguments.work)
    kinds = {column.name: column.type for column in table.schema.features}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {f"column_{number}": table.columns[column] for number, column in enumerate(kinds)}
        np.savez(folder / "table.npz", target=table.target, **table.rows, **columns)
        about = {
            "columns": kinds,
            "task": table.schema.task,
            "classes": len(table.schema.classes),
            "seed": seed,
            "autogluon": {"presets": arguments.presets} if arguments.presets else {},
        }
        (folder / "table.json").write_text(json.dumps(about), encoding="utf-8")
        subprocess.run([python, HERE / "run_rivals.py", folder, str(seconds), *names], check=True)
        figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
            return dict(arrays), figures


def score(table: SplitTable, predictions: Any) -> float:
    """Return the metric of the task on the holdout."""
    target = table.splits["test"].target
    if table.schema.task == "regression":
        return float(np.sqrt(np.mean((np.asarray(predictions, dtype=np.float64) - target) ** 2)))
    if table.schema.task == "binary":
        return float(roc_auc_score(target, predictions[:, 1]))
    shares = np.asarray(predictions, dtype=np.float64)
    return float(log_loss(target, shares / shares.sum(axis=1, keepdims=True), labels=np.arange(shares.shape[1])))


def measure(source: PackageTable, frame: Any, seed: int, known: dict[str, Line], arguments: Any) -> Iterable[Line]:
    """Yield the results of the contenders that have none yet for a table and a seed."""
    wanted = [name for name in CONTENDERS if name in arguments.contenders and name not in known]
    if not wanted:
        return
    table = split_table(source, frame, seed)
    about = {"table": source.name, "task": source.task, "seed": seed, "rows": len(table.target)}
    if OURS in wanted:
        predictions, figures = run_millrace(table)
        known[OURS] = {**about, "contender": OURS, "value": score(table, predictions), **figures}
        yield known[OURS]
    rivals = [name for name in wanted if name != OURS]
    if not rivals:
        return
    seconds = max(arguments.least_seconds, known.get(OURS, {}).get("wall", 0.0))
    predicted, figures_of = run_rivals(table, rivals, seed, seconds, arguments)
    for name in rivals:
        line = {**about, "contender": name, **figures_of[name]}
        if name == AUTOGLUON:
            line |= {"seconds": seconds, "presets": arguments.presets}
        if name in predicted:
            line["value"] = score(table, predicted[name])
        yield line


def gain(task: str, value: float, other: float) -> float:
    """Return what a value gains over another: the difference of AUC, else the percentage."""
    return value - other if task == "binary" else 100 * (1 - value / other)


def tabulate(lines: list[Line]) -> str:
    """Return the tables of quality and cost."""
    names = [name for name in CONTENDERS if any(line["contender"] == name for line in lines)]
    found = {(line["table"], line["seed"], line["contender"]): line for line in lines if "value" in line}
    seeds = {seed for _, seed, _ in found}
    rows, costs, ranks, worst = [], [], [], []
    for title in dict.fromkeys(line["table"] for line in lines):
        complete = [seed for seed in sorted(seeds) if all((title, seed, name) in found for name in names)]
        if not complete:
            continue
        task = found[title, complete[0], names[0]]["task"]
        sign = -1 if task == "binary" else 1
        values = np.array([[found[title, seed, name]["value"] for name in names] for seed in complete])
        places = np.array(
            [[1 + np.sum(sign * row < sign * one) + (np.sum(row == one) - 1) / 2 for one in row] for row in values]
        )
        ranks.append(places.mean(axis=0))
        means = values.mean(axis=0)
        defaults = [position for position, name in enumerate(names) if name in DEFAULTS]
        best = min(defaults, key=lambda position: sign * means[position], default=0)
        unit = "" if task == "binary" else " %"
        cells = [f"{mean:.4g}" for mean in means]
        difference = gain(task, means[0], means[best])
        limit = -0.003 if task == "binary" else -2.0
        worst.append(difference >= limit)
        shown = f"{difference:+.4f}" if task == "binary" else f"{difference:+.1f}{unit}"
        rows.append(f"| {title} | {METRICS[task]} | {' | '.join(cells)} | {shown} ({names[best]}) |")
        ours = [found[title, seed, OURS] for seed in complete] if OURS in names else []
        if ours:
            medians = {
                key: float(np.median([line[key] for line in ours])) for key in ("wall", "processor", "latency", "bytes")
            }
            chosen = ", ".join(dict.fromkeys(line["selected"] for line in ours))
            cost = (
                f"| {title} | {ours[0]['rows']:,} | {len(complete)} | {medians['wall']:.0f} s"
                f" | {medians['processor']:.0f} s | {1e6 * medians['latency']:.0f} us | {medians['bytes'] / 1e6:.2f} MB"
            )
            if AUTOGLUON in names:
                theirs = [found[title, seed, AUTOGLUON] for seed in complete]
                cost += (
                    f" | {1e3 * np.median([line['latency'] for line in theirs]):.0f} ms"
                    f" | {np.median([line['bytes'] for line in theirs]) / 1e6:.1f} MB"
                )
            costs.append(f"{cost} | {chosen} |")
    if not ranks:
        return "no table is complete yet"
    head = f"| table | metric | {' | '.join(names)} | ours against the best default |"
    mean_ranks = " | ".join(f"**{rank:.2f}**" for rank in np.mean(ranks, axis=0))
    rows.append(f"| mean rank | | {mean_ranks} | within the limit on {sum(worst)} of {len(worst)} |")
    quality = "\n".join([head, "|---" * (len(names) + 3) + "|", *rows])
    columns = ["table", "rows", "seeds", "run: wall", "run: processor", "one row", "model.onnx"]
    columns += ["AutoGluon: one row", "AutoGluon: size"] if AUTOGLUON in names else []
    columns += ["selected"]
    return "\n".join([quality, "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *costs])


def choose_tables(arguments: argparse.Namespace) -> list[PackageTable]:
    """Return the tables that the arguments ask for: the bikes only where their folder is known."""
    only = tuple(arguments.only or ("",))
    tables = [*TABLES, BIKES] if arguments.tables else [*TABLES]
    return [table for table in tables if table.name.startswith(only)]


def read_tables(arguments: argparse.Namespace) -> Iterator[tuple[PackageTable, Any]]:
    """Yield tables with their rows."""
    python = make_interpreter(HERE, "datasets", arguments.work)
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    for table in choose_tables(arguments):
        yield table, read_frame(table, arguments.tables if table is BIKES else packages)


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / ".millrace" / "quality.jsonl")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=list(range(5)), help="seeds of the split and the rivals"
    )
    parser.add_argument("--only", nargs="*", help="beginnings of the names of tables; default: all")
    parser.add_argument("--tables", type=Path, help="folder of hour.csv, the bike sharing table")
    parser.add_argument("--contenders", nargs="*", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--presets", default="", help="of AutoGluon; default: its own")
    parser.add_argument("--least-seconds", type=float, default=10.0, help="that AutoGluon gets in any case")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "peers", help="folder of the environments")
    parser.add_argument("--show", action="store_true", help="print what is in the file, and measure nothing")
    arguments = parser.parse_args()
    for kind in (ConvergenceWarning, UserWarning, RuntimeWarning):
        warnings.simplefilter("ignore", kind)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    if arguments.results.exists():
        lines = [json.loads(line) for line in arguments.results.read_text(encoding="utf-8").splitlines()]
    tables = choose_tables(arguments)
    if not arguments.show:
        for table, frame in read_tables(arguments):
            for seed in arguments.seeds:
                known = {
                    line["contender"]: line for line in lines if (line["table"], line["seed"]) == (table.name, seed)
                }
                for line in measure(table, frame, seed, known, arguments):
                    lines.append(line)
                    with arguments.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    shown = f"{line['value']:.5g}" if "value" in line else line["error"]
                    print(f"{table.name}, seed {seed}, {line['contender']}: {shown}", file=sys.stderr, flush=True)
    shown = {table.name for table in tables}
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    chosen = [line for line in lines if line["table"] in shown and line["contender"] in arguments.contenders]
    print(tabulate(chosen))
    print(f"\n{tabulate_coverage(chosen)}")


if __name__ == "__main__":
    main()
