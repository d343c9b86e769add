"""Pages of versions: the list, the card, and a form that requests one prediction."""

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from millrace.card import ModelCard
from millrace.reports import charts, model_card
from werkzeug.wrappers import Request, Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.errors import ApiError
from millrace_cli.output import Document

#: Categories that a list offers; more are written into a field.
_MAX_CHOICES = 200
_NUMBERS = ("integer", "number")


def list_versions(context: PageContext, model: str) -> Response:
    """Return the page of a model's versions."""
    document, state = context.gather(
        lambda: context.get("models", model, "versions", after=context.query.get("after")),
        lambda: context.get("models", model),
    )
    return context.show(
        "versions.html",
        model=model,
        versions=document["versions"],
        next_page=document["next"],
        aliases={number: name for name, number in state["aliases"].items()},
    )


def show_version(context: PageContext, model: str, version: str) -> Response:
    """Return the card of a version, in the console's frame."""
    document, found = context.gather(
        lambda: context.get("models", model, "versions", version, "card"),
        lambda: context.get("models", model, "versions", version),
    )
    number = found["version"]
    actions = [("Try it", link("models", model, "versions", number, "try"))]
    if "champion" not in found["aliases"] and found["status"] == "registered":
        actions += [
            ("Promote", link("models", model, "actions", "promote", version=number)),
            ("Release", link("models", model, "actions", "release", version=number)),
            ("Retire", link("models", model, "actions", "retire", version=number)),
        ]
    actions.append(("Compare", link("models", model, "compare", right=number)))
    frame = context.frame(actions=actions, trail=[("Versions", link("models", model, "versions"))])
    return Response(
        model_card.render_card(ModelCard.read(document), found["service"], write=frame),
        content_type="text/html; charset=utf-8",
    )


def show_form(context: PageContext, model: str, version: str) -> Response:
    """Return the form of a version's features, filled with an example."""
    return _show(context, model, version, None, {})


def predict(context: PageContext, request: Request, model: str, version: str) -> Response:
    """Request the prediction of the form's row with its explanation, and show it beside the form."""
    return _show(context, model, version, request, request.form)


def _show(
    context: PageContext, model: str, version: str, request: Request | None, given: Mapping[str, str]
) -> Response:
    # The example fills an empty form: whoever sends one has filled it.
    calls = [lambda: context.get("models", model, "versions", version)]
    if request is None:
        calls.append(lambda: context.get("models", model, "versions", version, "card"))
    found, *cards = context.gather(*calls)
    example = cards[0]["example"] if cards else {}
    columns = [column for column in (found["schema"] or {}).get("columns", ()) if column["role"] == "feature"]
    values = {column["name"]: given.get(f"feature:{column['name']}") for column in columns}
    fields = [
        _describe_field(column, values[column["name"]] if request else example.get(column["name"]))
        for column in columns
    ]
    number, outcome, fault = found["version"], None, None
    row = {field["name"]: field["typed"] for field in fields if field["typed"] is not None}
    if request is not None:
        try:
            outcome = _describe_prediction(_ask(context, model, number, row))
        except ApiError as error:
            fault = error
    body = json.dumps({"dataframe_records": [row]}, ensure_ascii=False)
    return context.show(
        "try.html",
        model=model,
        version=number,
        fields=fields,
        outcome=outcome,
        fault=fault,
        curl=_curl(context.target.api_url, model, number, body),
        command=f"millrace predict {model} {shlex.quote(json.dumps(row, ensure_ascii=False))}",
        trail=[
            ("Versions", link("models", model, "versions")),
            (f"Version {number}", link("models", model, "versions", number)),
        ],
    )


def _ask(context: PageContext, model: str, version: int, row: Document) -> Document:
    path = f"/models/{model}/versions/{version}/invocations"
    try:
        return context.api.post(path, {"dataframe_records": [row], "params": {"explain": True}})
    except ApiError as error:
        # A version of the first releases, or of very many features, has no explanation.
        if "expla" not in error.message:
            raise
        return context.api.post(path, {"dataframe_records": [row]})


def _describe_field(column: Document, value: Any) -> dict[str, Any]:
    """Return a feature's input: its kind, choices, limits and value, and the value as a request sends it."""
    kind, choices = column["type"], column.get("categories") or ()
    if kind == "boolean":
        choices = ("true", "false")
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    low, high = column.get("minimum"), column.get("maximum")
    if kind == "datetime":
        low, high = ("" if end is None else f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}" for end in (low, high))
    return {
        "name": column["name"],
        "kind": kind,
        "choices": [str(choice) for choice in choices] if len(choices) <= _MAX_CHOICES else [],
        "is_required": not column.get("nullable", True),
        "range": f"{low} to {high} in training" if low not in (None, "") and high not in (None, "") else "",
        "text": text,
        "typed": _typed(kind, text),
    }


def _typed(kind: str, text: str) -> Any:
    """Return a value as JSON has it; what is no number stays as it was written, and the API says so."""
    if not text.strip():
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind in _NUMBERS:
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            return text
    return text


def _describe_prediction(reply: Document) -> dict[str, Any]:
    """Return a reply's one prediction: its probabilities and its explanation as bars."""
    [prediction] = reply["predictions"]
    found: dict[str, Any] = {"prediction": prediction, "probabilities": [], "attributions": [], "version": None}
    if isinstance(prediction, Mapping):
        found["prediction"] = prediction.get("decision", prediction.get("label", prediction.get("prediction")))
        shares = prediction.get("probabilities") or {}
        found["probabilities"] = [
            charts.Bar(str(label), share, f"{share:.1%}".replace("%", " %")) for label, share in shares.items()
        ]
    for explanation in reply.get("explanations") or ():
        parts = sorted(explanation["attributions"].items(), key=lambda part: -abs(part[1]))
        largest = max((abs(amount) for _, amount in parts), default=0.0) or 1.0
        found["attributions"] = [
            charts.Bar(name, abs(amount) / largest, f"{amount:+.4g}", "up" if amount > 0 else "down")
            for name, amount in parts
        ]
        found["base_value"], found["explained"] = explanation["base_value"], explanation["prediction"]
    return found


def _curl(api_url: str, model: str, version: int, body: str) -> str:
    quoted = body.replace("'", "'\\''")
    return (
        f"curl --aws-sigv4 aws:amz:$AWS_REGION:execute-api --user $AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY \\\n"
        f"  --header \"x-amz-security-token: $AWS_SESSION_TOKEN\" --json '{quoted}' \\\n"
        f"  {api_url}/models/{model}/versions/{version}/invocations"
    )
