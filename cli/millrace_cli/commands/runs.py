"""`millrace runs MODEL`, `runs show RUN`, `runs reproduce RUN`: training runs, and one with everything about it."""

import json
from typing import Annotated, Any

import typer
from millrace.layout import SplitName, prepared_key, split_key
from rich.text import Text
from typer.core import TyperGroup

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.errors import CliError
from millrace_cli.find_run import find_run, read_model_object, read_object, read_record
from millrace_cli.options import AsJson, ModelName, Profile, Region, RunId, Stack, target_of
from millrace_cli.render import run_report, runs_table, search_table, trials_table
from millrace_cli.target import Target

OfModel = Annotated[str | None, typer.Option("--model", help="The run's model; without it, every model is asked.")]


class ModelOrCommand(TyperGroup):
    """Takes `millrace runs MODEL` for `millrace runs list MODEL`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names, or the list."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["list", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=ModelOrCommand, no_args_is_help=True, help="Training runs: list, show, train again.")


@app.command("list")
def runs(
    model: ModelName,
    run_id: Annotated[str | None, typer.Argument(help="One run, with its trials and the gate's decision.")] = None,
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """List a model's training runs, newest first; `millrace runs MODEL` is the same."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        if run_id is not None:
            _print_run(find_run(api, run_id, model), as_json=as_json)
            return
        document = api.get(f"/models/{model}/runs")
    if as_json:
        out.print_json(json.dumps(document))
    elif document["runs"]:
        out.print(runs_table(document["runs"]))
    else:
        err.print(Text(f"no runs yet; start one: millrace train {model} FILE"))


@app.command("show")
def show(
    run_id: RunId,
    *,
    model: OfModel = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show a run: what it searched, its trials so far, and once there is one, the gate's decision."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        _print_run(find_run(api, run_id, model), as_json=as_json)


@app.command("reproduce")
def reproduce(
    run_id: RunId,
    *,
    trial: Annotated[str | None, typer.Option("--trial", help="Which trial; without it, the winner.")] = None,
    model: OfModel = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Train a trial again on this machine, from its record and the stored data, and compare the models.

    Exit code 0: byte for byte the same model, or the same predictions. 1: another one; libraries that differ are named.
    """
    # scikit-learn takes a second to import: only this command needs it.
    from millrace.schema import TableSchema  # noqa: PLC0415  # see above
    from millrace.training.reproduction import reproduce_trial  # noqa: PLC0415  # see above

    target = target_of(profile, stack, region)
    with ApiClient.for_target(target) as api:
        document = find_run(api, run_id, model)
    run, trial_id = document["run"], trial or (document.get("evaluation") or {}).get("trial_id")
    record = read_record(target, run, trial_id)
    if record is None:
        raise CliError(f"run {run_id} has no record of trial {trial_id or '(no winner)'}", "name one: --trial TRIAL")
    schema = TableSchema.from_dict(json.loads(_prepared(target, run, "schema.json")))
    splits: tuple[SplitName, SplitName] = ("train", "validation")
    bodies = {name: _split(target, run, name) for name in splits}
    recorded = read_model_object(target, run, record["trial_id"], "model.onnx")
    again = reproduce_trial(record, schema, bodies, recorded)
    same = again.byte_equal or again.max_prediction_difference == 0.0
    if as_json:
        out.print_json(
            json.dumps(
                {
                    "trial_id": record["trial_id"],
                    "byte_equal": again.byte_equal,
                    "max_prediction_difference": again.max_prediction_difference,
                    "other_libraries": dict(again.other_libraries),
                }
            )
        )
    else:
        _say_reproduction(record["trial_id"], byte_equal=again.byte_equal, difference=again.max_prediction_difference)
        for name, (then, now) in again.other_libraries.items():
            out.print(Text(f"  {name} was {then}, is {now} here"))
    raise typer.Exit(0 if same else 1)


def _say_reproduction(trial_id: str, *, byte_equal: bool, difference: float | None) -> None:
    if byte_equal:
        out.print(Text.assemble(f"{trial_id}: ", ("the same model, byte for byte", "green")))
    elif difference == 0.0:
        out.print(Text.assemble(f"{trial_id}: ", ("other bytes, the same predictions", "green")))
    else:
        out.print(
            Text.assemble(f"{trial_id}: ", ("another model", "red"), f"; predictions differ by up to {difference:.3g}")
        )


def _prepared(target: Target, run: dict[str, Any], name: str) -> bytes:
    return read_object(target, target.output("DataBucketName"), prepared_key(run["model"], run["run_id"], name))


def _split(target: Target, run: dict[str, Any], name: SplitName) -> bytes:
    return read_object(target, target.output("DataBucketName"), split_key(run["model"], run["run_id"], name))


def _print_run(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(document))
        return
    run = document["run"]
    search = search_table(run)
    if search is not None:
        out.print(search)
    if document.get("evaluation") and document.get("trials"):
        out.print(trials_table(document["trials"]))
    out.print(run_report(run["model"], run, document.get("trials") or (), document.get("evaluation")))
