"""`millrace card`: write the model card of a version, or the evaluation of a run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.card import ModelCard
from millrace.names import CHAMPION

from millrace_cli.errors import RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack_without_json
from millrace_cli.output import say


class CardFormat(StrEnum):
    """Format of a model card."""

    html = "html"
    md = "md"
    json = "json"


@uses_stack_without_json
def card(
    session: StackSession,
    model: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number or alias of the version.")] = CHAMPION,
    *,
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Write the evaluation of this run, also of a rejected one.")
    ] = None,
    form: Annotated[CardFormat, typer.Option("--format", "-f", help="Write this format.")] = CardFormat.html,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, or '-' for standard output.")
    ] = None,
) -> None:
    """Write the model card of a version, or the evaluation of a run."""
    from millrace.reports import model_card  # noqa: PLC0415 - templates load slowly, and no other command needs them

    service = None
    with session.api() as api:
        if run is None:
            document = ModelCard.read(api.get(f"/models/{model}/versions/{version}/card"))
            number = document.version.version if document.version else version
            name = f"{model}-{number}"
            if form is not CardFormat.json:  # the stored document, which was written at the registration
                service = api.get(f"/models/{model}/versions/{number}").get("service")
        else:
            found = api.get(f"/models/{model}/runs/{run}")
            if not found.get("evaluation"):
                raise RefusedError(f"run {run} has no evaluation", f"check its state: millrace runs {model} {run}")
            document, name = model_card.card_of_run(found["run"], found["evaluation"]), f"{model}-{run}"
    text = _render(document, form, service)
    if str(output) == "-":
        typer.echo(text)
        return
    path = output or Path(f"{name}.card.{form.value}")
    path.write_text(text, encoding="utf-8")
    say(f"wrote {path}")


def _render(document: ModelCard, form: CardFormat, service: dict[str, Any] | None) -> str:
    if form is CardFormat.json:
        return document.write().decode()
    from millrace.reports import model_card  # noqa: PLC0415  # templates load slowly

    render = model_card.render_card if form is CardFormat.html else model_card.render_markdown
    return render(document, service)
