"""`millrace cost`: show what a stack and its models cost, line by line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.cost.prices import REGION, PriceList, read_prices
from millrace.quantities import format_usd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import CliError
from millrace_cli.options import StackSession, uses_stack
from millrace_cli.output import MISSING, Document, format_count, format_timestamp, make_table, say

_PARTS = ("traffic", "monitoring", "training", "scoring")
#: Name under which requests of no model are counted.
_UNKNOWN = "_unknown"
_DAY = 24.0
_SCALES = {1: "", 1_000: " / 1,000", 1_000_000: " / million"}


@uses_stack
def cost(
    session: StackSession,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Name of one model, shown line by line.")] = None,
    *,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Show this month (UTC), by default the present one.")
    ] = None,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use the prices of this JSON file, by default us-east-1's.")
    ] = None,
) -> None:
    """Show what the stack costs at rest, and what its models cost in a month.

    Quantities are the stack's own counts; those with ~ are assumptions. Prices are list prices.

    A file of prices: {"region": "eu-central-1", "date": "2026-11", "usd": {"api_request": 3.70}}
    """
    given = _load_prices(prices) if prices else None
    query = {name: value for name, value in {"model": model, "month": month}.items() if value}
    with session.api() as api:
        document = _read_pages(api, query)
    if given:
        document = _apply_prices(document, given)
    elif (region := getattr(session.target, "region", REGION)) != REGION:
        say(f"the stack is in {region}, and these are prices of {REGION}; use those of {region}: --prices FILE")
    session.show(document, _draw_stack if model is None else _draw_model)


def _load_prices(path: Path) -> PriceList:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CliError(f"{path} is not JSON: {error}") from error
    return read_prices(document)


def _read_pages(api: ApiClient, query: Mapping[str, str]) -> dict[str, Any]:
    document = api.get("/cost", query)
    while document["next"]:
        page = api.get("/cost", {**query, "after": document["next"]})
        document |= {"models": [*document["models"], *page["models"]], "next": page["next"]}
    return document


def _apply_prices(document: Document, prices: PriceList) -> dict[str, Any]:
    """Return the document at other prices; a forecast changes as its month does."""

    def calculate(part: Document) -> dict[str, Any]:
        lines = [
            line | {"price_usd": prices[line["price"]].usd, "usd": prices[line["price"]].cost(line["quantity"])}
            for line in part["lines"]
        ]
        return {"lines": lines, "usd": sum(line["usd"] for line in lines)}

    def calculate_model(month: Document) -> dict[str, Any]:
        parts = {name: calculate(month[name]) for name in _PARTS}
        usd, before, forecast = sum(part["usd"] for part in parts.values()), month["usd"], month["forecast_usd"]
        return {
            **month,
            **parts,
            "usd": usd,
            "forecast_usd": forecast * usd / before if forecast and before else forecast,
        }

    given = [price for price in prices.values() if price.region != REGION]
    known = {
        "region": given[0].region if given else REGION,
        "date": given[0].date if given else document["prices"]["date"],
        "usd": {name: price.usd for name, price in prices.items()},
    }
    stack = {name: calculate(document[name]) for name in ("at_rest", "idle_model", "storage") if name in document}
    return {**document, **stack, "models": [calculate_model(month) for month in document["models"]], "prices": known}


def _draw_model(document: Document) -> RenderableType:
    [month] = document["models"]
    lines = [line for name in _PARTS for line in month[name]["lines"]]
    total = [f"{format_usd(month['usd'])} USD for use so far{_describe_forecast(month)}"]
    if month["budget_usd"]:
        share = month["usd"] / month["budget_usd"]
        total.append(f"{share:.0%} of the budget of {format_usd(month['budget_usd'])} USD a month")
    if not month["is_complete"]:
        total.append("more training runs or batch jobs than these were not counted")
    return Group(
        *_section(f"{month['model']}, {_period(document)}", _lines_table(lines)),
        *_section("Storage, a month", _lines_table(document["storage"]["lines"])),
        *map(Text, total),
        Text(),
        *_footer(document),
    )


def _draw_stack(document: Document) -> RenderableType:
    months = document["models"]
    rows = [
        (
            month["model"] if month["model"] != _UNKNOWN else "(no model)",
            f"{month['requests']:,}",
            month["runs"],
            _usd(month["usd"]),
            _usd(month["forecast_usd"]),
            _usd(month["budget_usd"]),
        )
        for month in sorted(months, key=lambda month: -month["usd"])
    ]
    existing, idle = sum(not month["is_deleted"] for month in months), document["idle_model"]["usd"]
    parts = {
        "at rest": document["at_rest"]["usd"],
        f"{format_count(existing, 'model')} without requests": idle * existing,
        "storage": document["storage"]["usd"],
        "use, at the rate so far": sum(month["forecast_usd"] or month["usd"] for month in months),
    }
    parts["sum"] = sum(parts.values())
    whole = make_table("", ("", "USD"), [(name, _usd(usd)) for name, usd in parts.items()])
    seen = "" if document["hours_seen"] >= _DAY else "; use is of less than a day, too little for a forecast"
    use = make_table("", ("model", "requests", "runs", "USD so far", "whole month", "budget"), rows)
    return Group(
        *_section(f"At rest, a month, {_prices(document)}", _lines_table(document["at_rest"]["lines"])),
        *_section(
            f"A model without requests, a month: {_usd(idle)} USD", _lines_table(document["idle_model"]["lines"])
        ),
        *_section("Storage, a month", _lines_table(document["storage"]["lines"])),
        *_section(f"Use of models, {_period(document)}", use if rows else None),
        *_section(f"A whole month{seen}", whole),
        *_footer(document),
    )


def _section(title: str, table: Table | None) -> Iterator[RenderableType]:
    """Yield a table under its title, which may be wider; None is an empty one."""
    yield Text(title, style="bold")
    yield table or Text("nothing", style="dim")
    yield Text()


def _lines_table(lines: Iterable[Document]) -> Table | None:
    rows = [
        (
            line["name"],
            f"{'~' if line['source'] == 'assumed' else ''}{_quantity(line['quantity'])} {line['unit']}",
            f"{line['price_usd']:.10f}".rstrip("0").ljust(4, "0") + _SCALES.get(line["per"], f" / {line['per']:,}"),
            _usd(line["usd"]),
        )
        for line in lines
    ]
    return make_table("", ("", "quantity", "price", "USD"), rows) if rows else None


def _footer(document: Document) -> Iterator[RenderableType]:
    yield Text(f"~ is an assumption. Not counted: {'; '.join(document['not_counted'])}.", style="dim")


def _describe_forecast(month: Document) -> str:
    if month["forecast_usd"] is None:
        return "; under a day was seen, too little for a forecast"
    return f"; {format_usd(month['forecast_usd'])} USD in the whole month at the rate of {month['days_seen']:.1f} days"


def _period(document: Document) -> str:
    return f"{document['month']} until {format_timestamp(document['until'])}, {_prices(document)}"


def _prices(document: Document) -> str:
    return f"prices of {document['prices']['region']}, {document['prices']['date']}"


def _quantity(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


def _usd(value: float | None) -> str:
    return MISSING if value is None else format_usd(value)
