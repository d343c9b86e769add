"""Compare latencies of servers under load that does not wait for them: p50, p99 and p99.9 at fixed rates of arrival.

    python benchmarks/serving/load.py                                      # 50 requests a second, 30 seconds each
    python benchmarks/serving/load.py --rates 50 200 500 --servers Millrace
    python benchmarks/serving/load.py --url http://127.0.0.1:4566/... --header "Authorization: ..."    # any server

Requests of one row are due at times that are drawn before the run, and a latency begins when its request is due: a
server that stalls pays for every request that waited (no coordinated omission). All servers get the same times, over
127.0.0.1, one after the other in an order that rotates. Millrace is its handler behind a socket, as one execution
environment, which has one request at a time; the others are their own commands. In Millrace's window the version is
swapped at a third, garbage is collected at two thirds, and the alias is refreshed every second.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from compare import READY_SECONDS, environment, free_port, interpreter, ready, rotated

KIND = "logistic_regression"
#: Connections that may wait for a server at once; a request that finds none waits too, and that counts.
CONNECTIONS = 64
SERVERS = ("Millrace", "mlflow models serve", "bentoml serve", "mlserver start")


def command_of(name: str, work: Path, port: int) -> tuple[list[object], Path, str, str]:
    """Return a server's command, its folder, and the path and the body file of its requests."""
    if name == "Millrace":
        command: list[object] = [interpreter("millrace", work), HERE / "run_http.py", work / KIND, port, 1.0]
        return command, work, "/invocations", "one.json"
    if name == "mlflow models serve":
        program = interpreter("mlflow", work).with_name("mlflow")
        options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
        command = [program, "models", "serve", "-m", work / KIND / "mlflow_sklearn", *options]
        return command, work, "/invocations", "one.json"
    if name == "mlserver start":
        program, folder = interpreter("mlserver", work).with_name("mlserver"), write_mlserver(work / KIND, port)
        return [program, "start", folder], work, "/v2/models/churn/infer", "one_v2.json"
    program = interpreter("bentoml", work).with_name("bentoml")
    command = [program, "serve", "bento_service:Churn", "--host", "127.0.0.1", "--port", port]
    return command, HERE, "/predict", "one_records.json"


def write_mlserver(folder: Path, port: int) -> Path:
    """Write MLServer's settings, its own defaults but for addresses, and the request in its protocol, by columns."""
    settings = folder / "mlserver"
    settings.mkdir(exist_ok=True)
    addresses = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (settings / "settings.json").write_text(json.dumps(addresses))
    model = {"implementation": "mlserver_model.Churn", "parameters": {"uri": str(folder / "pipeline.joblib")}}
    (settings / "model-settings.json").write_text(json.dumps({"name": "churn", **model}))
    split = json.loads((folder / "one.json").read_text())["dataframe_split"]
    inputs = []
    for column, (value, *_) in zip(split["columns"], zip(*split["data"], strict=True), strict=True):
        is_word = isinstance(value, str)
        kind = {"datatype": "BYTES", "parameters": {"content_type": "str"}} if is_word else {"datatype": "FP64"}
        inputs.append({"name": column, "shape": [1], "data": [value], **kind})
    (folder / "one_v2.json").write_text(json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}))
    return settings


@contextmanager
def running(name: str, work: Path) -> Iterator[tuple[int, str, bytes]]:
    """Run a server; yields its port, the path of its requests and their body."""
    port = free_port()
    command, folder, path, body_file = command_of(name, work, port)
    variables = environment(work) | {"BENCH_FOLDER": str(work / KIND), "BENCH_INSIDE": "sklearn"}
    variables["PATH"] = f"{Path(str(command[0])).parent}{os.pathsep}{variables['PATH']}"
    with (work / "server.txt").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], env=variables, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        body = (work / KIND / body_file).read_bytes()
        wait_for(f"http://127.0.0.1:{port}{path}", body, process)
        yield port, path, body
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(url: str, body: bytes, process: "subprocess.Popen[bytes]") -> None:
    """Ask until a server answers."""
    started = time.perf_counter()
    while time.perf_counter() - started < READY_SECONDS:
        assert process.poll() is None, "the server ended; see server.txt"
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - this machine
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310 - as above
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} did not answer")


async def ask(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes) -> int:
    """Send a request over a connection that is kept; returns the status."""
    reader, writer = streams
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
    else:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)
    return int(lines[0].split()[1])


def as_request(host: str, path: str, body: bytes, headers: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a request."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + body


async def load(
    host: str,
    port: int,
    request: bytes,
    due: list[float],
    events: dict[float, bytes],
    *,
    tls: ssl.SSLContext | None = None,
) -> tuple[list[float], int]:
    """Send each request when it is due; returns the latencies in ms, sorted, and how many failed."""
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(await asyncio.open_connection(host, port, ssl=tls))
    latencies: list[float] = []
    failed = 0
    started = time.perf_counter()

    async def one(at: float, content: bytes, *, counts: bool) -> None:
        nonlocal failed
        await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
        streams = await idle.get()
        try:
            failed += await ask(streams, content) != 200  # noqa: PLR2004 - HTTP's
        except (OSError, asyncio.IncompleteReadError):
            failed += 1
            streams = await asyncio.open_connection(host, port, ssl=tls)
        idle.put_nowait(streams)
        if counts:
            latencies.append(1_000 * (time.perf_counter() - started - at))

    tasks = [one(at, request, counts=True) for at in due] + [
        one(at, content, counts=False) for at, content in events.items()
    ]
    await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait()[1].close()
    return sorted(latencies), failed


def draw_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Return the times at which requests are due, of a Poisson process."""
    random_times = random.Random(seed)  # noqa: S311 - arrivals, not secrets
    due, at = [], 0.0
    while (at := at + random_times.expovariate(rate)) < seconds:
        due.append(at)
    return due


def quantile(latencies: list[float], share: float) -> float:
    """Return the latency that a share of the requests did not exceed."""
    return latencies[min(len(latencies) - 1, int(share * len(latencies)))]


def row(name: str, rate: float, latencies: list[float], failed: int) -> str:
    """Return the table's row of a server at a rate."""
    numbers = " | ".join(f"{quantile(latencies, share):,.1f}" for share in (0.5, 0.99, 0.999))
    return f"| {name} | {rate:,.0f} | {len(latencies):,} | {numbers} | {latencies[-1]:,.1f} | {failed} |"


def main() -> None:
    """Make what is missing and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--servers", nargs="+", default=list(SERVERS), choices=SERVERS)
    parser.add_argument("--url", help="any other server, in place of these")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark-serving")
    options = parser.parse_args()
    ready(options.work, tools=("sklearn", "mlflow", "bentoml", "mlserver") if not options.url else ())
    print("| server | requests a second | requests | p50 ms | p99 ms | p99.9 ms | worst | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for turn, rate in enumerate(options.rates):
        due = draw_arrivals(rate, options.seconds, turn)
        if options.url:
            parts = urlsplit(options.url)
            body = (options.work / KIND / "one.json").read_bytes()
            request = as_request(parts.netloc, parts.path, body, tuple(options.header))
            latencies, failed = asyncio.run(load(parts.hostname or "", parts.port or 80, request, due, {}))
            print(row(options.url, rate, latencies, failed), flush=True)
            continue
        for name in rotated(options.servers, turn):
            with running(name, options.work) as (port, path, body):
                host = f"127.0.0.1:{port}"
                events = {}
                if name == "Millrace":
                    events[options.seconds / 3] = as_request(host, "/swap", b"")
                    events[options.seconds * 2 / 3] = as_request(host, "/collect", b"")
                latencies, failed = asyncio.run(load("127.0.0.1", port, as_request(host, path, body), due, events))
                print(row(name, rate, latencies, failed), flush=True)


if __name__ == "__main__":
    main()
