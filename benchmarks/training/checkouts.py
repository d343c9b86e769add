"""Compare what a run costs in this checkout and in another one, an earlier release, on real tables.

    git worktree add --detach ../before COMMIT
    python benchmarks/training/checkouts.py ../before --seed 100 [--only weather wages] [--tables DIR]

Every run has a process of its own, and the two checkouts take turns. A run is the code of its checkout from planning to
evaluation with the default spec, learning curve included, over buckets and a registry in memory, one trial after the
other on one thread. Imports are not counted.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def run_once(name: str, seed: int, packages: Path, tables: Path | None) -> dict[str, float]:
    """Return the seconds of a run of the checkout that is the working directory."""
    sys.path[:0] = [os.getcwd(), str(HERE)]
    from package_tables import BIKES, TABLES, read_frame, split_table
    from threadpoolctl import threadpool_limits

    from tests.prepared_data import Dataset
    from tests.training_run import TrainingRun

    warnings.simplefilter("ignore")

    def run(title: str, rows: int | None = None) -> dict[str, float]:
        (table,) = (table for table in (*TABLES, BIKES) if table.name == title)
        frame = read_frame(table, tables if tables and table is BIKES else packages)
        split = split_table(table, frame[:rows], seed)
        world = TrainingRun.prepared(
            Dataset(split.schema, split.splits), training={}, evaluation={"learning_curve": True}
        )
        world.clock = time.perf_counter
        began, worked = time.perf_counter(), time.process_time()
        with threadpool_limits(1):
            plan = world.plan()
            outcomes = [world.train(pointer) for pointer in plan.trials]
            while not plan.last_round:
                plan = world.plan(plan.round, outcomes)
                outcomes = [world.train(pointer) for pointer in plan.trials]
            world.evaluate(outcomes, time.perf_counter)
        return {"wall": time.perf_counter() - began, "processor": time.process_time() - worked}

    run(TABLES[0].name, 120)  # caches
    return run(name)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="beginnings of the names of tables; default: all")
    parser.add_argument("--tables", type=Path, help="folder of hour.csv, the bike sharing table")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "peers", help="folder of the environments")
    parser.add_argument("--once", nargs=2, metavar=("TABLE", "PACKAGES"), help="run in this process")
    arguments = parser.parse_args()
    if arguments.once:
        name, packages = arguments.once
        print(json.dumps(run_once(name, arguments.seed, Path(packages), arguments.tables)))
        return
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from package_tables import BIKES, TABLES
    from peer_tools import make_interpreter

    python = make_interpreter(HERE, "datasets", arguments.work)
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    tables = [*TABLES, BIKES] if arguments.tables else list(TABLES)
    print("| table | wall, before | now | ratio | processor, before | now | ratio |\n|---|---|---|---|---|---|---|")
    for table in tables:
        if arguments.only and not table.name.startswith(tuple(arguments.only)):
            continue
        taken = []
        for checkout in (arguments.before, ROOT):
            command = [sys.executable, __file__, str(arguments.before), "--seed", str(arguments.seed)]
            command += ["--tables", str(arguments.tables.resolve())] if arguments.tables else []
            command += ["--once", table.name, str(packages)]
            environment = {**os.environ, "PYTHONPATH": f"{checkout.resolve()}/shared", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            taken.append(json.loads(done.stdout.splitlines()[-1]))
        cells = [table.name]
        for name in ("wall", "processor"):
            before, now = (one[name] for one in taken)
            cells += [f"{before:.1f} s", f"{now:.1f} s", f"{now / before:.2f}x"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
