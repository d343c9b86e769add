"""Compare cold starts with AWS: a fresh process to its first prediction, in processor time, interleaved.

    python benchmarks/serving/coldstart.py                      # nine rounds, three with `mlflow models serve`
    python benchmarks/serving/coldstart.py --other ../before    # another checkout of this repository beside it
    python benchmarks/serving/coldstart.py --check              # as `make nightly-speed` runs it

Millrace reads its registry and its model from a server behind TLS on 127.0.0.1, in a process of its own, and verifies
it with the system's authorities and one more. The scikit-learn handler and MLflow read theirs from a folder. All times
are beyond an empty interpreter of the same environment.
"""

import argparse
import datetime as dt
import json
import os
import platform
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from compare import READY_SECONDS, ROOT, check, environment, free_port, interpreter, ready, rotated

#: Processor that Lambda lends a function, by its memory in MB: one whole at 1,769 (Lambda's documentation).
WHOLE_PROCESSOR_MB = 1_769
MEMORIES_MB = (512, 1_024, 1_769)
KIND = "logistic_regression"
FLOOR, OURS, SKLEARN, MLFLOW = (
    "NumPy and ONNX Runtime imported",
    "Millrace",
    "scikit-learn handler",
    "mlflow models serve",
)
#: Wide limits of `--check`: a third worse than the ratios that docs/benchmarks.md publishes.
MOST_OF_FLOOR, LEAST_OF_SKLEARN = 2.4, 4.6


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of localhost with its key, and the system's authorities with it.

    Its issuer is called as those of AWS's servers are: ``predict`` reads only the authorities that may sign them.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    names = {x509.NameOID.ORGANIZATION_NAME: "Amazon", x509.NameOID.COMMON_NAME: "localhost"}
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in names.items()])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    certificate, bundle = folder / "localhost.pem", folder / "bundle.pem"
    certificate.write_bytes(key.private_bytes(*form) + made)
    system = ssl.get_default_verify_paths().cafile
    bundle.write_bytes((Path(system).read_bytes() if system else b"") + made)
    return certificate, bundle


@contextmanager
def stand_in(work: Path) -> Iterator[dict[str, str]]:
    """Run the server in place of AWS; yields the variables of a function beside it."""
    certificate, bundle = make_certificate(work)
    command = [sys.executable, str(HERE / "aws_stand_in.py"), str(work / KIND), str(certificate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        try:
            yield {
                "AWS_LAMBDA_FUNCTION_NAME": "predict",
                "AWS_REGION": "eu-west-1",
                "AWS_DEFAULT_REGION": "eu-west-1",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_SESSION_TOKEN": "token",
                "AWS_ENDPOINT_URL": f"https://localhost:{port}",
                "AWS_CA_BUNDLE": str(bundle),
                "REGISTRY_TABLE": "registry",
                "MODELS_BUCKET": "models",
                "POWERTOOLS_TRACE_DISABLED": "true",
            }
        finally:
            server.terminate()


def run(command: list[Any], variables: dict[str, str], work: Path) -> tuple[float, str]:
    """Run a process to its end; returns its processor time in ms, and what it printed."""
    read, write = os.pipe()
    pid = os.posix_spawn(
        str(command[0]),
        [str(part) for part in command],
        variables,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, write, 1),
            (os.POSIX_SPAWN_CLOSE, read),
            (os.POSIX_SPAWN_OPEN, 2, str(work / "stderr.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ],
    )
    os.close(write)
    with os.fdopen(read) as output:
        printed = output.read()
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, (command, (work / "stderr.txt").read_text(encoding="utf-8"))
    return 1_000 * (usage.ru_utime + usage.ru_stime), printed


def session_milliseconds(session: int) -> float:
    """Return the processor time of a session's processes, and of those that they have waited for."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(int(field) for field in fields[11:15])
    return 1_000 * ticks / os.sysconf("SC_CLK_TCK")


def mlflow_serve(work: Path) -> float:
    """Run MLflow's own command to its first answer; returns its processor time in ms."""
    import urllib.error
    import urllib.request

    port = free_port()
    program = interpreter("mlflow", work).with_name("mlflow")
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    variables = environment(work)
    variables["PATH"] = f"{program.parent}{os.pathsep}{variables['PATH']}"
    process = subprocess.Popen(
        [program, "models", "serve", "-m", work / KIND / "mlflow_sklearn", *options],
        env=variables,
        cwd=work,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    body, started = (work / KIND / "one.json").read_bytes(), time.perf_counter()
    try:
        while time.perf_counter() - started < READY_SECONDS:
            url = f"http://127.0.0.1:{port}/invocations"
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310 - this machine
                    assert json.loads(reply.read())
                return session_milliseconds(process.pid)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.05)
        raise AssertionError("mlflow models serve did not answer")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(work: Path, rounds: int, mlflow_rounds: int, roots: dict[str, Path]) -> dict[str, list[dict[str, float]]]:
    """Return, by variant, the processor time of each round in ms: in all, and that of the imports where it is known."""
    python, sklearn = interpreter("millrace", work), interpreter("sklearn", work)
    plain = environment(work)
    one, expected = work / KIND / "one.json", json.loads((work / KIND / "expected.json").read_text())

    def start(root: Path, aws: dict[str, str]) -> dict[str, float]:
        command = [python, HERE / "run_coldstart.py", root, one]
        spent, printed = run(command, plain | aws | {"PYTHONPATH": ""}, work)
        answer = json.loads(printed)
        assert answer["status"] == 200, answer  # noqa: PLR2004 - HTTP's
        check(OURS, [answer_["probabilities"]["1"] for answer_ in json.loads(answer["body"])["predictions"]], expected)
        return {"spent": spent, "imports": 1_000 * answer["imported"]}

    def start_sklearn() -> dict[str, float]:
        source = "import sys, run_sklearn; from pathlib import Path; folder = Path(sys.argv[1]); "
        source += "ask = run_sklearn.make(folder); ask((folder / 'one.json').read_text())"
        return {"spent": run([sklearn, "-c", source, work / KIND], plain, work)[0]}

    def nothing(interpreter_: Path) -> dict[str, float]:
        return {"spent": run([interpreter_, "-c", "pass"], plain, work)[0]}

    results: dict[str, list[dict[str, float]]] = {}
    with stand_in(work) as aws:
        variants: dict[str, Callable[[], dict[str, float]]] = {
            "nothing": lambda: nothing(python),
            FLOOR: lambda: {"spent": run([python, "-c", "import numpy, onnxruntime"], plain, work)[0]},
            **{name: lambda root=root: start(root, aws) for name, root in roots.items()},
            SKLEARN: start_sklearn,
        }
        for variant in variants.values():  # what is read for the first time, or compiled, is paid here
            variant()
        for turn in range(rounds):
            for name in rotated(list(variants), turn):
                results.setdefault(name, []).append(variants[name]())
            if turn < mlflow_rounds:
                results.setdefault(MLFLOW, []).append({"spent": mlflow_serve(work)})
    return results


def beyond(results: dict[str, list[dict[str, float]]], name: str, key: str = "spent") -> list[float]:
    """Return the rounds of a variant beyond those of an empty interpreter."""
    return [one[key] - empty["spent"] for one, empty in zip(results[name], results["nothing"], strict=False)]


def ratio(results: dict[str, list[dict[str, float]]], one: str, other: str) -> float:
    """Return the median of the rounds' own ratios."""
    pairs = zip(beyond(results, one), beyond(results, other), strict=False)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def report(results: dict[str, list[dict[str, float]]], roots: dict[str, Path]) -> None:
    """Print the table, and the time that a caller waits at some sizes of memory."""
    print("| a fresh process to its first prediction | processor, median (least) | / imports alone | / Millrace |")
    print("|---|---|---|---|")
    for name in results:
        if name == "nothing":
            continue
        taken = beyond(results, name)
        compared = f"{ratio(results, name, FLOOR):.2f}x | {ratio(results, name, OURS):.2f}x"
        print(f"| {name} | {statistics.median(taken):,.0f} ms ({min(taken):,.0f}) | {compared} |")
    print("\n| of it | imports, before the first request | the first request |\n|---|---|---|")
    for name in roots:
        imports, spent = (statistics.median(beyond(results, name, key)) for key in ("imports", "spent"))
        print(f"| {name} | {imports:,.0f} ms | {spent - imports:,.0f} ms |")
    print("\nArithmetic: the imports on a whole processor, the first request on the function's share of one.\n")
    print(f"| | {' | '.join(f'{memory:,} MB' for memory in MEMORIES_MB)} |\n|---|{'---|' * len(MEMORIES_MB)}")
    for name in roots:
        imports, spent = (statistics.median(beyond(results, name, key)) for key in ("imports", "spent"))
        times = [
            imports + (spent - imports) * WHOLE_PROCESSOR_MB / min(memory, WHOLE_PROCESSOR_MB) for memory in MEMORIES_MB
        ]
        print(f"| {name} | {' | '.join(f'{one:,.0f} ms' for one in times)} |")


def main() -> int:
    """Make what is missing and measure; with ``--check``, return 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mlflow-rounds", type=int, default=3)
    parser.add_argument("--other", type=Path, action="append", default=[], help="another checkout, measured beside")
    parser.add_argument("--check", action="store_true", help="no MLflow; fail when a cold start got a third slower")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark-serving")
    options = parser.parse_args()
    ready(options.work, tools=("sklearn",) if options.check or not options.mlflow_rounds else ("sklearn", "mlflow"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    roots = {OURS: ROOT} | {f"Millrace, {path.name}": path.resolve() for path in options.other}
    results = measure(options.work, options.rounds, 0 if options.check else options.mlflow_rounds, roots)
    report(results, roots)
    if not options.check:
        return 0
    of_floor, of_sklearn = ratio(results, OURS, FLOOR), ratio(results, SKLEARN, OURS)
    failed = of_floor > MOST_OF_FLOOR or of_sklearn < LEAST_OF_SKLEARN
    print(f"\ncold start: {of_floor:.2f}x the imports alone (at most {MOST_OF_FLOOR}x);", end=" ")
    print(f"the scikit-learn handler: {of_sklearn:.1f}x (at least {LEAST_OF_SKLEARN}x): {'FAILED' if failed else 'ok'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
