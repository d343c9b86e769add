"""How a run's wall time falls with its workers, and what the pipeline adds to its trials, on the local stack.

    millrace local up
    python benchmarks/training/local_stack.py

Trains one table with the same trials at concurrency 1, 2 and 4, in turn, several rounds, through the ``millrace``
command, each run under a model of its own, after one that only starts the functions. A run's time is what its user
waits, from the command to its end; what the trials took is the sum of the durations in their records. What is beyond
the trials, dealt evenly to the workers, is the pipeline: its states, objects and records, validation, evaluation,
registration.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from millrace_cli.demo.churn import generate_churn

MILLRACE = Path(sys.executable).with_name("millrace")
CONCURRENCY = (1, 2, 4)


def command(*words: str) -> str:
    """Run the command line and return what it printed; exit with what it said where it failed."""
    done = subprocess.run([MILLRACE, *words], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"millrace {' '.join(words)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def train(model: str, table: Path, concurrency: int, trials: int, folder: Path) -> tuple[float, float]:
    """Return a run's seconds from upload to end, and the sum of its trials' own."""
    spec = folder / f"{model}.yaml"
    training = {"trials": trials, "max_concurrency": concurrency, "folds": 1}
    spec.write_text(yaml.safe_dump({"target": "churned", "training": training}), encoding="utf-8")
    command("spec", "apply", model, str(spec))
    began = time.perf_counter()
    document = json.loads(command("train", model, str(table), "--json"))
    seconds = time.perf_counter() - began
    return seconds, sum(trial["duration_seconds"] or 0.0 for trial in document["trials"])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--trials", type=int, default=12)
    arguments = parser.parse_args()
    results: dict[int, list[tuple[float, float]]] = {concurrency: [] for concurrency in CONCURRENCY}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = folder / "churn.csv"
        generate_churn(rows=arguments.rows).write(table)
        # Starts the functions; what that takes is measured elsewhere.
        train(f"bench-{time.time_ns()}", table, max(CONCURRENCY), max(CONCURRENCY), folder)
        for number in range(arguments.rounds):
            # Each is first once, so that none always finds the machine as another left it.
            for concurrency in (*CONCURRENCY[number % 3 :], *CONCURRENCY[: number % 3]):
                model = f"bench-{time.time_ns()}-{number}-{concurrency}"
                results[concurrency].append(train(model, table, concurrency, arguments.trials, folder))
                print(
                    f"round {number + 1}, {concurrency} at once: {results[concurrency][-1][0]:.1f} s", file=sys.stderr
                )
    print(f"{arguments.rows:,} rows, {arguments.trials} trials, {arguments.rounds} rounds\n")
    print("| workers | the whole run | its trials, summed | beyond the trials, dealt evenly | one worker against it |")
    print("|---|---|---|---|---|")
    base = [whole for whole, _ in results[1]]
    for concurrency, rounds in results.items():
        whole, trials = (statistics.median(entry[position] for entry in rounds) for position in (0, 1))
        beyond = statistics.median(seconds - summed / concurrency for seconds, summed in rounds)
        ratio = statistics.median(one / entry[0] for one, entry in zip(base, rounds, strict=True))
        print(f"| {concurrency} | {whole:.1f} s | {trials:.1f} s | {beyond:.1f} s | {ratio:.2f}x |")


if __name__ == "__main__":
    main()
