"""What a run costs beyond the fits themselves, in process.

    python benchmarks/training/overhead.py

Plain scikit-learn fits the very pipelines of a run's trials, folds included, on arrays in memory, and networks take
their batches as scikit-learn gives them. Millrace runs the trials through the shipped code over buckets and a registry
in memory: reading, folds, fitting, export, comparison of both forms, records. The last column has the refit of the
winner or of an average too, on both sides: of the plain ones the fits that the refit makes. Both in turn, several
rounds, in processor time, which other processes hardly change; ratios are medians of the rounds' own.
"""

import argparse
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from millrace.training import candidates, fitting, refit
from millrace.training.early_stopping import stopping, stops_early
from millrace.training.fitting import fit_pipeline, predict_folds
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


@contextmanager
def plain_networks() -> Iterator[None]:
    """Fit networks as scikit-learn does, without our shorter way to the rows of a batch."""
    shorter = candidates.plain_batches
    candidates.plain_batches = nullcontext
    try:
        yield
    finally:
        candidates.plain_batches = shorter


class TimedFits:
    """Fits as the refit makes them, each made by plain scikit-learn before, with the processor time of the latter."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, *arguments: Any, repeats: int = 1) -> Any:
        """Fit, and add the time."""
        began = time.process_time()
        with plain_networks():
            fit_pipeline(*arguments, repeats=repeats)
        self.seconds += time.process_time() - began
        return fit_pipeline(*arguments, repeats=repeats)


def run_round(rows: int) -> tuple[float, float, float, float, int]:
    """Return the seconds of plain fits, of a run's trials, of its refit and of that one's fits, and the trials."""
    dataset = make_dataset("binary", "missing values", rows=rows)
    world = TrainingRun.prepared(dataset, training={})
    world.clock = time.perf_counter  # the average has to be within the limits of time
    plan = world.plan()
    pointers = plan.trials
    trials = [world.registry.get_trial(MODEL, RUN_ID, pointer.trial_id) for pointer in pointers]
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    began = time.process_time()
    with threadpool_limits(1), plain_networks():
        for trial in trials:
            if trial.folds > 1:
                _, iterations = predict_folds(trial, dataset.schema, train, validation)
                fit_pipeline(trial, dataset.schema, train, iterations)
            elif stops_early(trial.parameters):
                fitting._fit(trial, dataset.schema, stopping(trial.parameters), train, validation)
            else:
                fit_pipeline(trial, dataset.schema, train)
    middle = time.process_time()
    outcomes = [world.train(pointer) for pointer in pointers]
    trained = time.process_time()
    refit.fit_pipeline = refitted = TimedFits()
    outcomes += [world.train(pointer) for pointer in world.plan(plan.round, outcomes).trials]
    assert all(outcome.outcome == "succeeded" for outcome in outcomes), outcomes
    refit.fit_pipeline = fit_pipeline
    refitting = time.process_time() - trained - refitted.seconds
    return middle - began, trained - middle, refitting, refitted.seconds, len(pointers)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="*", default=[600, 10_000])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.rounds} rounds\n")
    print("| rows | trials | plain scikit-learn | the run's trials | ratio | plain refit | the refit | ratio with it |")
    print("|---|---|---|---|---|---|---|---|")
    run_round(60)  # imports and caches
    for rows in arguments.rows:
        rounds = [run_round(rows) for _ in range(arguments.rounds)]
        plain, whole, refitting, refits = (statistics.median(entry[place] for entry in rounds) for place in range(4))
        ratio = statistics.median(whole / plain for plain, whole, *_ in rounds)
        all_of_it = statistics.median((whole + more) / (plain + fits) for plain, whole, more, fits, _ in rounds)
        cells = [f"{rows:,}", str(rounds[0][-1]), f"{plain:.2f} s", f"{whole:.2f} s", f"{ratio:.2f}x"]
        print(f"| {' | '.join([*cells, f'{refits:.2f} s', f'{refitting:.2f} s', f'{all_of_it:.2f}x'])} |", flush=True)


if __name__ == "__main__":
    main()
