"""Send random sequences of calls to a stock MLflow server and to ours, and compare what both respond.

    compare_mlflow.py URL EXAMPLES [others]

Ids and times are masked, and lists whose order is not part of the API are sorted. The stock server is MLflow's own
application on SQLite, called in this process.
"""

import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path

FOLDER = tempfile.mkdtemp()
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{FOLDER}/stock.db",
    "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{FOLDER}/stock.db",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "s3://millrace-models/mlflow/experiments",
}

import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mlflow.server import app

URL, EXAMPLES = sys.argv[1], int(sys.argv[2])
#: The same sequences each time, or others.
IS_SAME = sys.argv[3:] != ["others"]
STOCK, OURS = app.test_client(), requests.Session()
API = "/api/2.0/mlflow/"
SORTED = {"tags", "params", "metrics", "dataset_inputs", "dataset_summaries", "aliases", "latest_versions"}
TIMES = {
    "creation_time",
    "last_update_time",
    "creation_timestamp",
    "last_updated_timestamp",
    "creation_timestamp_ms",
    "last_updated_timestamp_ms",
}
REFUSED, FAULT = 400, 500
COUNTER = itertools.count(1)
#: The other server may have what an earlier process made.
PROCESS = f"n{os.getpid()}x"
CALLS = {"sent": 0, "succeeded": 0}

KEYS = ["a", "b c", "d/e", "f.g"]
VALUES = [0.0, -1.5, 2.0, 1e300, "NaN", "Infinity", 3]
TEXTS = ["x", "Abc", "", "a_c%", "1.0", "é"]
DATASETS = [{}, {"dataset_name": "d", "dataset_digest": "1"}, {"dataset_name": "d"}]
FILTERS = [
    "",
    "metrics.a > 0",
    "metrics.a <= 2.0 AND params.a = 'x'",
    "params.`b c` != 'x'",
    "tags.a LIKE 'A%'",
    "tags.a ILIKE 'a%' and status = 'RUNNING'",
    "params.a IS NULL",
    "tags.`d/e` IS NOT NULL",
    "attributes.start_time > 3",
    "run_name = 'r2'",
    "run_name LIKE 'r%' AND status != 'FINISHED'",
    "dataset.name = 'x'",
    "dataset.context = 'training' and dataset.digest LIKE '%'",
    "metrics.a = 'x'",
    "params.a > 'x'",
    "nothing.a = 'x'",
    "metrics.a >",
    "params.a = 'x' OR params.a = 'y'",
    "end_time > 1",
    "user_id = 'ann'",
]
ORDERS = [
    [],
    ["metrics.a DESC"],
    ["metrics.a"],
    ["params.a DESC", "metrics.`b c` ASC"],
    ["tags.a"],
    ["start_time ASC"],
    ["attributes.status", "run_name DESC"],
    ["end_time"],
    ["params.`d/e`", "start_time"],
    ["color"],
    ["metrics.a sideways"],
]


class Pair:
    """Both servers, with the ids of what was created on each."""

    def __init__(self):
        self.prefix = f"{PROCESS}{next(COUNTER)}-"
        self.ids = ({}, {})  # masks by id
        self.known = {"experiment": [], "run": [], "model": []}  # (stock id, our id)
        self.start = 0

    def add(self, kind, pair):
        self.known[kind].append(pair)
        for ids, one in zip(self.ids, pair, strict=True):
            ids[one] = f"<{kind} {len(self.known[kind])}>"

    def one(self, kind, number):
        """Return an id on each server; of nothing, while there is none."""
        known = self.known[kind]
        if not known:
            nothing = {"experiment": "987654", "run": "f" * 32, "model": "m-" + "f" * 32}[kind]
            return nothing, nothing
        return known[number % len(known)]

    def send(self, method, path, bodies, created=()):
        """Send a request to both, and compare; returns the bodies of both.

        ``created`` is the kind of what the request creates, and the path of its id in the response.
        """
        stock = STOCK.open(path(0), method=method, **form(method, bodies[0]))
        ours = OURS.request(method, URL + path(1), **form(method, bodies[1], is_requests=True))
        both = (stock.status_code, stock.get_json(force=True)), (ours.status_code, ours.json())
        if created and both[0][0] == both[1][0] == 200:
            self.add(created[0], tuple(dig(body, created[1:]) for _, body in both))
        masked = [self.mask(status, body, side) for side, (status, body) in enumerate(both)]
        if both[0][0] == FAULT and REFUSED <= both[1][0] < FAULT:
            masked[0] = masked[1]  # what MLflow's server breaks on, ours refuses
        CALLS["sent"] += 1
        CALLS["succeeded"] += both[0][0] == 200
        assert masked[0] == masked[1], json.dumps(
            {"call": [method, path(1), bodies[1]], "stock": masked[0], "ours": masked[1], "raw": both}, indent=1
        )[:6000]
        return both[0][1], both[1][1], both[0][0] == 200

    def mask(self, status, body, side):
        if status != 200:
            return status, body.get("error_code")
        text = json.dumps(body)
        for one, mask in self.ids[side].items():
            # Ids of experiments are numbers there, as versions and other values are.
            quoted = f'"experiment_id": "{one}"' if one.isdecimal() else f'"{one}"'
            text = text.replace(quoted, quoted.replace(one, mask))
            text = re.sub(rf'/{one}(?=[/"])', f"/{mask}", text)
        return status, normal(json.loads(text))


def dig(body, path):
    for name in path:
        body = body[name]
    return body


def form(method, body, *, is_requests=False):
    if method == "GET":
        return {"params" if is_requests else "query_string": body}
    return {"json": body}


def normal(value, name=""):
    """Return a body without what differs by nature: order, times, empty members, tokens."""
    if isinstance(value, dict):
        found = {}
        for key, one in value.items():
            if key in TIMES or key == "workspace" or one in ([], {}, "", None):
                continue
            found[key] = "<token>" if key == "next_page_token" else normal(one, key)
        return {key: one for key, one in found.items() if one != {}}
    if isinstance(value, list):
        whole = [normal(one) for one in value]
        return sorted(whole, key=lambda one: json.dumps(one, sort_keys=True)) if name in SORTED else whole
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def post(pair, path, *, both=None, created=(), **body):
    """Send a body to both; ``both`` has members that differ."""
    bodies = [{**body, **{name: ids[side] for name, ids in (both or {}).items()}} for side in (0, 1)]
    return pair.send("POST", lambda _side: API + path, bodies, created)


def get(pair, path, *, both=None, **query):
    bodies = [{**query, **{name: ids[side] for name, ids in (both or {}).items()}} for side in (0, 1)]
    return pair.send("GET", lambda _side: API + path, bodies)


def pick(values, number):
    return values[number % len(values)]


def create_experiment(pair, a, b, _c):
    name = pair.prefix + pick(["one", "two", "Three", "four"], a)
    tags = [{"key": pick(KEYS, b), "value": "x"}] if b % 2 else []
    post(pair, "experiments/create", created=("experiment", "experiment_id"), name=name, tags=tags)


def change_experiment(pair, a, b, c):
    which = {"experiment_id": pair.one("experiment", a)}
    match b % 7:
        case 0:
            post(pair, "experiments/delete", both=which)
        case 1:
            post(pair, "experiments/restore", both=which)
        case 2:
            # A name that is taken is a fault of SQL's there, and a refusal here.
            post(pair, "experiments/update", both=which, new_name=f"{pair.prefix}new{next(COUNTER)}")
        case 3:
            post(pair, "experiments/set-experiment-tag", both=which, key=pick([*KEYS, "a*"], c), value=pick(TEXTS, c))
        case 4:
            post(pair, "experiments/delete-experiment-tag", both=which, key=pick(KEYS, c))
        case _:
            get(pair, "experiments/get", both=which)


def search_experiments(pair, a, b, c):
    named = f"name LIKE '{pair.prefix}%'"
    more = pick(["", " AND name ILIKE '%T%'", " AND tags.a = 'x'", " AND tags.a IS NULL", " AND color = 'x'"], a)
    order = pick([["name"], ["name DESC"], ["experiment_id"], ["experiment_id DESC"]], b)
    view = pick(["ACTIVE_ONLY", "DELETED_ONLY", "ALL"], c)
    post(pair, "experiments/search", filter=named + more, order_by=order, view_type=view, max_results=1 + c % 4)


def create_run(pair, a, b, c):
    pair.start += 1
    tags = [{"key": pick(KEYS, b), "value": pick(TEXTS, c)}] if b % 2 else []
    post(
        pair,
        "runs/create",
        created=("run", "run", "info", "run_id"),
        both={"experiment_id": pair.one("experiment", a)},
        start_time=pair.start,
        run_name=f"r{pair.start}",
        user_id=pick(["ann", "bob"], c),
        tags=tags,
    )


def change_run(pair, a, b, c):
    which = {"run_id": pair.one("run", a)}
    match b % 5:
        case 0:
            post(pair, "runs/delete", both=which)
        case 1:
            post(pair, "runs/restore", both=which)
        case 2:
            status = pick(["FINISHED", "FAILED", "KILLED", "RUNNING"], c)
            post(pair, "runs/update", both=which, status=status, end_time=c + 1)
        case 3:
            post(pair, "runs/update", both=which, run_name=f"r{c % 9}")
        case _:
            get(pair, "runs/get", both=which)


def metric(a, b, c):
    return {"key": pick(KEYS, a), "value": pick(VALUES, b), "timestamp": c % 3, "step": b % 5}


def log(pair, a, b, c):
    which = {"run_id": pair.one("run", a)}
    match b % 6:
        case 0 | 1:
            post(pair, "runs/log-metric", both=which, **metric(a, c, b))
        case 2:
            post(pair, "runs/log-parameter", both=which, key=pick([*KEYS, "../x"], c), value=pick(TEXTS, a + c))
        case 3:
            post(pair, "runs/set-tag", both=which, key=pick([*KEYS, "mlflow.runName"], c), value=pick(["x", "Abc"], a))
        case 4:
            post(pair, "runs/delete-tag", both=which, key=pick(KEYS, c))
        case _:
            get(pair, "runs/get", both=which)


def log_batch(pair, a, b, c):
    metrics = [metric(a + i, b + i * c, c + i) for i in range(c % 30)]
    params = [{"key": pick(KEYS, a + i), "value": pick(TEXTS, b)} for i in range(b % 4)]
    tags = [{"key": pick(KEYS, c + i), "value": pick(TEXTS, a)} for i in range(a % 3)]
    if a % 11 == 0:
        params.append({"key": "a b*", "value": "x"})
    which = {"run_id": pair.one("run", a)}
    post(pair, "runs/log-batch", both=which, metrics=metrics, params=params, tags=tags)
    get(pair, "runs/get", both=which)


def log_inputs(pair, a, b, c):
    dataset = {"name": pick(["x", "y"], a), "digest": pick(["d1", "d2"], b), "source_type": "local", "source": "{}"}
    tags = [{"key": "mlflow.data.context", "value": pick(["training", "test"], c)}] if c % 3 else []
    post(pair, "runs/log-inputs", both={"run_id": pair.one("run", a)}, datasets=[{"dataset": dataset, "tags": tags}])


def search_datasets(pair, a, _b, _c):
    # The one path that MLflow's server has twice in the same way: below /api the slash before mlflow is missing.
    path = "/ajax-api/2.0/mlflow/experiments/search-datasets"
    bodies = [{"experiment_ids": [one]} for one in pair.one("experiment", a)]
    pair.send("POST", lambda _side: path, bodies)


def search_runs(pair, a, b, c):
    experiments = pair.known["experiment"][:3] or [("987654", "987654")]
    ids = tuple([pairs[side] for pairs in experiments[: 1 + c % 3]] for side in (0, 1))
    body = {
        "filter": pick(FILTERS, a),
        "order_by": pick(ORDERS, b),
        "max_results": 1 + c % 5,
        "run_view_type": pick(["ACTIVE_ONLY", "ACTIVE_ONLY", "ALL", "DELETED_ONLY"], c),
    }
    stock, ours, done = post(pair, "runs/search", both={"experiment_ids": ids}, **body)
    while done and "next_page_token" in stock:
        tokens = stock["next_page_token"], ours["next_page_token"]
        stock, ours, done = post(pair, "runs/search", both={"experiment_ids": ids, "page_token": tokens}, **body)


def read_history(pair, a, b, c):
    which = {"run_id": pair.one("run", a)}
    page = {"max_results": 1 + c % 4} if c % 2 else {}
    stock, ours, done = get(pair, "metrics/get-history", both=which, metric_key=pick(KEYS, b), **page)
    while done and "next_page_token" in stock:
        tokens = stock["next_page_token"], ours["next_page_token"]
        both = {**which, "page_token": tokens}
        stock, ours, done = get(pair, "metrics/get-history", both=both, metric_key=pick(KEYS, b), **page)


def sample_history(pair, a, b, c):
    runs = [pair.one("run", a), pair.one("run", a + 1)]
    ids = tuple([one[side] for one in runs] for side in (0, 1))
    query = {"metric_key": pick(KEYS, b), "max_results": c % 7}
    if c % 3 == 0:
        query |= {"start_step": b % 3, "end_step": c % 5}
    get(pair, "metrics/get-history-bulk-interval", both={"run_ids": ids}, **query)


def create_model(pair, a, b, c):
    run = pair.one("run", b)
    post(
        pair,
        "logged-models",
        created=("model", "model", "info", "model_id"),
        both={"experiment_id": pair.one("experiment", a), "source_run_id": run},
        name=f"m{next(COUNTER)}",
        model_type=pick(["", "onnx"], c),
        params=[{"key": "p", "value": pick(["1", "2"], c)}],
        tags=[{"key": "t", "value": pick(TEXTS, a) or "x"}],
    )


def change_model(pair, a, b, c):
    ids = pair.one("model", a)

    def at(suffix=""):
        return lambda side: f"{API}logged-models/{ids[side]}{suffix}"

    match b % 5:
        case 0:
            pair.send("PATCH", at(), [{"model_id": one, "status": 2} for one in ids])
        case 1:
            pair.send("PATCH", at("/tags"), [{"tags": [{"key": "t", "value": pick(["y", "z"], c)}]}] * 2)
        case 2:
            pair.send("DELETE", at("/tags/t"), [{}, {}])
        case 3 if pair.known["model"] and pair.known["run"]:
            both = {"run_id": pair.one("run", c), "model_id": ids}
            post(pair, "runs/log-metric", both=both, key="acc", value=c / 2, timestamp=c, step=0, **pick(DATASETS, a))
        case _:
            pair.send("GET", at(), [{}, {}])


def search_models(pair, a, b, c):
    ids = tuple([one] for one in pair.one("experiment", a))
    body = {
        "filter": pick(
            ["", "params.p = '1'", "tags.t LIKE 'y%'", "metrics.acc > 0.5", "name LIKE 'm%'", "model_type = 'onnx'"], b
        ),
        "order_by": [{"field_name": "name", "ascending": bool(c % 2)}],
        "max_results": 1 + c % 3,
    }
    post(pair, "logged-models/search", both={"experiment_ids": ids}, **body)


def registered(pair, number):
    """Return a name of a registered model, that may exist."""
    return pair.prefix + pick(["m1", "M2", "m 3"], number)


def create_registered(pair, a, b, c):
    tags = [{"key": pick(KEYS, b), "value": pick(TEXTS, c)}] if b % 2 else []
    post(pair, "registered-models/create", name=registered(pair, a), tags=tags, description=pick(["", "d"], c))


def create_version(pair, a, b, c):
    tags = [{"key": pick(KEYS, b), "value": pick(TEXTS, c)}] if b % 2 else []
    source = pick(["s3://bucket/a", "s3://bucket/b", "s3://bucket/../c"], c)
    run = pair.one("run", b) if pair.known["run"] and c % 2 else ("", "")
    post(pair, "model-versions/create", both={"run_id": run}, name=registered(pair, a), source=source, tags=tags)


def change_registered(pair, a, b, c):
    name = {"name": registered(pair, a)}
    version = name | {"version": str(1 + c % 3)}
    key, tag = {"key": pick(KEYS, c)}, {"key": pick(KEYS, c), "value": pick(TEXTS, a)}
    alias = {"alias": pick(["champion", "Best one", "latest", "v1"], c)}
    stage = {"stage": pick(["Staging", "Production", "archived", "None", "Nowhere"], c)}
    new_name = {"new_name": pick([registered(pair, c), f"{pair.prefix}r{next(COUNTER)}"], c)}
    calls = [
        ("PATCH", "registered-models/update", name | {"description": pick(TEXTS, c)}),
        ("POST", "registered-models/set-tag", name | tag),
        ("DELETE", "registered-models/delete-tag", name | key),
        ("POST", "registered-models/alias", version | alias),
        ("POST", "registered-models/alias", version | alias),
        ("DELETE", "registered-models/alias", name | alias),
        ("PATCH", "model-versions/update", version | {"description": pick(TEXTS, a)}),
        ("POST", "model-versions/set-tag", version | tag),
        ("DELETE", "model-versions/delete-tag", version | key),
        ("POST", "model-versions/transition-stage", version | stage),
        ("POST", "model-versions/transition-stage", version | stage | {"archive_existing_versions": True}),
        ("DELETE", "model-versions/delete", version),
        ("POST", "registered-models/rename", name | new_name),
    ]
    change(pair, *pick(calls, b))


def change(pair, method, path, body):
    pair.send(method, lambda _side: API + path, [body, body])


def read_registered(pair, a, b, c):
    name = registered(pair, a)
    match b % 6:
        case 0 | 1:
            get(pair, "registered-models/get", name=name)
        case 2:
            get(pair, "model-versions/get", name=name, version=str(1 + c % 3))
        case 3:
            get(pair, "registered-models/alias", name=name, alias=pick(["champion", "Best one", "none"], c))
        case 4:
            post(pair, "registered-models/get-latest-versions", name=name, stages=pick([[], ["Staging"], ["None"]], c))
        case _:
            get(pair, "model-versions/get-download-uri", name=name, version=str(1 + c % 3))


def search_registered(pair, a, b, c):
    more = pick(["", " AND tags.a = 'x'", " AND tag.`b c` != 'x'", " AND color = 'x'"], b)
    query = {"filter": f"name LIKE '{pair.prefix}%'{more}", "max_results": 1 + c % 3}
    query["order_by"] = pick(["name ASC", "name DESC", "color"], a)
    path = "registered-models/search"
    if a % 2:
        of_name = pick([f"name = '{registered(pair, c)}'", f"name LIKE '{pair.prefix}%'"], b)
        query |= {"filter": of_name, "order_by": pick(["version_number DESC", "name ASC"], c)}
        path = "model-versions/search"
    stock, ours, done = get(pair, path, **query)
    while done and stock.get("next_page_token"):
        tokens = stock["next_page_token"], ours["next_page_token"]
        stock, ours, done = get(pair, path, both={"page_token": tokens}, **query)


OPERATIONS = {
    operation.__name__: operation
    for operation in (
        create_experiment,
        change_experiment,
        search_experiments,
        create_run,
        change_run,
        log,
        log_batch,
        log_inputs,
        search_datasets,
        search_runs,
        read_history,
        sample_history,
        create_model,
        change_model,
        search_models,
        create_registered,
        create_version,
        change_registered,
        read_registered,
        search_registered,
    )
}
NUMBERS = st.integers(0, 60)
#: Most of a sequence logs to a few runs and reads them.
NAMES = st.sampled_from(
    [
        *OPERATIONS,
        *["create_run", "log_batch", "search_runs", "change_registered"] * 2,
        "create_version",
        "log",
        "read_history",
    ]
)


# A failure shows the call: to make the sequence shorter would take longer than to read it.
@settings(
    phases=[Phase.generate],
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=IS_SAME,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), min_size=15, max_size=40))
def compare(sequence):
    """Both servers respond alike."""
    pair = Pair()
    create_experiment(pair, 0, 0, 0)
    create_run(pair, 0, 1, 1)
    for name, *numbers in sequence:
        OPERATIONS[name](pair, *numbers)


compare()
print(json.dumps(CALLS | {"database": Path(FOLDER, "stock.db").exists()}))
