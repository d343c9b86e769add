"""What a run costs beyond the fits themselves, in process.

    python benchmarks/training/overhead.py

Plain scikit-learn fits the very pipelines of a run's trials, folds included, on arrays in memory. Millrace runs the
trials through the shipped code over buckets and a registry in memory: reading, folds, fitting, export, comparison of
both forms, records. Both in turn, several rounds, in processor time, which other processes hardly change; ratios are
medians of the rounds' own.
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


def run_round(rows: int) -> tuple[float, float, int]:
    """Return the seconds of plain fits and of a run, and the number of trials."""
    dataset = make_dataset("binary", "missing values", rows=rows)
    world = TrainingRun.prepared(dataset, training={})
    pointers = world.plan().trials
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
    for pointer in pointers:
        outcome = world.train(pointer)
        assert outcome.outcome == "succeeded", outcome
    return middle - began, time.process_time() - middle, len(pointers)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[600, 10_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds\n")
    print("| rows | trials | plain scikit-learn | the run's trials | ratio |")
    print("|---|---|---|---|---|")
    run_round(60)  # imports and caches
    for rows in arguments.rows:
        rounds = [run_round(rows) for _ in range(arguments.rounds)]
        plain, whole = (statistics.median(entry[position] for entry in rounds) for position in (0, 1))
        ratio = statistics.median(whole / plain for plain, whole, _ in rounds)
        print(f"| {rows:,} | {rounds[0][2]} | {plain:.2f} s | {whole:.2f} s | {ratio:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
