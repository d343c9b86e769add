"""Compare how long commands take to start: Millrace's, MLflow's and the AWS CLI's, in processor time, interleaved.

    python benchmarks/start.py                # seven rounds
    python benchmarks/start.py --check        # as `make nightly-speed` runs it: without MLflow
    python benchmarks/start.py --other DIR    # another checkout beside it

Each tool has an environment of its own, from the pinned files beside the benchmarks. `aws s3 ls` and `millrace models`
end at the first request, which a closed port refuses: what is measured is what comes before it.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]

from peer_tools import ROOT, make_interpreter

HELP, COMMAND, AWS, MLFLOW = "millrace --help", "millrace models", "aws s3 ls", "mlflow --help"
#: Wide limits of `--check`: what the targets allow, and a third more.
MOST_OF_AWS = 1.33


def milliseconds(command: list[object], variables: dict[str, str], work: Path) -> float:
    """Return the processor time of a command and of all that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (work / "output.txt").open("w") as output:
        subprocess.run(command, env=variables, cwd=work, stdout=output, stderr=output, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1_000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def _paths(checkout: Path) -> list[str]:
    """Return the folders of a checkout that hold the command line and the library."""
    return [str(checkout / "cli"), str(checkout / "shared")]


def main() -> int:
    """Make what is missing and measure; with ``--check``, return 1 when a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--check", action="store_true", help="no MLflow; fail when a command starts a third too slowly")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark-serving")
    parser.add_argument("--other", type=Path, help="a checkout to compare with")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    millrace = [sys.executable, "-c", "from millrace_cli.entry import run; run()"]
    aws = make_interpreter(HERE / "start", "awscli", options.work).with_name("aws")
    other = [sys.executable, "-c", f"import sys; sys.path[:0] = {_paths(options.other or ROOT)}; {millrace[-1]}"]
    closed = "http://127.0.0.1:9"
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(options.work),
        "PYTHONPATH": os.pathsep.join(_paths(ROOT)),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": closed,
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    commands: dict[str, list[object]] = {
        "an empty interpreter": [sys.executable, "-c", "pass"],
        HELP: [*millrace, "--help"],
        COMMAND: [*millrace, "models", "--stack", "millrace"],
        AWS: [aws, "s3", "ls"],
    }
    if options.other:
        commands[f"{COMMAND}, {options.other.name}"] = [*other, "models", "--stack", "millrace"]
    if not options.check:
        mlflow = make_interpreter(HERE / "serving", "mlflow", options.work).with_name("mlflow")
        commands[MLFLOW] = [mlflow, "--help"]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():  # what is compiled is compiled here
        milliseconds(command, variables, options.work)
    for _ in range(options.rounds):
        for name, command in commands.items():
            taken[name].append(milliseconds(command, variables, options.work))
    print("| command | processor, median (least) | / `aws s3 ls` |\n|---|---|---|")
    ratios = {
        name: statistics.median(one / other for one, other in zip(times, taken[AWS], strict=True))
        for name, times in taken.items()
    }
    for name, times in taken.items():
        print(f"| `{name}` | {statistics.median(times):,.0f} ms ({min(times):,.0f}) | {ratios[name]:.2f}x |")
    if not options.check:
        return 0
    failed = max(ratios[HELP], ratios[COMMAND]) > MOST_OF_AWS
    print(f"\nstart of a command: at most {MOST_OF_AWS}x `aws s3 ls`: {'FAILED' if failed else 'ok'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
