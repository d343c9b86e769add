"""What a run costs beyond the fits themselves, in process.

    python benchmarks/training/overhead.py

Plain scikit-learn fits the very pipelines of a run's trials, folds included, on arrays in memory. Millrace runs the
trials through the shipped code over buckets and a registry in memory: reading, folds, fitting, export, comparison of
both forms, records. The last column has the refit of the winner or of an average too, which the plain fits do not have.
Both in turn, several rounds, in processor time, which other processes hardly change; ratios are medians of the rounds'
own.
"""

import argparse
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from millrace.training.early_stopping import stops_early
from millrace.training.fitting import fit_pipeline, fit_stopped, predict_folds
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


def run_round(rows: int) -> tuple[float, float, float, int]:
    """Return the seconds of plain fits, of a run's trials and of its refit, and the number of trials."""
    dataset = make_dataset("binary", "missing values", rows=rows)
    world = TrainingRun.prepared(dataset, training={})
    plan = world.plan()
    pointers = plan.trials
    trials = [world.registry.get_trial(MODEL, RUN_ID, pointer.trial_id) for pointer in pointers]
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    began = time.process_time()
    with threadpool_limits(1):
        for trial in trials:
            if trial.folds > 1:
                _, iterations = predict_folds(trial, dataset.schema, train, validation)
                fit_pipeline(trial, dataset.schema, train, iterations)
            elif stops_early(trial.parameters):
                fit_stopped(trial, dataset.schema, train, validation)
            else:
                fit_pipeline(trial, dataset.schema, train)
    middle = time.process_time()
    outcomes = [world.train(pointer) for pointer in pointers]
    trained = time.process_time()
    outcomes += [world.train(pointer) for pointer in world.plan(plan.round, outcomes).trials]
    assert all(outcome.outcome == "succeeded" for outcome in outcomes), outcomes
    return middle - began, trained - middle, time.process_time() - trained, len(pointers)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[600, 10_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds\n")
    print("| rows | trials | plain scikit-learn | the run's trials | ratio | the refit | ratio with it |")
    print("|---|---|---|---|---|---|---|")
    run_round(60)  # imports and caches
    for rows in arguments.rows:
        rounds = [run_round(rows) for _ in range(arguments.rounds)]
        plain, whole, refit = (statistics.median(entry[position] for entry in rounds) for position in (0, 1, 2))
        ratio = statistics.median(whole / plain for plain, whole, *_ in rounds)
        all_of_it = statistics.median((whole + refit) / plain for plain, whole, refit, _ in rounds)
        cells = [f"{rows:,}", str(rounds[0][-1]), f"{plain:.2f} s", f"{whole:.2f} s", f"{ratio:.2f}x"]
        print(f"| {' | '.join([*cells, f'{refit:.2f} s', f'{all_of_it:.2f}x'])} |", flush=True)


if __name__ == "__main__":
    main()
