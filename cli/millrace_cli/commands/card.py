"""`millrace card MODEL`: a version's model card, or the evaluation of a run, as a page."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.model_card.document import card_of_run
from millrace.names import CHAMPION
from rich.text import Text

from millrace_cli.console import err
from millrace_cli.errors import RefusedError
from millrace_cli.options import ModelName, Profile, Region, Stack, api_of


class CardFormat(StrEnum):
    """How a card is written."""

    html = "html"
    md = "md"
    json = "json"


def card(
    model: ModelName,
    version: Annotated[str, typer.Argument(help="A version's number, or an alias.")] = CHAMPION,
    *,
    run: Annotated[str | None, typer.Option(help="The evaluation of this run, whatever became of it.")] = None,
    form: Annotated[CardFormat, typer.Option("--format", "-f", help="How to write it.")] = CardFormat.html,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; '-' is standard output.")] = None,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Write a version's model card to a file: metrics, slices, fairness, the gate's every number, how to call it.

    With --run, the evaluation of a run: also of one that was rejected, and has no version.
    """
    with api_of(profile, stack, region) as api:
        if run is None:
            document = api.get(f"/models/{model}/versions/{version}/card")
            name = f"{model}-{document['version']['version']}"
        else:
            found = api.get(f"/models/{model}/runs/{run}")
            if not found.get("evaluation"):
                raise RefusedError(f"run {run} has not been evaluated (yet); see: millrace runs {model} {run}")
            document, name = card_of_run(found["run"], found["evaluation"]), f"{model}-{run}"
    text = _written(document, form)
    if str(output) == "-":
        typer.echo(text)
        return
    path = output or Path(f"{name}.card.{form.value}")
    path.write_text(text, encoding="utf-8")
    err.print(Text(f"wrote {path}"))


def _written(document: dict[str, Any], form: CardFormat) -> str:
    if form is CardFormat.json:
        return json.dumps(document, indent=2, ensure_ascii=False)
    # Imported here, because no other command draws charts, and the library that does takes a while to load.
    from millrace.model_card.markdown import render_markdown  # noqa: PLC0415  # as above
    from millrace.model_card.page import render_card  # noqa: PLC0415  # as above

    return render_card(document) if form is CardFormat.html else render_markdown(document)
