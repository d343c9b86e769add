"""The page of the stack's operation: DORA metrics, costs, open incidents, and where each model stands."""

from millrace.quantities import format_duration
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.console.pages.home import describe_row
from millrace_cli.maturity import rate_model, rate_overview


def show_operations(context: PageContext) -> Response:
    """Return the page of a page of models."""
    after = context.query.get("after")
    overview, dora, costs = context.gather(
        lambda: context.get("overview", after=after),
        lambda: context.get("dora", after=after),
        lambda: context.get("cost", after=after),
    )
    return context.show(
        "operations.html",
        dora=dora,
        costs=costs,
        ratings=[rate_overview(one) for one in overview["models"]],
        troubled=[describe_row(one) for one in overview["models"] if one["open_incidents"]],
        format_duration=format_duration,
        next_page=overview["next"],
        after=after,
    )


def show_maturity(context: PageContext, model: str) -> Response:
    """Return the page of a model's practices."""
    overview, spec, feedback = context.gather(
        lambda: context.get("models", model, "overview"),
        lambda: context.get("models", model, "spec"),
        lambda: context.get("models", model, "feedback"),
    )
    trail = [("Operations", link("operations"))]
    return context.show("maturity.html", model=model, rated=rate_model(overview, spec, feedback), trail=trail)
