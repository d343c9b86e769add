"""`millrace runs` and `millrace compare`: list, show, reproduce and compare training runs."""

import json
from http import HTTPStatus
from typing import Annotated, Any

import typer
from millrace.layout import SplitName, prepared_key, split_key, trial_key
from millrace.training.run_comparison import ComparedRun, compare_runs
from millrace.training.trial_record import TrialRecord
from rich.console import Group, RenderableType
from rich.text import Text
from typer.core import TyperGroup

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError, MissingObjectError
from millrace_cli.options import ModelName, RunId, StackSession, check_model, uses_stack
from millrace_cli.output import make_table, say
from millrace_cli.run_report import run_report, runs_table, search_table, trials_table
from millrace_cli.target import Target, read_object

_ModelOfRun = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="MODEL", help="Search only this model (default: every model).", callback=check_model
    ),
]


class DefaultListGroup(TyperGroup):
    """Command group that runs `list` when the first argument names no command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the named command, or `list`."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["list", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=DefaultListGroup, no_args_is_help=True, help="List, show and reproduce training runs.")


@app.command("list")
@uses_stack
def list_runs(
    session: StackSession,
    model: ModelName,
    run_id: Annotated[str | None, typer.Argument(metavar="RUN", help="Id of one run to show.")] = None,
) -> None:
    """List a model's training runs, newest first (short: `millrace runs MODEL`)."""
    with session.api() as api:
        if run_id is not None:
            session.show(find_run(api, run_id, model), _run_document)
            return
        document = api.get(f"/models/{model}/runs")
    if document["runs"] or session.as_json:
        session.show(document, lambda listed: runs_table(listed["runs"]))
    else:
        say(f"{model} has no runs; start one: millrace train {model} FILE")


@app.command("show")
@uses_stack
def show(session: StackSession, run_id: RunId, *, model: _ModelOfRun = None) -> None:
    """Show a run: its search, its trials, the gate's decision."""
    with session.api() as api:
        session.show(find_run(api, run_id, model), _run_document)


@app.command("reproduce")
@uses_stack
def reproduce(
    session: StackSession,
    run_id: RunId,
    *,
    trial: Annotated[
        str | None, typer.Option(metavar="TRIAL", help="Reproduce this trial (default: the winner).")
    ] = None,
    model: _ModelOfRun = None,
) -> None:
    """Reproduce a trial on this machine from its record and data, and compare the models.

    Exit code 0: the model, or its predictions, are identical. 1: they differ; differing library versions are listed.
    """
    # scikit-learn loads slowly, and no other command needs it.
    from millrace.schema import TableSchema  # noqa: PLC0415  # as above
    from millrace.training.trial import reproduce_trial  # noqa: PLC0415  # as above

    target = session.target
    with session.api() as api:
        document = find_run(api, run_id, model)
    run, trial_id = document["run"], trial or _winner(document)
    record = _read_trial_record(target, run, trial_id)
    if record is None:
        raise CliError(f"run {run_id} has no record of trial {trial_id or '(no winner)'}", "name one: --trial TRIAL")
    data_bucket = target.output("DataBucketName")
    schema = read_object(target, data_bucket, prepared_key(run["model"], run["run_id"], "schema.json"))
    splits: tuple[SplitName, SplitName] = ("train", "validation")
    bodies = {name: read_object(target, data_bucket, split_key(run["model"], run["run_id"], name)) for name in splits}
    recorded = _read_artifact(target, run, record.trial_id, "model.onnx")
    result = reproduce_trial(record, TableSchema.from_dict(json.loads(schema)), bodies, recorded)
    session.show(
        {
            "trial_id": record.trial_id,
            "byte_equal": result.byte_equal,
            "max_prediction_difference": result.max_prediction_difference,
            "other_libraries": dict(result.other_libraries),
        },
        _describe_reproduction,
    )
    is_same = result.byte_equal or result.max_prediction_difference == 0.0
    raise typer.Exit(0 if is_same else 1)


@uses_stack
def compare(
    session: StackSession,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run.")],
    other_id: Annotated[str, typer.Argument(metavar="RUN", help="Id of another run.")],
) -> None:
    """Compare the data, parameters and metrics of two runs."""
    with session.api() as api:
        runs = [find_run(api, name) for name in (run_id, other_id)]
    compared = [ComparedRun.read(run, _read_trial_record(session.target, run["run"], _winner(run))) for run in runs]
    session.show(compare_runs(*compared), comparison_report)


def find_run(api: ApiClient, run_id: str, model: str | None = None) -> dict[str, Any]:
    """Return a run with its trials and its evaluation.

    Parameters
    ----------
    model : str or None, default=None
        The run's model; None searches every model.

    Raises
    ------
    CliError
        When no model has this run.
    """
    try:
        return api.get(f"/models/{model}/runs/{run_id}" if model else f"/runs/{run_id}")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise CliError(f"no model has a run {run_id}", "list a model's runs: millrace runs MODEL") from error


def _winner(described: dict[str, Any]) -> str | None:
    evaluation = described["evaluation"]
    return evaluation["trial_id"] if evaluation else None


def _read_trial_record(target: Target, run: dict[str, Any], trial_id: str | None) -> TrialRecord | None:
    """Return ``trial.json`` of a trial; None when there is none."""
    if not trial_id:
        return None
    try:
        return TrialRecord.read(_read_artifact(target, run, trial_id, "trial.json"))
    except MissingObjectError:
        return None


def _read_artifact(target: Target, run: dict[str, Any], trial_id: str, name: str) -> bytes:
    return read_object(
        target, target.output("ModelsBucketName"), trial_key(run["model"], run["run_id"], trial_id, name)
    )


def _run_document(document: dict[str, Any]) -> RenderableType:
    run, trials, evaluation = document["run"], document.get("trials") or (), document.get("evaluation")
    tables = [search_table(run), trials_table(trials) if evaluation and trials else None]
    report = run_report(run["model"], run, trials, evaluation)
    return Group(*(table for table in tables if table is not None), report)


def _describe_reproduction(result: dict[str, Any]) -> Text:
    text = Text(f"{result['trial_id']}: ")
    if result["byte_equal"]:
        text.append("the models are byte-identical", style="green")
    elif result["max_prediction_difference"] == 0.0:
        text.append("the models' bytes differ, their predictions are identical", style="green")
    else:
        difference = f"; predictions differ by up to {result['max_prediction_difference']:.3g}"
        text.append("the models differ", style="red").append(difference)
    for name, (recorded, installed) in result["other_libraries"].items():
        text.append(f"\n  {name}: {recorded} in the record, {installed} here")
    return text


def comparison_report(comparison: dict[str, Any]) -> RenderableType:
    """Return the differences of two runs by part, and their metrics."""
    first, second = comparison["runs"]
    parts: list[RenderableType] = []
    for part in ("data", "search", "winner", "parameters", "versions"):
        if pairs := comparison[part]:
            parts.append(make_table(part, ("", first, second), [(name, *pair) for name, pair in pairs.items()]))
        else:
            parts.append(Text.assemble((part, "bold"), ": identical"))
    rows = [(name, one, other, _difference(one, other)) for name, (one, other) in comparison["metrics"].items()]
    note = "" if comparison["same_holdout"] else " (different holdout data: not directly comparable)"
    return Group(*parts, make_table(f"metrics on the holdout{note}", ("", first, second, "difference"), rows))


def _difference(one: Any, other: Any) -> float | None:
    return other - one if isinstance(one, int | float) and isinstance(other, int | float) else None
