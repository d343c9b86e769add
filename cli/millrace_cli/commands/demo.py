"""`millrace demo`: run the whole loop on this machine, from two uploads to retraining on drift."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import httpx
import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.local import Port, start
from millrace_cli.commands.predict import model_columns, read_csv, request_predictions
from millrace_cli.commands.train import show_result, watch_uploads
from millrace_cli.errors import CliError
from millrace_cli.local import stack
from millrace_cli.local.project import Project, require_project
from millrace_cli.output import err, make_table, out
from millrace_cli.target import Target, local_target
from millrace_cli.upload import upload_table

if TYPE_CHECKING:
    from millrace_cli.demo.examples import DemoDataset

TRAINING_TIMEOUT_SECONDS = 600.0
_SCORE_HEADERS = ("model", "version", "rows", "accuracy", "majority class", "ROC AUC")


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stack running afterwards.")] = False,
    port: Port = None,
) -> None:
    """Demonstrate the whole loop: train, predict, detect drift, retrain."""
    project = require_project()
    began = time.monotonic()
    was_running = stack.live_state(project) is not None
    try:
        with _step("1. Start the local stack"):
            target = local_target(start(project, port).state)
        _run_loop(project, target)
        _show_next_commands(target, keeps_running=keep or was_running)
    finally:
        if not (keep or was_running):
            with _step("6. Stop the local stack"):
                stack.down(project)
    err.print(Text(f"\ndemonstration finished in {time.monotonic() - began:.0f} s", style="bold green"))


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
            results = watch_uploads(api, target, uploads, TRAINING_TIMEOUT_SECONDS)
            for snapshot in results.values():
                out.print()
                show_result(snapshot)
            failed = [model for model, snapshot in results.items() if snapshot.exit_code != 0]
            if failed:
                raise CliError(f"training failed: {', '.join(failed)}", "see the reasons above")
        with _step("4. Predict the held-back rows through API Gateway"):
            _check_authentication(target)
            _score_models(api, datasets)
        with _step("5. Retrain on drift"):
            from millrace_cli.demo.drift import retrain_on_drift  # noqa: PLC0415  # imports pyarrow

            retrain_on_drift(api, target, out)


def _score_models(api: ApiClient, datasets: "list[DemoDataset]") -> None:
    from millrace_cli.demo.examples import score_predictions  # noqa: PLC0415  # imports scikit-learn

    rows, poor = [], []
    for dataset in datasets:
        types, _ = model_columns(api, dataset.model)
        response = request_predictions(api, dataset.model, {"dataframe_split": read_csv(dataset.held_back, types)})
        score = score_predictions(response["predictions"], dataset.truth, dataset.positive)
        version = response["model_version"]
        rows.append((dataset.model, version, score.rows, score.accuracy, score.majority, score.roc_auc))
        if not score.beats_majority:
            poor.append(dataset.model)
    out.print(make_table("Served predictions compared with ground truth", _SCORE_HEADERS, rows))
    if poor:
        raise CliError(f"not better than the majority class: {', '.join(poor)}")


def _check_authentication(target: Target) -> None:
    response = httpx.get(f"{target.api_url}/models", verify=str(target.authority), trust_env=False)
    out.print(Text(f"unsigned request: HTTP {response.status_code}"))
    if response.status_code != httpx.codes.FORBIDDEN:
        raise CliError("the API accepted an unsigned request")


def _show_next_commands(target: Target, *, keeps_running: bool) -> None:
    out.print(Text("\nNext commands", style="bold"))
    rows = [
        ("millrace local up", "start the stack again, quickly: the build is kept"),
        ("millrace train churn .millrace/demo/churn.csv --target churned", "train a model"),
        ("millrace predict churn .millrace/demo/churn_held_back.csv", "request predictions"),
        ("millrace models churn; millrace history churn", "list versions; show the ledger"),
        ("millrace monitor churn; millrace why churn", "show monitoring; explain the history"),
        ("millrace local logs predict -f", "follow the functions' logs"),
        ("docs/architecture.md", "read about the architecture"),
        ("sam build && sam deploy", "deploy to an AWS account; then add --profile to these commands"),
    ]
    out.print(make_table("", ("", ""), rows[1:] if keeps_running else rows))
    if keeps_running:
        out.print(Text(f"The stack is running at {target.endpoint}; stop it: millrace local down"))


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    err.rule(Text(title, style="bold"), align="left")
    yield
    err.print(Text(f"{title}: {time.monotonic() - began:.1f} s", style="dim"))
