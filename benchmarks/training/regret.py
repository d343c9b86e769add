"""Measure the regret of runs against their own trials, and boosting's first trial beside scikit-learn's defaults.

    python benchmarks/training/regret.py --seeds 3 --results regret.jsonl [--tables DIR]

Tables, rows and runs are those of ``quality.py``. Every trial of a run predicts the holdout, which no run does. The
regret is what the best of them, which only the holdout knows, gains over the model that the run serves; it is negative
where a refit or an average is better than any trial. scikit-learn's default is fitted on the same training rows, and
encoded alike. Results are appended to a file, one a line, and a further call goes on with what is missing there.
"""

import argparse
import json
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from millrace.entities import Trial
from millrace.layout import trial_key
from millrace.serving.model import OnnxModel
from millrace.training.export import predict_estimator
from millrace.training.fitting import fit_pipeline
from package_tables import SplitTable, split_table
from quality import MODEL, ROOT, RUN_ID, gain, read_tables, score
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tests.prepared_data import Dataset
from tests.training_run import TrainingRun

#: Parameters of scikit-learn's gradient boosting, where a spec says nothing.
DEFAULT = {
    "learning_rate": 0.1,
    "max_iter": 100,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.0,
    "max_features": 1.0,
    "early_stopping": False,
}


def run(table: SplitTable) -> dict[str, Any]:
    """Return the holdout's metric of every trial of a run, of the served model and of scikit-learn's default."""
    world = TrainingRun.prepared(Dataset(table.schema, table.splits), training={})
    world.clock = time.perf_counter
    with threadpool_limits(1):
        outcomes = world.search()
        verdict = world.evaluate(outcomes)
        assert verdict.trial_id, verdict.reasons
        trials = [trial for trial in world.registry.list_trials(MODEL, RUN_ID) if trial.status == "succeeded"]
        values = {trial.trial_id: measure(world, table, trial) for trial in trials}
        boosting = [trial for trial in trials if trial.candidate == "hist_gradient_boosting" and not trial.refit_of]
        first = min(boosting, key=lambda trial: trial.trial_id)
        default, _ = fit_pipeline(replace(first, parameters=DEFAULT), table.schema, table.splits["train"])
        predictions = predict_estimator(default, table.splits["test"].features, table.schema.task)
    return {
        "selected": verdict.trial_id,
        "served": values[verdict.trial_id],
        "trials": {trial.trial_id: values[trial.trial_id] for trial in trials if not trial.refit_of},
        "first": values[first.trial_id],
        "first_parameters": dict(first.parameters),
        "default": score(table, predictions),
    }


def measure(world: TrainingRun, table: SplitTable, trial: Trial) -> float:
    """Return the metric of a trial's model on the holdout."""
    body = world.model_store.get(trial_key(MODEL, RUN_ID, trial.trial_id, "model.onnx"))
    return score(table, OnnxModel.load(body, table.schema).run(table.splits["test"].features))


def tabulate(lines: list[dict[str, Any]]) -> str:
    """Return the table of means over seeds."""
    rows = []
    for title in dict.fromkeys(line["table"] for line in lines):
        own = [line for line in lines if line["table"] == title]
        task = own[0]["task"]
        best = max if task == "binary" else min
        first = [gain(task, line["first"], line["default"]) for line in own]
        regret = [-gain(task, line["served"], best(line["trials"].values())) for line in own]
        unit, form = ("", "+.4f") if task == "binary" else (" %", "+.1f")
        found = [(np.mean(first), min(first)), (np.mean(regret), max(regret))]
        cells = [f"{mean:{form}}{unit} | {worst:{form}}{unit}" for mean, worst in found]
        rows.append(f"| {title} | {len(own)} | {' | '.join(cells)} |")
    columns = ["table", "seeds", "first trial against the default", "worst seed", "regret", "worst seed"]
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows])


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / ".millrace" / "regret.jsonl")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="seeds of the split")
    parser.add_argument("--only", nargs="*", help="beginnings of the names of tables; default: all")
    parser.add_argument("--tables", type=Path, help="folder of hour.csv, the bike sharing table")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "peers", help="folder of the environments")
    arguments = parser.parse_args()
    for kind in (ConvergenceWarning, UserWarning, RuntimeWarning):
        warnings.simplefilter("ignore", kind)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    if arguments.results.exists():
        lines = [json.loads(line) for line in arguments.results.read_text(encoding="utf-8").splitlines()]
    known = {(line["table"], line["seed"]) for line in lines}
    for table, frame in read_tables(arguments):
        for seed in arguments.seeds:
            if (table.name, seed) in known:
                continue
            lines.append(
                {"table": table.name, "task": table.task, "seed": seed, **run(split_table(table, frame, seed))}
            )
            with arguments.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(f"{table.name}, seed {seed}: served {lines[-1]['served']:.5g}", file=sys.stderr, flush=True)
    print(tabulate(lines))


if __name__ == "__main__":
    main()
