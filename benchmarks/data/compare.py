"""Compare the checks with pandera's and Great Expectations', side by side and interleaved.

    python benchmarks/data/compare.py                  # 1,000,000 x 14, five rounds
    python benchmarks/data/compare.py --scaling        # 1e5, 1e6, 1e7 rows; 10, 100, 1000 columns

Environments are made by uv from the pinned requirement files beside this one.
"""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "shared")]

from peer_tools import make_interpreter

#: Of a tool and a folder, its own interpreter.
interpreter = partial(make_interpreter, HERE)

TOOLS = ("millrace", "pandera", "great_expectations")


class Tool:
    """One tool's process."""

    def __init__(self, name: str, work: Path, table: Path, script: str = "") -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(HERE), str(ROOT / "shared")))}
        command = [interpreter(name, work), HERE / (script or f"run_{name}.py"), table]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, question: str) -> dict:
        """Ask the process, and wait for its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compare(work: Path, rows: int, rounds: int) -> None:
    """Print medians, ratios and peak memory as a table."""
    table = ready_table(work, rows)
    tools = {name: Tool(name, work, table) for name in TOOLS}
    times: dict[tuple[str, str, str], list[float]] = {}
    counts: dict[str, dict] = {}
    for turn in range(rounds):
        for question in ("checks", "whole"):
            for name in TOOLS[turn % 3 :] + TOOLS[: turn % 3]:
                tools[name].ask(question)  # not timed: while the others worked, this one's memory has gone cold
                answer = tools[name].ask(question)
                for measure in ("seconds", "processor"):
                    times.setdefault((name, question, measure), []).append(answer[measure])
                counts[name] = answer["counts"]
                assert answer["counts"] == counts[TOOLS[turn % 3]], (name, answer["counts"], counts)
    for tool in tools.values():
        tool.close()
    arrow = arrow_bytes(table)
    print(f"{rows:,} rows x 14 columns, 20 checks, {sum(counts['millrace'].values()):,} violations found by each tool;")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds\n")
    print(
        "| | Millrace | pandera | Great Expectations | pandera / Millrace | GX / Millrace |\n|---|---|---|---|---|---|"
    )
    for question, label in (("checks", "checks, table in memory"), ("whole", "end to end, from the CSV file")):
        for measure, suffix in (("seconds", ""), ("processor", ": processor time")):
            ours, *theirs = (times[name, question, measure] for name in TOOLS)
            medians = [statistics.median(measured) for measured in (ours, *theirs)]
            ratios = [statistics.median(a / b for a, b in zip(other, ours, strict=True)) for other in theirs]
            cells = [f"{value:.2f} s" for value in medians] + [f"{ratio:.1f}x" for ratio in ratios]
            print(f"| {label}{suffix} | {' | '.join(cells)} |")
    peaks = [peak_memory(name, work, table) for name in TOOLS]
    cells = [f"{grown / 1e6:.0f} MB ({grown / arrow:.2f}x)" for grown in peaks]
    print(f"| peak memory beyond the idle process (x Arrow size, {arrow / 1e6:.0f} MB) | {' | '.join(cells)} | | |")


def peak_memory(name: str, work: Path, table: Path, script: str = "") -> int:
    """Return by how many bytes a fresh process grows that reads the file and checks it once."""
    tool = Tool(name, work, table, script)
    answer = tool.ask("once")
    tool.close()
    return (answer["peak_kib"] - answer["before_kib"]) * 1024


def scaling(work: Path) -> None:
    """Print how the time grows with rows and with columns."""
    print("\n| rows (14 columns) | end to end | per million rows | peak / Arrow size |\n|---|---|---|---|")
    for rows in (100_000, 1_000_000, 10_000_000):
        table = ready_table(work, rows)
        seconds = _median_whole(work, table, "")
        ratio = peak_memory("millrace", work, table) / arrow_bytes(table)
        print(f"| {rows:,} | {seconds:.2f} s | {seconds / rows * 1e6:.2f} s | {ratio:.2f}x |")
    print("\n| columns (20,000 rows) | infer, check and profile | per 100 columns |\n|---|---|---|")
    for columns in (10, 100, 1_000):
        table = work / f"wide_{columns}_{made_by()}.csv"
        if not table.exists():
            from table import wide_table

            wide_table(table, 20_000, columns)
        seconds = _median_whole(work, table, "run_examination.py")
        print(f"| {columns:,} | {seconds:.2f} s | {seconds / columns * 100:.2f} s |")


def _median_whole(work: Path, table: Path, script: str) -> float:
    tool = Tool("millrace", work, table, script)
    tool.ask("whole")
    seconds = [tool.ask("whole")["seconds"] for _ in range(3)]
    tool.close()
    return statistics.median(seconds)


def ready_table(work: Path, rows: int) -> Path:
    """Return where the table lies, writing it the first time."""
    path = work / f"table_{rows}_{made_by()}.csv"
    if not path.exists():
        from table import write_table

        write_table(path, rows)
    return path


def made_by() -> str:
    """Return what changes with the code that writes the tables, so that an older one is never measured."""
    return hashlib.sha256((HERE / "table.py").read_bytes()).hexdigest()[:8]


def arrow_bytes(table: Path) -> int:
    """Return the size of the file's values as Arrow infers them: int64, double, string, date."""
    import pyarrow.csv

    return int(pyarrow.csv.read_csv(table).nbytes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "benchmarks")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    if chosen.scaling:
        scaling(chosen.work)
    else:
        compare(chosen.work, chosen.rows, chosen.rounds)
