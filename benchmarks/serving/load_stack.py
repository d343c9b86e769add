"""Latencies of the local stack under load that does not wait for it, with a swap of the version inside the window.

    millrace local up
    python benchmarks/serving/load_stack.py --rates 2 8

Trains a model twice through the ``millrace`` command, and sends rows by API key over TLS, as :mod:`load` does. At a
third of each window the other version is promoted. MiniStack's gateway, its check of the key and its worker are in the
latencies, and what it does not have, such as several execution environments at once on other machines, is not. A key
may ask ten times a second (``KeyRateLimit``); beyond it requests are refused with 429, and the table says failed.
"""

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import yaml

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "training")]

from load import as_request, draw_arrivals, load, row
from local_stack import command
from millrace_cli.demo.churn import generate_churn
from millrace_cli.options import find_target


def train_twice(model: str, folder: Path) -> None:
    """Train two versions of a model, each of other rows."""
    spec, training = folder / "spec.yaml", {"trials": 2, "folds": 1}
    document = {"target": "churned", "training": training, "release": {"strategy": "all_at_once"}}
    spec.write_text(yaml.safe_dump(document), encoding="utf-8")
    command("spec", "apply", model, str(spec))
    for seed in (1, 2):
        table = folder / f"{seed}.csv"
        generate_churn(rows=1_000, seed=seed).write(table)
        command("train", model, str(table), "--json")


def as_value(text: str) -> float | str | None:
    """Return a field of a CSV file as JSON has it."""
    try:
        return float(text)
    except ValueError:
        return text or None


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0, 8.0])
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    model = f"load-{time.time_ns()}"
    target = find_target(None, None, None)
    with tempfile.TemporaryDirectory() as name:
        train_twice(model, Path(name))
    table = generate_churn(rows=1, seed=3)
    columns, values = table.header[:-1], [as_value(text) for text in table.rows[0][:-1]]
    body = json.dumps({"dataframe_split": {"columns": columns, "data": [values]}}).encode()
    gateway = target.client("apigateway")
    key = gateway.get_api_key(apiKey=target.output("ApiKeyId"), includeValue=True)["value"]
    parts = urlsplit(target.key_api_url)
    path = f"{parts.path.rstrip('/')}/models/{model}/invocations"
    request = as_request(parts.netloc, path, body, (f"x-api-key: {key}",))
    tls = ssl.create_default_context(cafile=target.authority)
    print("| server | requests a second | requests | p50 ms | p99 ms | p99.9 ms | worst | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for turn, rate in enumerate(options.rates):
        due = draw_arrivals(rate, options.seconds, turn)
        swap = threading.Timer(
            options.seconds / 3, command, ("promote", model, str(2 - turn % 2), "--reason", "load test")
        )
        swap.start()
        latencies, failed = asyncio.run(load(parts.hostname or "", parts.port or 443, request, due, {}, tls=tls))
        swap.join()
        print(row("the local stack", rate, latencies, failed), flush=True)


if __name__ == "__main__":
    main()
