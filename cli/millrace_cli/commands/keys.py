"""`millrace keys`: create, list, scope and revoke API keys."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError
from millrace.key_scopes import EVERY_MODEL
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.errors import CliError, RefusedError
from millrace_cli.options import Reason, StackSession, uses_stack
from millrace_cli.output import Document, command_text, facts_table, format_timestamp, make_table, say
from millrace_cli.target import Target

app = typer.Typer(no_args_is_help=True, help="Create, list, scope and revoke API keys for clients that cannot sign.")

_PAGE = 500

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, as `millrace keys list` shows it.")]
Models = Annotated[
    list[str] | None, typer.Option("--model", metavar="MODEL", help="Allow this model; may be repeated.")
]
AllModels = Annotated[bool, typer.Option("--all-models", help="Allow every model, also those to come.")]


@app.command("list")
@uses_stack
def list_keys(session: StackSession) -> None:
    """List the keys with their models."""
    gateway, plan = session.target.client("apigateway"), _plan(session.target)
    with session.api() as api:
        document = api.get("/keys")
    scopes = {scope["key_id"]: scope for scope in document["keys"]}
    keys = [_describe(key, scopes.get(key["id"])) for key in _keys_of(gateway, plan)]
    session.show({"keys": keys, "ledger": document["ledger"]}, _draw_keys)


@app.command("create")
@uses_stack
def create(
    session: StackSession,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the client that will have the key.")],
    *,
    reason: Reason,
    model: Models = None,
    all_models: AllModels = False,
) -> None:
    """Create a key for some models, or for all, and print it."""
    models, gateway, plan = _chosen(model, all_models), session.target.client("apigateway"), _plan(session.target)
    key = gateway.create_api_key(name=name, description=reason, enabled=True)
    try:
        # A key works once it has a plan: by then it has its scope.
        scope = _put_scope(session, key["id"], models, reason)
        gateway.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
        value = gateway.get_api_key(apiKey=key["id"], includeValue=True)["value"]
    except BaseException:
        gateway.delete_api_key(apiKey=key["id"])
        raise
    session.show({**_describe(key, scope), "value": value, "url": session.target.key_api_url}, _draw_key)


@app.command("scope")
@uses_stack
def scope(
    session: StackSession, key: KeyId, *, reason: Reason, model: Models = None, all_models: AllModels = False
) -> None:
    """Replace the models of a key; it takes effect within half a minute."""
    models, found = _chosen(model, all_models), _find(session.target, key)
    session.show(_describe(found, _put_scope(session, key, models, reason)), _draw_key)


@app.command("revoke")
@uses_stack
def revoke(session: StackSession, key: KeyId, *, reason: Reason) -> None:
    """Revoke a key for good: it is deleted, and its id may use no model any more."""
    found = _find(session.target, key)
    revoked = _put_scope(session, key, [], reason)
    session.target.client("apigateway").delete_api_key(apiKey=key)
    session.show(_describe(found, revoked), lambda document: Text(f"{document['key_id']}: revoked"))


def _plan(target: Target) -> str:
    """Return the id of the usage plan; raises ``CliError`` for a stack without API keys."""
    if "KeyApiUrl" not in target.outputs:
        raise CliError(
            f"the stack {target.stack} has no API keys",
            "deploy it with them: sam deploy --parameter-overrides ApiAccess=IAM_AND_KEY",
        )
    return target.output("KeyUsagePlanId")


def _chosen(models: Sequence[str] | None, all_models: bool) -> list[str]:
    if bool(models) == all_models:
        raise RefusedError("name the models of the key, or all of them", "add --model MODEL, or --all-models")
    return [EVERY_MODEL] if all_models else list(models or ())


def _put_scope(session: StackSession, key_id: str, models: list[str], reason: str) -> dict[str, Any]:
    with session.api() as api:
        return api.put(f"/keys/{key_id}", {"models": models, "reason": reason})


def _keys_of(gateway: Any, plan: str) -> list[dict[str, Any]]:
    """Return the keys of a usage plan as API Gateway describes them, without their values."""
    in_plan = {
        key["id"]
        for page in gateway.get_paginator("get_usage_plan_keys").paginate(
            usagePlanId=plan, PaginationConfig={"PageSize": _PAGE}
        )
        for key in page["items"]
    }
    pages = gateway.get_paginator("get_api_keys").paginate(PaginationConfig={"PageSize": _PAGE})
    return [key for page in pages for key in page["items"] if key["id"] in in_plan]


def _find(target: Target, key_id: str) -> dict[str, Any]:
    _plan(target)
    try:
        found: dict[str, Any] = target.client("apigateway").get_api_key(apiKey=key_id)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NotFoundException":
            raise
        raise RefusedError(f"there is no API key {key_id}", "list the keys: millrace keys list") from error
    return found


def _describe(key: Document, scope: Document | None) -> dict[str, Any]:
    """Return a key as JSON; ``models`` is None for a key without a scope, which may use every model."""
    return {
        "key_id": key["id"],
        "name": key.get("name"),
        "enabled": key.get("enabled", True),
        "models": None if scope is None else scope["models"],
        "changed_at": None if scope is None else scope["changed_at"],
        "changed_by": None if scope is None else scope["changed_by"],
    }


def _models(key: Document) -> str:
    if key["models"] is None:
        return "every model (no scope)"
    return ", ".join("every model" if name == EVERY_MODEL else name for name in key["models"]) or "none"


def _draw_keys(document: Document) -> RenderableType | None:
    if not document["keys"]:
        say("there are no keys; create one: millrace keys create NAME --model MODEL --reason TEXT")
        return None
    rows = [
        (key["key_id"], key["name"], _models(key), key["enabled"], format_timestamp(key["changed_at"]))
        for key in document["keys"]
    ]
    return make_table("", ("key", "name", "models", "enabled", "scoped"), rows)


def _draw_key(key: Document) -> RenderableType:
    rows = [("key", key["key_id"]), ("name", key["name"]), ("models", _models(key))]
    if "value" not in key:
        return facts_table(rows)
    return Group(facts_table(rows), command_text(f"x-api-key: {key['value']}"), command_text(f"URL: {key['url']}"))
