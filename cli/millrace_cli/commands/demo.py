"""`millrace demo`: run the whole loop on this machine, from two uploads to releases of what drift retrained."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from millrace_cli.api import ApiClient, connect
from millrace_cli.commands.demo_batch import score_many_rows, train_for_batch, write_many_rows
from millrace_cli.commands.local import Port, start
from millrace_cli.commands.monitor import incident_lines, run_monitoring
from millrace_cli.commands.predict import model_columns, read_table, request_predictions
from millrace_cli.commands.replay import FINISHED
from millrace_cli.commands.train import show_result, watch_uploads
from millrace_cli.commands.why import timeline_text
from millrace_cli.errors import CliError
from millrace_cli.local import stack
from millrace_cli.local.project import Project, require_project
from millrace_cli.output import err, make_table, out
from millrace_cli.release_progress import ACTIVE, draw_release
from millrace_cli.target import Target, local_target
from millrace_cli.timeline import build_timeline
from millrace_cli.upload import upload_table

if TYPE_CHECKING:
    from millrace_cli.demo.examples import DemoDataset
    from millrace_cli.simulation import Traffic

DRIFT_MODEL = "churn"
SHIFTS = ("monthly_charge:+2sd", "satisfaction:-1sd")
RATE, SECONDS = 100.0, 4.0
#: Monitoring runs to wait for an incident, which opens when two of three windows breach a threshold.
WINDOWS = 4
#: Captured traffic that is replayed before anybody is served by a candidate.
REPLAYED = "24h"
#: The new version shall learn from the shifted traffic; all else is as by default.
SPEC_NOTE = (
    "changed for this demonstration: retraining.captured_rows on (default: off); release: a canary whose stages end at "
    "five requests (default: all at once)"
)
#: Measured on two idle cores with a build of an hour before, and on a busy machine without one.
DURATION_NOTE = "this takes 2 to 7 minutes; Ctrl-C stops it and the stack"
#: A stage ends at the first evaluation with so many requests of the candidate; each monitoring run requests one.
CANARY: dict[str, Any] = {"strategy": "canary", "steps": [25, 50], "bake": "0m", "min_requests": 5}
DRIFT_SPEC = {"target": "churned", "retraining": {"captured_rows": True}, "release": CANARY}
RUN_TIMEOUT_SECONDS = 300.0
_MONITORED = ("drift", "quality")

TRAINING_TIMEOUT_SECONDS = 600.0
_SCORE_HEADERS = ("model", "version", "rows", "accuracy", "majority class", "ROC AUC")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stack running afterwards.")] = False,
    batch: Annotated[
        bool, typer.Option("--batch", help="Demonstrate batch scoring instead: a file of a million rows.")
    ] = False,
    port: Port = None,
) -> None:
    """Demonstrate the whole loop: train, predict, detect drift, retrain, release, refuse."""
    project = require_project()
    if batch:
        _demonstrate_batch(project, port, keep=keep)
        return
    began = time.monotonic()
    err.print(Text(DURATION_NOTE))
    was_running = stack.live_state(project) is not None
    try:
        with _step("1. Start the local stack"):
            target = local_target(start(project, port).state)
        _run_loop(project, target)
        _show_next_commands(target, keeps_running=keep or was_running)
    finally:
        if not (keep or was_running):
            with _step("8. Stop the local stack"):
                stack.down(project)
    err.print(Text(f"\ndemonstration finished in {time.monotonic() - began:.0f} s", style="bold green"))


def _demonstrate_batch(project: Project, port: int | None, *, keep: bool) -> None:
    keeps_running = keep or stack.live_state(project) is not None
    try:
        with _step("1. Start the local stack"):
            target = local_target(start(project, port).state)
        with _step("2. Train a model"):
            few = train_for_batch(project, target)
        with _step("3. Score a million rows as one batch job"):
            many = write_many_rows(few, project.demo_dir / "churn_million.csv")
            score_many_rows(target, DRIFT_MODEL, many, project.demo_dir / "scored")
    finally:
        if not keeps_running:
            with _step("4. Stop the local stack"):
                stack.down(project)


def _run_loop(project: Project, target: Target) -> None:
    # scikit-learn loads slowly, and only the demonstration needs it.
    from millrace_cli.demo.examples import count_rows, make_datasets  # noqa: PLC0415  # as above

    with _step("2. Upload two tables"):
        datasets = make_datasets(project.demo_dir)
        s3, bucket = target.client("s3"), target.output("DataBucketName")
        uploads = []
        for dataset in datasets:
            uploads.append(upload_table(s3, bucket, dataset.model, dataset.upload, target=dataset.target))
            out.print(Text(f"{dataset.model}: {count_rows(dataset.upload)} rows, {dataset.title}"), soft_wrap=True)
    with ApiClient.for_target(target) as api:
        with _step("3. Train a model on each upload"):
            files = {dataset.model: (dataset.upload, dataset.target) for dataset in datasets}
            results = watch_uploads(api, target, uploads, TRAINING_TIMEOUT_SECONDS)
            for snapshot in results.values():
                out.print()
                show_result(snapshot, file=files[snapshot.model][0], target=files[snapshot.model][1])
            failed = [model for model, snapshot in results.items() if snapshot.exit_code != 0]
            if failed:
                raise CliError(f"training failed: {', '.join(failed)}", "see the reasons above")
        with _step("4. Predict the held-back rows through API Gateway"):
            _check_authentication(target)
            _score_models(api, datasets)
        with _step("5. Retrain on drift"):
            traffic = _retrain_on_drift(api, target)
        with _step("6. Release the new version as a canary"):
            former = _release_gradually(api, traffic, target)
        with _step("7. Release the former version again, which ground truth refutes"):
            _release_former_version(api, former, target)


def _score_models(api: ApiClient, datasets: "list[DemoDataset]") -> None:
    from millrace_cli.demo.examples import score_predictions  # noqa: PLC0415  # imports scikit-learn

    rows, poor = [], []
    for dataset in datasets:
        types = model_columns(api, dataset.model).by_name
        response = request_predictions(api, dataset.model, {"dataframe_split": read_table(dataset.held_back, types)})
        score = score_predictions(response["predictions"], dataset.truth, dataset.positive)
        version = response["model_version"]
        rows.append((dataset.model, version, score.rows, score.accuracy, score.majority, score.roc_auc))
        if not score.beats_majority:
            poor.append(dataset.model)
    out.print(make_table("Served predictions compared with ground truth", _SCORE_HEADERS, rows))
    if poor:
        raise CliError(f"not better than the majority class: {', '.join(poor)}")


def _check_authentication(target: Target) -> None:
    with connect(target, target.api_url) as client:
        status = client.request("GET", "/models").status_code
    out.print(Text(f"unsigned request: HTTP {status}"))
    if status != HTTPStatus.FORBIDDEN:
        raise CliError("the API accepted an unsigned request")


def _retrain_on_drift(api: ApiClient, target: Target) -> "Traffic":
    """Send shifted traffic with ground truth until an incident opens, and wait for the run; return the traffic.

    Raises
    ------
    CliError
        When no incident opens.
    """
    # NumPy and Arrow load slowly, and few commands need them.
    import numpy as np  # noqa: PLC0415  # as above

    from millrace_cli.simulation import Traffic, apply_shifts, parse_shift, read_newest_dataset  # noqa: PLC0415  # as above

    api.put(f"/models/{DRIFT_MODEL}/spec", {"spec": DRIFT_SPEC, "reason": "train on served rows in the demonstration"})
    out.print(Text(SPEC_NOTE), soft_wrap=True)
    random = np.random.default_rng(0)
    columns, label = read_newest_dataset(DRIFT_MODEL, api, target)
    changed = apply_shifts(columns, [parse_shift(text) for text in SHIFTS], label, random)
    out.print(Text(f"traffic shifts: {', '.join(SHIFTS)}"))
    traffic = Traffic(api, DRIFT_MODEL, changed, label, True, random)
    _send_until_incident(api, traffic, target)
    _wait("retraining", lambda: _is_retrained(api), target.poll_seconds)
    runs, entries = api.get(f"/models/{DRIFT_MODEL}/runs")["runs"], api.get(f"/models/{DRIFT_MODEL}/ledger")["entries"]
    for entry in build_timeline(entries, runs):
        if entry.kind in _MONITORED:
            out.print(timeline_text(entry), soft_wrap=True)
    return traffic


def _release_gradually(api: ApiClient, traffic: "Traffic", target: Target) -> int:
    """Send traffic until the version that retraining registered serves all of it; return the former champion.

    Raises
    ------
    CliError
        When retraining registered none, or its release does not complete.
    """
    releases = api.get(f"/models/{DRIFT_MODEL}/releases")["releases"]
    if not releases:
        raise CliError("retraining produced no version to release", f"see: millrace why {DRIFT_MODEL}")
    with _steady_traffic(traffic):
        ended = _evaluate_until_release_ends(api, releases[0], target)
    if ended["status"] != "completed":
        raise CliError(
            f"the release did not complete: {ended['decision']}", f"see: millrace release show {DRIFT_MODEL}"
        )
    version = ended["candidate"]
    _wait(f"version {version} to serve", lambda: _serving_versions(traffic) == {version}, target.poll_seconds)
    return int(ended["baseline"])


def _release_former_version(api: ApiClient, former: int, target: Target) -> None:
    """Start the release of a version that is worse on today's traffic; its replay ends it before it serves anybody.

    Raises
    ------
    CliError
        When the release is not rolled back.
    """
    body = {**CANARY, "version": former, "shadow_first": REPLAYED, "reason": "the former version was fine, was it not?"}
    release = api.post(f"/models/{DRIFT_MODEL}/releases", body)["release"]
    out.print(Text(f"version {former} first predicts the captured requests of {REPLAYED}, and serves nobody"))
    _wait("the replay", lambda: _is_replayed(api, release), target.poll_seconds)
    ended = _evaluate_until_release_ends(api, release, target)
    if ended["status"] != "rolled_back":
        raise CliError("a worse version was not rolled back", f"see: millrace release show {DRIFT_MODEL}")


def _is_replayed(api: ApiClient, release: dict[str, Any]) -> bool:
    replays = api.get(f"/models/{DRIFT_MODEL}/replays")["replays"]
    return any(one["replay_id"] == release["release_id"] and one["status"] in FINISHED for one in replays)


def _evaluate_until_release_ends(api: ApiClient, release: dict[str, Any], target: Target) -> dict[str, Any]:
    """Monitor, which evaluates the release, until it has ended; show its decisions."""
    path, decision = f"/models/{DRIFT_MODEL}/releases/{release['release_id']}", ""
    deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
    while release["status"] in ACTIVE:
        if time.monotonic() > deadline:
            raise CliError("the release did not end", f"see: millrace release show {DRIFT_MODEL}")
        if release["decision"] == decision:
            run_monitoring(api, DRIFT_MODEL, target.poll_seconds)
        else:
            decision = release["decision"]
            out.print(Text(decision), soft_wrap=True)
            time.sleep(target.poll_seconds)  # a promotion follows its decision
        release = api.get(path)
    out.print(draw_release(release, datetime.now(UTC)))
    return release


@contextmanager
def _steady_traffic(traffic: "Traffic") -> Iterator[None]:
    """Send traffic in the background, and show at the end what was sent."""
    has_ended = threading.Event()

    def send() -> None:
        for sent in traffic.send(RATE, RUN_TIMEOUT_SECONDS):
            if has_ended.is_set():
                out.print(Text(sent.summary(DRIFT_MODEL)))
                return

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield
        finally:
            has_ended.set()
    sending.result()


def _send_until_incident(api: ApiClient, traffic: "Traffic", target: Target) -> None:
    for _ in range(WINDOWS):
        *_, sent = traffic.send(RATE, SECONDS)
        out.print(Text(sent.summary(DRIFT_MODEL)))
        run_monitoring(api, DRIFT_MODEL, target.poll_seconds)
        report = api.get(f"/models/{DRIFT_MODEL}/monitoring")["report"]
        if report and any(incident["resolved_at"] is None for incident in report["incidents"]):
            for line in incident_lines(report):
                out.print(Text(line), soft_wrap=True)
            return
    raise CliError("monitoring did not detect the shift", f"see: millrace monitor {DRIFT_MODEL}")


def _is_retrained(api: ApiClient) -> bool:
    requested = [run for run in api.get(f"/models/{DRIFT_MODEL}/runs")["runs"] if run["kind"] in _MONITORED]
    return bool(requested) and api.get(f"/models/{DRIFT_MODEL}")["active_run_id"] is None


def _serving_versions(traffic: "Traffic") -> set[int]:
    """Return the versions that serve now; execution environments follow the champion within seconds."""
    *_, sent = traffic.send(RATE, 1.0)
    return sent.versions


def _wait(goal: str, condition: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + RUN_TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise CliError(f"waited {RUN_TIMEOUT_SECONDS:.0f} seconds for {goal}", f"see: millrace why {DRIFT_MODEL}")
        time.sleep(pause)


def _show_next_commands(target: Target, *, keeps_running: bool) -> None:
    out.print(Text("\nNext commands", style="bold"))
    commands = [
        ("millrace local up", "start the stack again, quickly: the build is kept"),
        ("millrace train churn .millrace/demo/churn.csv --target churned", "train a model"),
        ("millrace predict churn .millrace/demo/churn_held_back.csv", "request predictions"),
        ("millrace models churn; millrace history churn", "list versions; show the ledger"),
        ("millrace monitor churn; millrace why churn", "show monitoring; explain the history"),
        ("millrace release show churn; millrace dora", "show releases; how often, how fast and how well models change"),
        ("millrace local logs predict -f", "follow the functions' logs"),
        ("sam build && sam deploy", "deploy to an AWS account; then add --profile to these commands"),
    ]
    for command, purpose in commands[1:] if keeps_running else commands:
        out.print(Text(f"  # {purpose}", style="dim"), soft_wrap=True)
        out.print(Text(f"  {command}"), soft_wrap=True)
    out.print(Text("How it works: docs/architecture.md"))
    if keeps_running:
        out.print(Text(f"The stack is running at {target.endpoint}; stop it: millrace local down"), soft_wrap=True)


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    err.rule(Text(title, style="bold"), align="left")
    yield
    err.print(Text(f"{title}: {time.monotonic() - began:.1f} s", style="dim"))
