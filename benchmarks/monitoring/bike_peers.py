"""Serve the real streams to Evidently and NannyML as well, in the same rows, and count what each of them tells.

    python benchmarks/monitoring/bike_peers.py --bike hour.csv --rows-per-hour 20,60,200        # weekly, 28 days
    python benchmarks/monitoring/bike_peers.py --bike hour.csv --stream shift --rows-per-hour 20

Streams, training and seeds are those of ``real_streams.py``. The peers' reference is the holdout: Evidently has its
rows. NannyML sets limits from the chunks of a reference, as many rows as a window has: the holdout in the order of the
random split, and beside it a *period*, 28 days of hours drawn from the holdout's of that weekday and hour. Windows are
as long as Millrace's (200 rows), and a day. The peers have neither the date nor the year, which alone would tell the
shift; all else is their default.

An *alarm* is a window in which a tool tells something, an *alert* one whose window before told nothing. Environments of
the peers are made by uv from the pinned requirement files beside this one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from bike import TRAINING_ROWS, Bike, Hours, read_bike, train
from compare import interpreter
from real_streams import Told, measure

TOOLS = ("evidently", "nannyml")
LEFT_OUT = ("dteday", "yr")
ROWS_NEEDED = 200
REFERENCE_DAYS = 28
DAY, WEEK = 24, 7 * 24


def write_rows(bike: Bike, chosen: argparse.Namespace, rate: int, seed: int, folder: Path) -> None:
    """Write the holdout, a reference period of it, and the rows that are served, in the order of time."""
    stream, days = chosen.stream, chosen.days
    known = np.flatnonzero(bike.year == bike.year.min()) if stream == "shift" else np.arange(len(bike.target))
    shuffled = np.random.default_rng((seed, 1)).permutation(known)
    cut = len(known) * 7 // 10 if stream == "shift" else TRAINING_ROWS
    rows, holdout = shuffled[:cut], shuffled[cut:]
    columns = {name: values for name, values in bike.columns.items() if name not in LEFT_OUT}
    columns["predicted"] = train(bike, stream, seed).predictions
    columns["target"] = bike.target
    # A classifier of the same rows, for the estimator that needs one: is the demand above its median?
    columns["above"] = (bike.target > np.median(bike.target[rows])).astype(np.int64)
    names = [kind.name for kind in bike.kinds if kind.type != "datetime"]
    matrix = np.stack([bike.columns[name] for name in names], axis=1)
    classifier = HistGradientBoostingClassifier(max_leaf_nodes=15, random_state=seed)
    columns["score"] = classifier.fit(matrix[rows], columns["above"][rows]).predict_proba(matrix)[:, 1]

    start_day, hours, slots = (seed * 73) % 365, Hours(bike, stream, seed), bike.weekday * DAY + bike.hour
    served = np.concatenate([hours.rows(start_day, hour, rate) for hour in range(DAY * days)])
    generator = np.random.default_rng((seed, 4))
    period = np.concatenate(
        [
            generator.choice(holdout[slots[holdout] == (start_day * DAY + hour) % WEEK], rate)
            for hour in range(DAY * REFERENCE_DAYS)
        ]
    )
    for name, positions in (("holdout", holdout), ("period", period), ("served", served)):
        np.savez(folder / f"{name}.npz", **{column: values[positions] for column, values in columns.items()})


def ask(tool: str, work: Path, folder: Path, window_rows: int) -> dict[str, list[bool]]:
    """Return by way of telling in which windows a tool tells something."""
    command = [interpreter(tool, work), HERE / f"run_{tool}_bike.py", folder, str(window_rows)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, list[bool]] = json.loads(ran.stdout.splitlines()[-1])
    return found


def count(told: Sequence[bool], hours: int, days: int) -> list[str]:
    """Return the cells of a row: windows, alarms and alerts after the first week, and when the first one was told."""
    later = [place for place in range(len(told)) if (place + 1) * hours > WEEK]
    begun = [place for place in later if told[place] and not told[place - 1]]
    months = (days - 7) / 30
    first = next((f"{(place + 1) * hours / DAY:.2f}" for place, one in enumerate(told) if one), "never")
    share = sum(told[place] for place in later) / len(later)
    return [f"{len(later)}", f"{share:.0%}", f"{len(begun) / months:.1f}", first]


def count_own(told: Told, days: int) -> Mapping[str, list[str]]:
    """Return the same of the product: it alarms while an incident is open, and an incident that opens is an alert."""
    cells = {}
    for event, name in (("D", "inputs and predictions"), ("Q", "live quality")):
        opened = sorted(at for at, own, _ in told.opened if own.startswith(event))
        resolved = sorted(at for at, own in told.resolved if own.startswith(event))
        # One incident of a kind is open at a time.
        ends = [*resolved, timedelta(days=days)][: len(opened)]
        begins = [max(at, timedelta(days=7)) for at in opened]
        later = sum((end - at for at, end in zip(begins, ends, strict=True) if end > at), timedelta())
        alerts = len(told.later(event)) / ((days - 7) / 30)
        first = f"{opened[0] / timedelta(days=1):.2f}" if opened else "never"
        cells[name] = ["", f"{later / timedelta(days=days - 7):.0%} of the time", f"{alerts:.1f}", first]
    return cells


def main(chosen: argparse.Namespace) -> None:
    """Print a row for each tool, way of telling and length of windows."""
    bike = read_bike(chosen.bike)
    print(
        "| stream | rows an hour | seed | hours a window | tool | reported by | windows after week 1 | in alarm |"
        " alerts in 30 days | first reported, day |"
    )
    print("|---|" + "---|" * 9)
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        for rate in chosen.rows_per_hour:
            own = -(-ROWS_NEEDED // rate)
            label = f"| {chosen.stream} | {rate} | {seed}"
            for way, cells in count_own(measure(bike, chosen, rate, seed), chosen.days).items():
                print(f"{label} | {own} | millrace | {way} | {' | '.join(cells)} |", flush=True)
            with tempfile.TemporaryDirectory() as name:
                write_rows(bike, chosen, rate, seed, Path(name))
                for hours in chosen.hours or (own, DAY):
                    for tool in TOOLS:
                        for way, told in ask(tool, chosen.work, Path(name), hours * rate).items():
                            cells = " | ".join(count(told, hours, chosen.days))
                            print(f"{label} | {hours} | {tool} | {way} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bike", type=Path, required=True, help="hour.csv of the bike sharing dataset")
    parser.add_argument("--stream", choices=("weekly", "annual", "shift"), default="weekly")
    parser.add_argument("--rows-per-hour", type=lambda text: [int(one) for one in text.split(",")], default=[200])
    parser.add_argument("--hours", type=lambda text: [int(one) for one in text.split(",")], help="lengths of windows")
    parser.add_argument("--days", type=int, default=28)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark")
    chosen = parser.parse_args()
    chosen.delay = 0
    main(chosen)
