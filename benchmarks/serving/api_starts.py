"""Cold starts of the functions of the API: a fresh process to its first call of AWS, in processor time, interleaved.

    .venv/bin/python benchmarks/serving/api_starts.py

Each function imports its module and handles one event; AWS is a closed port, tried once. What is measured is what comes
before a response of AWS: imports and clients. `predict` signs its own requests; its model is not loaded.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: A sample event of each function that leads to a call of AWS.
EVENTS = {
    "manage_models": "valid_models",
    "change_models": "valid_promote",
    "record_feedback": "valid_one",
    "serve_mlflow": "refused_unknown_run",
    "predict": "valid_alias",
}
EMPTY = "an empty interpreter"
RUN = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
import app
context = types.SimpleNamespace(
    function_name="f", memory_limit_in_mb=512, invoked_function_arn="arn:aws:lambda:eu-west-1:1:function:f",
    aws_request_id="0", get_remaining_time_in_millis=lambda: 30_000)
response = app.lambda_handler(json.load(open(sys.argv[2])), context)
assert response["statusCode"] >= 429, response
"""


def milliseconds(command: list[object], variables: dict[str, str]) -> float:
    """Return the processor time of a command; raises when it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(list(map(str, command)), env=variables, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1_000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main() -> None:
    """Print a table: processor time beyond an empty interpreter, and its ratio to that of `manage_models`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    closed = "http://127.0.0.1:9"
    names = ("REGISTRY_TABLE", "RUNS_TABLE", "TRACKING_TABLE", "DATA_BUCKET", "MODELS_BUCKET", "STACK_NAME")
    arns = ("TRAINING_PIPELINE_ARN", "MONITORING_PIPELINE_ARN", "SCORING_PIPELINE_ARN", "ALARM_TOPIC_ARN")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": tempfile.gettempdir(),
        "PYTHONPATH": str(ROOT / "shared"),
        **dict.fromkeys(names, "millrace"),
        **dict.fromkeys(arns, "arn:aws:states:eu-west-1:123456789012:stateMachine:millrace"),
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": closed,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "1",
        "POWERTOOLS_SERVICE_NAME": "millrace",
        "POWERTOOLS_TRACE_DISABLED": "true",
    }
    commands: dict[str, list[object]] = {EMPTY: [sys.executable, "-c", "pass"]}
    for function, event in EVENTS.items():
        paths = ROOT / "functions" / function, ROOT / "events" / function / f"{event}.json"
        commands[function] = [sys.executable, "-c", RUN, *paths]
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(-1, rounds):
        for name, command in commands.items():
            time = milliseconds(command, variables)
            if number >= 0:
                taken[name].append(time)
    print("| function | processor, median (least) | / `manage_models` |\n|---|---|---|")
    for name in EVENTS:
        beyond = [one - empty for one, empty in zip(taken[name], taken[EMPTY], strict=True)]
        others = [one - empty for one, empty in zip(taken["manage_models"], taken[EMPTY], strict=True)]
        ratio = statistics.median(one / other for one, other in zip(beyond, others, strict=True))
        print(f"| `{name}` | {statistics.median(beyond):,.0f} ms ({min(beyond):,.0f}) | {ratio:.2f}x |")


if __name__ == "__main__":
    main()
