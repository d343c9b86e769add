"""`millrace demo`: the whole loop on this machine, from two uploads to predictions compared with the truth."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import httpx
import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.local import start
from millrace_cli.commands.predict import ask, model_columns
from millrace_cli.commands.train import show_outcome, watch_uploads
from millrace_cli.console import err, out
from millrace_cli.errors import CliError
from millrace_cli.local import stack
from millrace_cli.project import Project, require_project
from millrace_cli.render import make_table
from millrace_cli.target import Target, local_target
from millrace_cli.upload import upload_table

TRAINING_TIMEOUT_SECONDS = 600.0


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running, to try commands on it.")] = False,
    port: Annotated[int | None, typer.Option(help="Port on 127.0.0.1; default 4566 or the next free one.")] = None,
) -> None:
    """Start the local stack, train two models, serve them, change the world, watch the loop close, stop."""
    project = require_project()
    began = time.monotonic()
    was_running = stack.live_state(project) is not None
    try:
        with _act("1. A stack on this machine"):
            target = local_target(start(project, port).state)
        _show_loop(project, target)
        _say_where_to_look(target, keeps_running=keep or was_running)
    finally:
        if not (keep or was_running):
            with _act("6. Stop"):
                stack.down(project)
    err.print(Text(f"\nall done in {time.monotonic() - began:.0f} s", style="bold green"))


def _show_loop(project: Project, target: Target) -> None:
    # scikit-learn takes a second to import: only the demonstration needs it.
    from millrace_cli.demo.datasets import DemoDataset, count_rows, make_datasets  # noqa: PLC0415  # see above

    with _act("2. Upload two tables"):
        datasets: list[DemoDataset] = make_datasets(project.demo_dir)
        s3, bucket = target.client("s3"), target.output("DataBucketName")
        uploads = []
        for dataset in datasets:
            uploads.append(upload_table(s3, bucket, dataset.model, dataset.upload, target=dataset.target))
            out.print(Text(f"{dataset.model}: {count_rows(dataset.upload)} rows, {dataset.title}"), soft_wrap=True)
    with ApiClient.for_target(target) as api:
        with _act("3. Each upload starts a training run"):
            outcomes = watch_uploads(api, target, uploads, TRAINING_TIMEOUT_SECONDS)
            for snapshot in outcomes.values():
                out.print()
                show_outcome(snapshot)
            unfit = [model for model, snapshot in outcomes.items() if snapshot.exit_code != 0]
            if unfit:
                raise CliError(f"not trained: {', '.join(unfit)}", "the reasons stand above")
        with _act("4. Predictions through API Gateway, for rows that were held back"):
            _refuse_unsigned(target)
            _compare_with_truth(api, datasets)
        with _act("5. The world changes, and the loop closes by itself"):
            from millrace_cli.demo.closing_loop import close_loop  # noqa: PLC0415  # imports pyarrow

            close_loop(api, target, out)


def _compare_with_truth(api: ApiClient, datasets: list) -> None:  # type: ignore[type-arg]  # imported late, see _show_loop
    from millrace_cli.demo.scores import score_predictions  # noqa: PLC0415  # imports scikit-learn
    from millrace_cli.tables import read_csv  # noqa: PLC0415  # as the import above

    rows, poor = [], []
    for dataset in datasets:
        types, _ = model_columns(api, dataset.model)
        reply = ask(api, dataset.model, {"dataframe_split": read_csv(dataset.held_back, types)})
        score = score_predictions(reply["predictions"], dataset.truth, dataset.positive)
        rows.append((dataset.model, reply["model_version"], score.rows, score.accuracy, score.majority, score.roc_auc))
        if not score.has_learnt:
            poor.append(dataset.model)
    out.print(make_table("Served predictions against the truth", _SCORE_HEADERS, rows))
    if poor:
        raise CliError(f"no better than naming the commonest class: {', '.join(poor)}")


_SCORE_HEADERS = ("model", "version", "rows", "accuracy", "commonest class", "ROC AUC")


def _refuse_unsigned(target: Target) -> None:
    """Show that the API asks who is calling."""
    answer = httpx.get(f"{target.api_url}/models", verify=str(target.authority), trust_env=False)
    out.print(Text(f"a request without a signature: HTTP {answer.status_code}"))
    if answer.status_code != httpx.codes.FORBIDDEN:
        raise CliError("the API answered a request that nobody signed")


def _say_where_to_look(target: Target, *, keeps_running: bool) -> None:
    out.print(Text("\nWhere to look next", style="bold"))
    rows = [
        ("millrace local up", "start the stack again; the build is kept, so this is quick"),
        ("millrace train churn .millrace/demo/churn.csv --target churned", "train, and watch"),
        ("millrace predict churn .millrace/demo/churn_held_back.csv", "ask"),
        ("millrace models churn; millrace history churn", "versions, and who did what when"),
        ("millrace monitor churn; millrace why churn", "what is watched, and the story so far"),
        ("millrace local logs predict -f", "what the functions log"),
        ("docs/architecture.md", "how it works"),
        ("sam build && sam deploy", "the same template in an AWS account; then add --profile to these commands"),
    ]
    out.print(make_table("", ("", ""), rows[1:] if keeps_running else rows))
    if keeps_running:
        out.print(Text(f"The stack keeps running at {target.endpoint}; stop it: millrace local down"))


@contextmanager
def _act(title: str) -> Iterator[None]:
    began = time.monotonic()
    err.rule(Text(title, style="bold"), align="left")
    yield
    err.print(Text(f"{title}: {time.monotonic() - began:.1f} s", style="dim"))
