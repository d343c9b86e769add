"""`millrace compare RUN RUN`: what two runs did differently, and what came of it."""

import json
from typing import Annotated, Any

import typer
from millrace.registry.queries import compare_runs
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import out
from millrace_cli.find_run import find_run, read_record
from millrace_cli.options import AsJson, Profile, Region, Stack, target_of
from millrace_cli.render import make_table


def compare(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")],
    other_id: Annotated[str, typer.Argument(metavar="RUN", help="Another run's.")],
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Compare two runs: data, search, the winners' parameters, metrics and library versions."""
    target = target_of(profile, stack, region)
    with ApiClient.for_target(target) as api:
        runs = [find_run(api, name) for name in (run_id, other_id)]
    records = [read_record(target, run["run"], (run.get("evaluation") or {}).get("trial_id")) for run in runs]
    comparison = compare_runs(runs[0], runs[1], (records[0], records[1]))
    if as_json:
        out.print_json(json.dumps(comparison))
    else:
        show_comparison(comparison)


def show_comparison(comparison: dict[str, Any]) -> None:
    """Print what differs, part by part, and the metrics."""
    first, second = comparison["runs"]
    for part in ("data", "search", "winner", "parameters", "versions"):
        pairs = comparison[part]
        if pairs:
            out.print(make_table(part, ("", first, second), [(name, *pair) for name, pair in pairs.items()]))
        else:
            out.print(Text.assemble((part, "bold"), ": the same"))
    rows = [(name, one, other, _gap(one, other)) for name, (one, other) in comparison["metrics"].items()]
    note = "" if comparison["same_holdout"] else ", of different data: compare with care"
    out.print(make_table(f"metrics on the holdout{note}", ("", first, second, "difference"), rows))


def _gap(one: Any, other: Any) -> float | None:
    return other - one if isinstance(one, int | float) and isinstance(other, int | float) else None
