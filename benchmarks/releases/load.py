"""Send requests through a release: start, three advances and a rollback, with the plan changing under load.

The handler of ``predict`` runs in process, with its refresh thread. Every reply is compared with the plan that was in
effect: the present one, or the one before for as long as a refresh may take. The lines of the log are counted as the
delivery of captures does, and compared with the replies.

    python benchmarks/releases/load.py --requests 100000
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
import uuid
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "serving")]

import models
import run_millrace
from millrace.captures.records import find_line, find_request
from millrace.captures.traffic import arm_key, count_arms
from millrace.key_scopes import KeyScopes
from millrace.routing import PlannedArm, RoutingPlan
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint, handle

RELEASE = "r-20261130T030000-0a1b2c3d"
CANDIDATE = 2
WEIGHTS = (0.0, 0.05, 0.25, 0.5)
REFRESH_SECONDS = 0.1
#: A refresh begins with the first request after the interval, and loads a version the first time.
PATIENCE_SECONDS = 1.0


def plan_of(stage: int) -> RoutingPlan | None:
    """Return the plan of a stage; None before the release and after its rollback."""
    if not 0 <= stage < len(WEIGHTS):
        return None
    return RoutingPlan(RELEASE, stage, 1, (PlannedArm(CANDIDATE, WEIGHTS[stage]),))


def expected_arm(plan: RoutingPlan | None, key: str) -> str | None:
    """Return the arm of a key; None without a release."""
    if plan is None:
        return None
    return "candidate" if plan.assign(key) else "champion"


def main() -> None:
    """Print the numbers of requests, failures, misattributed replies, and late replies of the candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    requests = parser.parse_args().requests
    found: Counter[str] = Counter()
    log = io.StringIO()
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        source = run_millrace.FolderSource(Path(work) / "logistic_regression")
        body = json.dumps(json.loads((Path(work) / "logistic_regression" / "many.json").read_text())["dataframe_split"])
        split = json.loads(body)
        body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"][:1]}})
        cache = ModelCache(source, REFRESH_SECONDS, time.monotonic)
        endpoint = Endpoint(cache, KeyScopes(source.key_models, 30.0, time.monotonic), 10, lambda: str(uuid.uuid4()))
        stages = [-1, *range(len(WEIGHTS)), len(WEIGHTS)]
        changed_at, before = 0.0, plan_of(-1)
        arms: Counter[str] = Counter()
        with contextlib.redirect_stdout(log):
            for number in range(requests):
                stage = stages[number * len(stages) // requests]
                plan = plan_of(stage)
                text = "" if plan is None else plan.write()
                if text != source.routing:
                    before, changed_at, source.routing = plan_of(stage - 1), time.monotonic(), text
                key = f"caller-{number}"
                response = handle(make_event(body, key), lambda: endpoint, cold_start=False)
                late = time.monotonic() - changed_at > PATIENCE_SECONDS
                arm, version = (
                    response["headers"].get("X-Millrace-Arm"),
                    json.loads(response["body"]).get("model_version"),
                )
                allowed = {expected_arm(plan, key)} | (set() if late else {expected_arm(before, key)})
                found["failed"] += response["statusCode"] != HTTPStatus.OK
                found["misattributed"] += arm not in allowed or (version == CANDIDATE) != (arm == "candidate")
                found["candidate after the rollback"] += stage == len(WEIGHTS) and late and version == CANDIDATE
                if arm:
                    arms[arm] += 1
    lines = [json.loads(line) for line in log.getvalue().splitlines() if "millrace.capture" in line]
    counted = count_arms([find_request(find_line(json.dumps(line)))[2] for line in lines])
    for arm in ("champion", "candidate"):
        recorded = sum(counted[key].requests for key in counted if key.endswith(f"/{arm}"))
        found["not recorded as replied"] += abs(recorded - arms[arm])
    print(f"{requests} requests, {arms['candidate']} of the candidate, by stage:")
    for stage, weight in enumerate(WEIGHTS):
        both = [counted.get(arm_key(RELEASE, stage, arm)) for arm in ("candidate", "champion")]
        candidate, champion = (each.requests if each else 0 for each in both)
        print(f"  {weight:.0%}: {candidate} of {candidate + champion}")
    for name in ("failed", "misattributed", "candidate after the rollback", "not recorded as replied"):
        print(f"{name}: {found[name]}")


def make_event(body: str, key: str) -> dict[str, Any]:
    """Return a request of API Gateway with a routing key."""
    return {
        "resource": "/models/{model}/invocations",
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json", "X-Millrace-Routing-Key": key},
        "pathParameters": {"model": "churn"},
        "requestContext": {"requestId": "q-1"},
        "body": body,
        "isBase64Encoded": False,
    }


if __name__ == "__main__":
    main()
