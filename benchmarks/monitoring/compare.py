"""Compare the drift computation with Evidently's data drift preset, side by side and interleaved.

    python benchmarks/monitoring/compare.py                # 100,000 x 14 against 100,000 x 14, five rounds
    python benchmarks/monitoring/compare.py --scaling      # 1e5, 1e6, 1e7 rows

Evidently's environment is made by uv from the pinned requirement file beside this one.
"""

import argparse
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

TOOLS = ("millrace", "evidently")


class Tool:
    """One tool's process."""

    def __init__(self, name: str, work: Path, tables: Path) -> None:
        path = os.pathsep.join((str(HERE), str(ROOT / "shared")))
        command = [interpreter(name, work), HERE / f"run_{name}.py", tables]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
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


def ready_tables(work: Path, rows: int) -> Path:
    """Return where two tables of so many rows lie, writing them the first time."""
    from table import write

    folder = work / f"drift_{rows}"
    if not folder.exists():
        folder.mkdir(parents=True)
        write(folder / "reference.npz", rows, seed=1)
        write(folder / "present.npz", rows, seed=2, shift=0.3)
    return folder


def compare(work: Path, rows: int, rounds: int) -> None:
    """Print medians, ratios and peak memory as a table."""
    tables = ready_tables(work, rows)
    tools = {name: Tool(name, work, tables) for name in TOOLS}
    seconds: dict[str, list[float]] = {name: [] for name in (*TOOLS, "window")}
    drifts: dict[str, dict[str, float]] = {}
    for turn in range(rounds):
        for name in TOOLS if turn % 2 else TOOLS[::-1]:
            answer = tools[name].ask("drift")
            seconds[name].append(answer["seconds"])
            drifts[name] = answer["drifts"]
        seconds["window"].append(tools["millrace"].ask("window")["seconds"])
    for tool in tools.values():
        tool.close()
    # The same test on the same columns: both must find the two that moved, and no other.
    for name, found in drifts.items():
        moved = {column for column, value in found.items() if value >= 0.01}  # noqa: PLR2004  # between moved and not
        assert moved == {"number_0", "word_0"}, (name, found)
    ratio = statistics.median(
        theirs / ours for theirs, ours in zip(seconds["evidently"], seconds["millrace"], strict=True)
    )
    window_ratio = statistics.median(
        theirs / ours for theirs, ours in zip(seconds["evidently"], seconds["window"], strict=True)
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peaks = {name: peak_memory(name, work, tables) / 1e6 for name in TOOLS}
    print(f"{rows:,} x 14 against {rows:,} x 14, population stability index of every column; {platform.machine()}, ")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {rounds} rounds\n")
    print("| | Millrace | Evidently | Evidently / Millrace |\n|---|---|---|---|")
    print(f"| both tables | {medians['millrace']:.3f} s | {medians['evidently']:.2f} s | {ratio:.1f}x |")
    print(f"| a window, the reference being there | {medians['window']:.3f} s | as above | {window_ratio:.1f}x |")
    memory = f"{peaks['millrace']:.0f} MB | {peaks['evidently']:.0f} MB | {peaks['evidently'] / peaks['millrace']:.1f}x"
    print(f"| peak memory beyond the loaded tables | {memory} |")


def peak_memory(name: str, work: Path, tables: Path, question: str = "once") -> int:
    """Return by how many bytes a fresh process with both tables grows when it answers a question once."""
    tool = Tool(name, work, tables)
    answer = tool.ask(question)
    tool.close()
    return (answer["peak_kib"] - answer["before_kib"]) * 1024


def scaling(work: Path) -> None:
    """Print how time and memory grow with the rows: of a window, and of both tables with the reference described."""
    print("\n| rows (14 columns) | a window | per million rows | both tables | per million rows | peak memory |")
    print("|---|---|---|---|---|---|")
    for rows in (100_000, 1_000_000, 10_000_000):
        tables = ready_tables(work, rows)
        tool = Tool("millrace", work, tables)
        times = []
        for question in ("window", "drift"):
            tool.ask(question)
            times.append(statistics.median(tool.ask(question)["seconds"] for _ in range(3)))
        tool.close()
        cells = " | ".join(f"{seconds:.2f} s | {seconds / rows * 1e6:.2f} s" for seconds in times)
        peak = peak_memory("millrace", work, tables, "window") / 1e6
        print(f"| {rows:,} | {cells} | {peak:.0f} MB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "benchmarks")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    if chosen.scaling:
        scaling(chosen.work)
    else:
        compare(chosen.work, chosen.rows, chosen.rounds)
