"""Ask one process 100,000 times while versions are swapped under it: nothing may fail, slow down or grow.

python benchmarks/serving/soak.py
"""

import argparse
import os
import statistics
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "functions" / "predict"))
os.environ["REGISTRY_TABLE"] = os.environ["MODELS_BUCKET"] = "-"

import app
from millrace.key_scopes import KeyScopes
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint

from tests.gateway import make_event
from tests.serving_models import CHURN_RECORD, MemoryModelSource, churn_onnx, churn_schema, version_artifacts

WARM_UP = 5_000
WINDOW = 10_000
SWAP_SECONDS = 0.2


def resident_bytes() -> int:
    """Return how much of this process is in memory now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Ask, and print what happened."""
    import json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    source = MemoryModelSource()
    for version in (1, 2):
        source.register("churn", version, version_artifacts(churn_onnx(seed=version), churn_schema()))
    cache = ModelCache(source, 0.05, time.monotonic)
    keys = KeyScopes(source.key_models, 30.0, time.monotonic)
    endpoint = Endpoint(cache, keys, 10_000, lambda: "0a6c2f6e-5f4f-4a43-9a53-8e3a2c9a0b11")
    app._endpoint = lambda: endpoint
    event = make_event("POST", "/models/churn/invocations", json.dumps({"dataframe_records": [CHURN_RECORD]}))
    stop = threading.Event()

    def swap() -> None:
        while not stop.wait(SWAP_SECONDS):
            source.aliases["churn", "champion"] = 3 - source.aliases["churn", "champion"]
            source.reads.clear()

    answers, sys.stdout = sys.stdout, open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the whole run
    swapping = threading.Thread(target=swap)
    swapping.start()
    failed, swaps, served, before, windows = 0, 0, "", 0, []
    try:
        seconds: list[float] = []
        for number in range(WARM_UP + options.requests):
            if number == WARM_UP:
                before, seconds = resident_bytes(), []
            started = time.perf_counter()
            response = app.lambda_handler(event, None)
            seconds.append(time.perf_counter() - started)
            failed += response["statusCode"] != 200  # noqa: PLR2004 - the one that is no failure
            version = response["body"].partition('"model_version":')[2][:1]
            swaps += version != served
            served = version
            if number >= WARM_UP and len(seconds) == WINDOW:
                windows.append(statistics.median(seconds))
                seconds = []
    finally:
        stop.set()
        swapping.join()
        sys.stdout = answers
    grown = resident_bytes() - before
    print(f"{options.requests:,} requests, {swaps:,} swaps of the version that serves, {failed} failed")
    print(f"memory grew by {grown / 1e6:.2f} MB")
    print("median of each 10,000: " + " ".join(f"{value * 1e6:.0f}" for value in windows) + " µs")


if __name__ == "__main__":
    main()
