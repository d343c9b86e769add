"""`millrace models | history | delete | uploads`: list, audit and delete models, and list rejected uploads."""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.options import ModelName, Reason, StackSession, check_model, uses_stack
from millrace_cli.output import (
    MISSING,
    Document,
    facts_table,
    format_count,
    format_timestamp,
    format_value,
    make_table,
    say,
)
from millrace_cli.run_report import metric_names

uploads_app = typer.Typer(no_args_is_help=True, help="Inspect rejected uploads.")

#: Ledgers of no model.
_LEDGERS = {"_refused": "refused uploads", "_keys": "API keys", "_mlflow": "aliases of MLflow's clients"}
_PARALLEL_REQUESTS = 8
_EFFECTS_OF_DELETION = """\
  - it stops serving within seconds, and its aliases are removed
  - its retraining and monitoring schedules are removed, its active run is stopped, and waiting causes start no run
  - its versions are retired: `millrace gc {model}` deletes their artifacts after the retention period
  - uploads, datasets, captured predictions and feedback stay in the buckets, under their lifecycle rules
  - its ledger stays, and its version numbers are never reused"""


@uses_stack
def models(
    session: StackSession,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Name of one model, shown with its versions.", callback=check_model),
    ] = None,
) -> None:
    """List models, or the versions of one model."""
    with session.api() as api:
        if model is None:
            session.show(_list_models(api), _draw_models)
            return
        document = {"model": api.get(f"/models/{model}"), **api.get_all(f"/models/{model}/versions", "versions")}
    session.show(document, _draw_model)


@uses_stack
def history(
    session: StackSession,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Name of the model; with --verify, by default every model and the stack's own ledgers.",
            callback=check_model,
        ),
    ] = None,
    *,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="TIME",
            help="Show the champion at this time, such as 2026-05-03T14:15+02:00 (default: UTC).",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check that no entry was changed, removed or added; exit 1 if one was.")
    ] = False,
) -> None:
    """Show a model's ledger, or its champion at a given time, or verify the ledger.

    `millrace history --verify` verifies the ledgers of every model, of refused uploads and of API keys.
    """
    if model is None and not verify:
        raise RefusedError("name a model", "list the models: millrace models")
    with session.api() as api:
        if verify:
            document = api.get(f"/models/{model}/ledger/verification") if model else _verify_every_ledger(api)
            session.show(document, ledger_verification if model else _draw_verifications)
            if not document["is_intact"]:
                raise typer.Exit(1)
        elif at is None:
            session.show(api.get(f"/models/{model}/ledger"), lambda document: ledger_table(document["entries"]))
        else:
            session.show(api.get(f"/models/{model}/history", {"at": at}), alias_report)


@uses_stack
def delete(
    session: StackSession,
    model: ModelName,
    *,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without confirmation.")] = False,
) -> None:
    """Delete a model and its schedules, and retire its versions.

    Requires the model's name as confirmation. Run the command again to complete an interrupted deletion.
    """
    with session.api() as api:
        if not yes:
            _confirm_deletion(api, model)
        session.show(api.delete(f"/models/{model}", {"reason": reason}), _describe_deletion)


@uploads_app.command("refused")
@uses_stack
def list_refused_uploads(session: StackSession) -> None:
    """List rejected uploads with the reasons: those of no model, and those that a model's run rejected."""
    with session.api() as api:
        document = api.get("/uploads/refused")
        paths = [f"/models/{model['model']}/runs" for model in api.get_all("/models", "models")["models"]]
        with ThreadPoolExecutor(_PARALLEL_REQUESTS) as pool:
            runs = [run for listed in pool.map(api.get, paths) for run in listed["runs"]]
        rejected = [run for run in runs if run["status"] == "rejected"]
    rejected.sort(key=lambda run: str(run.get("requested_at")), reverse=True)
    session.show({**document, "rejected_runs": rejected}, _draw_refused)


def _verify_every_ledger(api: ApiClient) -> dict[str, Any]:
    paths = [f"/models/{state['model']}/ledger" for state in api.get_all("/models", "models")["models"]]
    ledgers = [api.get(f"{path}/verification") for path in (*paths, "/uploads/refused", "/keys", "/aliases")]
    return {"ledgers": ledgers, "is_intact": all(ledger["is_intact"] for ledger in ledgers)}


def _list_models(api: ApiClient) -> dict[str, Any]:
    """Return the models, each with ``status``: that of its last run where no version serves."""
    document = api.get_all("/models", "models")
    for model in document["models"]:
        model["status"] = _model_status(model)
    return document


def _model_status(model: Document) -> str:
    if model.get("deleted_at"):
        return "deleted"
    serving = bool((model.get("aliases") or {}).get("champion"))
    if model.get("active_run_id"):
        return "serving" if serving else "training"
    run = model.get("last_run")
    if serving:
        return f"serving; {run['reasons'][0]}" if run and run["status"] == "skipped" else "serving"
    return f"last run {run['status']}" if run else "no runs"


def _draw_models(document: dict[str, Any]) -> RenderableType | None:
    if not document["models"]:
        say("there are no models; train one: millrace train MODEL FILE")
        return None
    return models_table(document["models"])


def _draw_model(document: dict[str, Any]) -> RenderableType:
    return Group(models_table([document["model"]]), Text(), versions_table(document["versions"]))


def _draw_refused(document: dict[str, Any]) -> RenderableType | None:
    refused, runs = document["refused"], document["rejected_runs"]
    if not refused and not runs:
        say("no upload was rejected")
        return None
    parts: list[RenderableType] = [ledger_table(refused)] if refused else []
    if runs:
        rows = [
            (
                format_timestamp(run.get("requested_at")),
                run["model"],
                ", ".join(str(source["key"]).rsplit("/", 1)[-1] for source in run.get("sources") or ()),
                Text("; ".join(str(reason) for reason in run.get("reasons") or ())),
            )
            for run in runs
        ]
        parts.append(make_table("Rejected by runs", ("time", "model", "file", "reason"), rows))
    return Group(*parts)


def models_table(models: Sequence[Document]) -> Table:
    """Return a table of models: aliases, latest version, active run, status where known."""
    has_status = any("status" in model for model in models)
    rows: list[tuple[Any, ...]] = []
    for model in models:
        aliases = model.get("aliases") or {}
        rows.append(
            (
                model.get("model"),
                aliases.get("champion"),
                aliases.get("challenger"),
                model.get("latest_version") or None,
                model.get("active_run_id"),
                *([model["status"]] if has_status else []),
                format_timestamp(model.get("created_at")),
            )
        )
    status = ["status"] if has_status else []
    return make_table("", ("model", "champion", "challenger", "latest version", "active run", *status, "created"), rows)


def versions_table(versions: Sequence[Document]) -> Table:
    """Return a table of a model's versions, newest first."""
    names = metric_names(versions)[:1]
    rows = [
        (
            version.get("version"),
            version.get("semantic_version"),
            version.get("candidate"),
            *((version.get("metrics") or {}).get(name) for name in names),
            "retired"
            if version.get("status") == "retired"
            else str(version.get("outcome") or MISSING).replace("_", " "),
            version.get("run_id"),
        )
        for version in versions
    ]
    return make_table("", ("version", "semver", "candidate", *names, "status", "run"), rows)


def ledger_table(entries: Sequence[Document]) -> Table:
    """Return a table of ledger entries, newest first."""
    rows = [
        (format_timestamp(entry.get("occurred_at")), entry.get("actor"), entry.get("action"), Text(_reason(entry)))
        for entry in entries
    ]
    return make_table("", ("time", "actor", "action", "reason"), rows)


def ledger_verification(document: Document) -> Text:
    """Return the result of a ledger's verification: its faults, if any."""
    name = _LEDGERS.get(document["model"], document["model"])
    text = Text(f"{name}: the ledger is {'' if document['is_intact'] else 'not '}intact", style="bold")
    lines = [f"entries in the chain: {document['entries']}"]
    if document["before_the_chain"]:
        lines.append(f"entries of releases without a chain, not verified: {document['before_the_chain']}")
    lines += [f"{fault['kind']}: {fault['message']}" for fault in document["faults"]]
    return text.append("".join(f"\n  {line}" for line in lines), style="not bold")


def _draw_verifications(document: Document) -> RenderableType:
    return Group(*map(ledger_verification, document["ledgers"]))


def _reason(entry: Document) -> str:
    """Return an entry's reason after its object: a version, an alias or a key."""
    details = entry.get("details") or {}
    about = str(details.get("key") or "")
    if "to_version" in details:
        about = f"{details.get('alias')}: {format_value(details.get('from_version'))} to {details['to_version']}"
    elif "version" in details:
        about = f"version {details['version']}"
    incidents = ", ".join(details.get("incident_ids") or ())
    parts = [
        about,
        str(entry.get("reason") or ""),
        str(details.get("remedy") or ""),
        incidents and f"incident {incidents}",
    ]
    return "; ".join(part for part in parts if part)


def alias_report(document: Document) -> RenderableType:
    """Return the version of an alias at a time: its data, and who promoted it when and why."""
    version, move = document.get("version"), document.get("move") or {}
    heading = f"{document['model']}, {document['alias']} at {document['at']}"
    if not version:
        return Text.assemble((heading, "bold"), ": none")
    rows = [
        ("version", f"{version['version']} ({version['semantic_version']})"),
        ("since", format_timestamp(move.get("occurred_at"))),
        ("promoted by", move.get("actor")),
        ("reason", move.get("reason")),
        ("candidate", version.get("candidate")),
        ("run", version.get("run_id")),
        ("datasets", "\n".join(version.get("dataset_ids") or ())),
        ("metrics", version.get("metrics") or None),
    ]
    return Group(Text(heading, style="bold"), facts_table(rows))


def _confirm_deletion(api: ApiClient, model: str) -> None:
    """List the effects of the deletion and require the model's name.

    Raises
    ------
    CliError
        When standard input is no terminal, or the typed name differs.
    """
    state = api.get(f"/models/{model}")
    champion = (state.get("aliases") or {}).get("champion")
    serving = f"version {champion} of {state['latest_version']} serves" if champion else "no version serves"
    say(f"{model}: {serving}. When the model is deleted,")
    say(_EFFECTS_OF_DELETION.format(model=model))
    if not _is_interactive():
        raise CliError("the deletion needs a confirmation in a terminal", "delete without confirmation: --yes")
    if typer.prompt("Type the model's name to delete it", err=True) != model:
        raise CliError(f"{model} was not deleted: the typed name differs")


def _is_interactive() -> bool:
    return sys.stdin.isatty()


def _describe_deletion(deletion: dict[str, Any]) -> Text:
    model, timestamp = deletion["model"], format_timestamp(deletion["deleted_at"])
    if deletion["outcome"] == "already":
        text = Text(f"{model}: already deleted, {timestamp}")
    else:
        served = (
            f"version {deletion['from_version']} served until now" if deletion["from_version"] else "no version served"
        )
        text = Text(f"{model}: deleted; {served}")
    if deletion["stopped_run"]:
        text.append(f"\n  stopped run: {deletion['stopped_run']}")
    if deletion["waiting"]:
        text.append(f"\n  cancelled: {format_count(deletion['waiting'], 'waiting cause')}")
    for schedule in deletion["schedules"]:
        text.append(f"\n  schedule {schedule}")
    if deletion["retired"]:
        text.append(f"\n  retired versions: {', '.join(map(str, deletion['retired']))}")
    return text.append(f"\n  history: millrace why {model}")
