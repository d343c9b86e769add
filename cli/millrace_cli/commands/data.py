"""`millrace data list | show | diff | schema`: a model's datasets."""

from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import ClientError
from rich.text import Text

from millrace_cli.console import err
from millrace_cli.data_render import dataset_report, datasets_table, difference_report, schema_table
from millrace_cli.errors import CliError, RefusedError
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, api_of, show, target_of
from millrace_cli.target import Target

app = typer.Typer(no_args_is_help=True, help="Datasets: what was accepted, what is in it, how it differs.")

DatasetId = Annotated[str, typer.Argument(metavar="DATASET", help="Its id; four digits or more are enough.")]


@app.command("list")
def list_datasets(
    model: ModelName,
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """List a model's accepted datasets, newest first."""
    with api_of(profile, stack, region) as api:
        document = api.get(f"/models/{model}/datasets")
    if not document["datasets"] and not as_json:
        err.print(Text(f"no datasets yet; upload one: millrace train {model} FILE"))
        return
    show(document, as_json, lambda listed: datasets_table(listed["datasets"]))


@app.command("show")
def show_dataset(
    model: ModelName,
    dataset: DatasetId,
    *,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Save the HTML report there.")] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show one dataset: where it comes from, what the checks found, what its columns hold."""
    with api_of(profile, stack, region) as api:
        document = api.get(f"/models/{model}/datasets/{dataset}")
    if report is not None:
        save_report(target_of(profile, stack, region), document["report_key"], report)
    show(document, as_json, dataset_report)


@app.command("diff")
def diff(
    model: ModelName,
    before: Annotated[str, typer.Argument(metavar="A", help="The earlier dataset's id, or its beginning.")],
    after: Annotated[str, typer.Argument(metavar="B", help="The later dataset's id, or its beginning.")],
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Compare two datasets: schema, volume, distributions."""
    with api_of(profile, stack, region) as api:
        document = api.get(f"/models/{model}/datasets/{before}/diff/{after}")
    show(document, as_json, difference_report)


@app.command("schema")
def schema(
    model: ModelName,
    *,
    version: Annotated[
        str | None, typer.Option("--version", help="A version such as 2, or a revision such as 2.1; default: current.")
    ] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show what a model's uploads and requests are held to."""
    query = {"version": version} if version else None
    with api_of(profile, stack, region) as api:
        document = api.get(f"/models/{model}/schema", query)
    show(document, as_json, lambda found: schema_table(model, found))


def save_report(where: Target, key: str, file: Path) -> None:
    """Save a dataset's HTML report, and say how to open it.

    Raises
    ------
    RefusedError
        When the file cannot be written.
    CliError
        When the dataset has no report, or the caller may not read it.
    """
    bucket = where.output("DataBucketName")
    try:
        body = where.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        told = error.response.get("Error", {}).get("Message", "no reason given")
        raise CliError(
            f"the report s3://{bucket}/{key} cannot be read: {told}", "the caller needs s3:GetObject on datasets/*"
        ) from error
    try:
        file.write_bytes(body)
    except OSError as error:
        raise RefusedError(f"cannot write {file}: {error.strerror}") from error
    err.print(Text(f"saved the report; open it in any browser: {file.resolve().as_uri()}"), soft_wrap=True)
