"""Compare serving with a scikit-learn handler, MLflow and BentoML, side by side and interleaved.

    python benchmarks/serving/compare.py                 # seven rounds of warm requests, five cold starts
    python benchmarks/serving/compare.py --rounds 3 --cold-rounds 1
    python benchmarks/serving/compare.py --check         # as `make nightly-speed` runs it

Environments are made by uv from the pinned requirement files beside this one. Servers listen on 127.0.0.1, and only
for the cold starts of MLflow's and BentoML's own commands.
"""

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "shared")]

from peer_tools import make_interpreter

#: Of a tool and a folder, its own interpreter.
interpreter = partial(make_interpreter, HERE)

#: By name: environment, script, argument.
SERVERS = {
    "Millrace": ("millrace", "run_millrace.py", ""),
    "bare session.run": ("millrace", "run_bare.py", ""),
    "scikit-learn handler": ("sklearn", "run_sklearn.py", ""),
    "MLflow": ("mlflow", "run_mlflow.py", "sklearn"),
    "MLflow with ONNX Runtime": ("mlflow", "run_mlflow.py", "onnx"),
    "BentoML": ("bentoml", "run_bentoml.py", "sklearn"),
    "BentoML with ONNX Runtime": ("bentoml", "run_bentoml.py", "onnx"),
}
#: Requests of one row in a round: the slower the server, the fewer.
REQUESTS = {"Millrace": 2_000, "bare session.run": 5_000}
#: Requests of many rows before the first round: Millrace tries in which order it scores them.
LARGE_WARM_UP = 6
#: Servers of `--check`, and its wide limits: a third worse than the ratios that docs/benchmarks.md publishes.
CHECKED = ("Millrace", "bare session.run", "scikit-learn handler")
MOST_OF_SESSION, LEAST_OF_HANDLER = 6.4, {"one": 48.0, "many": 2.4}
#: How far a float32 pipeline may be from the same pipeline in float64.
TOLERANCE = 2e-3
READY_SECONDS = 120.0


def environment(work: Path) -> dict[str, str]:
    """Return the variables of every process: no telemetry, one thread of BLAS, homes of their own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "PYTHONPATH": os.pathsep.join((str(HERE), str(ROOT / "shared"))),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(work / "bentoml_home"),
    }


class Server:
    """One server's process, which has answered its first request when it is made."""

    def __init__(self, name: str, work: Path, kind: str) -> None:
        tool, script, argument = SERVERS[name]
        started = time.perf_counter()
        self.process = subprocess.Popen(
            [interpreter(tool, work), HERE / script, work / kind, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(work),
            cwd=work,
        )
        self.first = self._read()["first"]
        self.cold_seconds = time.perf_counter() - started

    def ask(self, question: str) -> dict[str, Any]:
        """Ask the process, and wait for its answer."""
        assert self.process.stdin
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"{self.process.args} ended"
        return dict(json.loads(line))


def check(name: str, chances: list[float], expected: list[float]) -> float:
    """Assert that a server says what the pipeline says; returns by how much it differs at most."""
    difference = max(abs(one - other) for one, other in zip(chances, expected[: len(chances)], strict=True))
    assert difference < TOLERANCE, (name, difference)
    return difference


def rotated(names: list[str], turn: int) -> list[str]:
    """Return the names in another order each turn, so that none always follows the same one."""
    return names[turn % len(names) :] + names[: turn % len(names)]


@dataclass
class WarmRequests:
    """Seconds of warm requests by server and size, one a round, peaks in KiB, and the largest difference in answers."""

    seconds: dict[tuple[str, str], list[float]]
    peaks: dict[str, tuple[int, int]]
    difference: float

    def ratio(self, name: str, size: str, other: str = "Millrace") -> float:
        """Return the median of the rounds' own ratios of two servers."""
        pairs = zip(self.seconds[name, size], self.seconds[other, size], strict=True)
        return statistics.median(one / than for one, than in pairs)


def warm(work: Path, kind: str, rounds: int, names: Collection[str]) -> WarmRequests:
    """Measure how long requests of one and of 10,000 rows take, and how much memory they took."""
    expected = json.loads((work / kind / "expected.json").read_text())
    servers = {name: Server(name, work, kind) for name in names}
    differences = [check(name, server.first, expected) for name, server in servers.items()]
    for name, server in servers.items():
        server.ask(f"one {REQUESTS.get(name, 200)}")
    peaks = {name: server.ask("peak")["peak_kib"] for name, server in servers.items()}
    for server in servers.values():
        for _ in range(LARGE_WARM_UP):
            server.ask("many")
    seconds: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        for name in rotated(list(servers), turn):
            answer = servers[name].ask(f"one {REQUESTS.get(name, 200)}")
            seconds.setdefault((name, "one"), []).append(answer["seconds"])
        for name in rotated(list(servers), turn):
            answer = servers[name].ask("many")
            differences.append(check(name, answer["chances"], expected))
            seconds.setdefault((name, "many"), []).append(answer["seconds"])
    after = {name: server.ask("peak")["peak_kib"] for name, server in servers.items()}
    for server in servers.values():
        server.close()
    return WarmRequests(seconds, {name: (peaks[name], after[name]) for name in servers}, max(differences))


def report(kind: str, rounds: int, found: WarmRequests) -> None:
    """Print the table of warm requests."""
    print(f"\n### {title(kind)}, warm ({rounds} rounds; answers differ by {found.difference:.0e})\n")
    print("| | one row | / Millrace | 10,000 rows | / Millrace | peak memory | after 10,000 rows |")
    print("|---|---|---|---|---|---|---|")
    for name, (peak, after) in found.peaks.items():
        one, many = (statistics.median(found.seconds[name, size]) for size in ("one", "many"))
        ratios = [write_ratio(found.ratio(name, size)) for size in ("one", "many")]
        memory = f"{peak / 1024:.0f} MiB | {after / 1024:.0f} MiB"
        print(f"| {name} | {one * 1e6:,.0f} µs | {ratios[0]} | {many * 1e3:,.0f} ms | {ratios[1]} | {memory} |")


def broken_limits(kind: str, found: WarmRequests) -> list[str]:
    """Return what is a third worse than published, in words."""
    of_session = found.ratio("Millrace", "one", "bare session.run")
    broken = [f"one row takes {of_session:.2f}x a bare session"] if of_session > MOST_OF_SESSION else []
    for size, least in LEAST_OF_HANDLER.items():
        times = found.ratio("scikit-learn handler", size)
        if times < least:
            broken.append(f"the scikit-learn handler takes {times:.1f}x as long for {size} row(s), less than {least}")
    return [f"{title(kind)}: {each}" for each in broken]


def title(kind: str) -> str:
    """Return a model's kind as a heading."""
    return kind.replace("_", " ").capitalize()


def write_ratio(value: float) -> str:
    """Return a ratio with as many digits as matter."""
    return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"  # noqa: PLR2004 - two digits are enough


def cold(work: Path, kind: str, rounds: int) -> None:
    """Print how long a fresh process takes to its first prediction."""
    starts: dict[str, Any] = {
        name: lambda name=name: in_process(name, work, kind) for name in ("Millrace", "scikit-learn handler")
    }
    for inside, label in (("sklearn", ""), ("onnx", " with ONNX Runtime")):
        starts[f"mlflow models serve{label}"] = lambda inside=inside: mlflow_serve(work, kind, inside)
        starts[f"bentoml serve{label}"] = lambda inside=inside: bentoml_serve(work, kind, inside)
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for turn in range(rounds):
        for name in rotated(list(starts), turn):
            seconds[name].append(starts[name]())
    print(f"\n### {title(kind)}, cold: a fresh process to its first prediction ({rounds} rounds)\n")
    print("| | | / Millrace |\n|---|---|---|")
    for name, taken in seconds.items():
        times = statistics.median(one / ours for one, ours in zip(taken, seconds["Millrace"], strict=True))
        print(f"| {name} | {statistics.median(taken):.2f} s | {write_ratio(times)} |")


def in_process(name: str, work: Path, kind: str) -> float:
    """Start a handler's process; returns when its first answer is there."""
    server = Server(name, work, kind)
    server.close()
    return server.cold_seconds


def mlflow_serve(work: Path, kind: str, inside: str) -> float:
    """Run MLflow's own command."""
    port = free_port()
    model = work / kind / f"mlflow_{inside}"
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    command = [interpreter("mlflow", work).with_name("mlflow"), "models", "serve", "-m", model, *options]
    body = (work / kind / "one.json").read_bytes()
    return until_answered(command, environment(work), work, f"http://127.0.0.1:{port}/invocations", body)


def bentoml_serve(work: Path, kind: str, inside: str) -> float:
    """Run BentoML's own command."""
    port = free_port()
    command = [interpreter("bentoml", work).with_name("bentoml"), "serve", "bento_service:Churn"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    variables = environment(work) | {"BENCH_FOLDER": str(work / kind), "BENCH_INSIDE": inside}
    body = (work / kind / "one_records.json").read_bytes()
    return until_answered(command, variables, HERE, f"http://127.0.0.1:{port}/predict", body)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_answered(command: list[Any], variables: dict[str, str], folder: Path, url: str, body: bytes) -> float:
    """Start a server, ask until it answers, end it and what it started; returns the seconds."""
    variables = {**variables, "PATH": f"{Path(command[0]).parent}{os.pathsep}{variables['PATH']}"}
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=variables,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while time.perf_counter() - started < READY_SECONDS:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310  # this machine
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310  # as above
                    assert json.loads(reply.read())
                return time.perf_counter() - started
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        raise AssertionError(f"{command} did not answer")
    finally:
        # Asked first: some servers' workers have a session of their own, and only the server ends them.
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def import_time(work: Path, rounds: int) -> None:
    """Print how long the handler's import takes beyond an empty interpreter, with and without the AWS clients."""
    folder = ROOT / "functions" / "predict"
    python = interpreter("millrace", work)
    variants = {
        "nothing": ({}, "pass"),
        "handler": ({}, "import app"),
        "handler, as on Lambda": ({"AWS_LAMBDA_FUNCTION_NAME": "predict"}, "import app"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds):
        for name in rotated(list(variants), turn):
            variables, source = variants[name]
            started = time.perf_counter()
            subprocess.run([python, "-c", source], check=True, cwd=folder, env=environment(work) | variables)
            seconds[name].append(time.perf_counter() - started)
    print("\n### Import of the handler, beyond an empty interpreter\n")
    for name in list(variants)[1:]:
        beyond = statistics.median(one - other for one, other in zip(seconds[name], seconds["nothing"], strict=True))
        print(f"- {name}: {beyond * 1e3:.0f} ms")


def ready(work: Path, tools: tuple[str, ...] = ("sklearn", "mlflow", "bentoml")) -> None:
    """Make environments and models."""
    from models import KINDS, prepare

    for tool in tools:
        interpreter(tool, work)
    if not (work / "prepared").exists():
        prepare(work)
        (work / "prepared").touch()
    if "mlflow" not in tools or (work / "ready").exists():
        return
    for kind in KINDS:
        save = [interpreter("mlflow", work), HERE / "run_mlflow.py", work / kind, "save"]
        subprocess.run(save, check=True, env=environment(work), cwd=work)
    (work / "ready").touch()


def main() -> int:
    """Make what is missing and measure; with ``--check``, return 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold-rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="a few servers, warm; fail when one got a third slower")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark-serving")
    options = parser.parse_args()
    ready(options.work, *([("sklearn",)] if options.check else []))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    broken: list[str] = []
    for kind in ("logistic_regression", "hist_gradient_boosting"):
        found = warm(options.work, kind, options.rounds, CHECKED if options.check else SERVERS)
        report(kind, options.rounds, found)
        broken += broken_limits(kind, found) if options.check else []
    if options.check:
        print("\n".join(broken))
        return 1 if broken else 0
    if options.cold_rounds:
        cold(options.work, "logistic_regression", options.cold_rounds)
        import_time(options.work, 2 * options.cold_rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
