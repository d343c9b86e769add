"""Documents of the API as tables for people. Pure: from plain JSON to Rich renderables."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.evaluation_render import examination_lines

Document = Mapping[str, Any]

STATUS_STYLES = {
    "succeeded": "green",
    "promote": "green",
    "keep": "yellow",
    "rejected": "yellow",
    "reject": "red",
    "failed": "red",
    "running": "cyan",
    "waits for approval": "yellow",
    "queued": "dim",
    "planned": "dim",
    "skipped": "yellow",
    "eliminated": "dim",
}
NOTHING = "-"
_METRICS_SHOWN = 4

#: Columns of sentences, which wrap; everything else is copied and compared, so it stays on one line.
_PROSE = frozenset({"", "finding", "probabilities", "reason", "reasons", "seen", "shares", "values", "why"})


def format_value(value: Any) -> str:
    """Return a value as a cell: numbers with four digits, nothing as a dash."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(element)}" for key, element in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_value(element) for element in value)
    return str(value)


def format_moment(moment: str | None) -> str:
    """Return an ISO 8601 moment in local time, to the minute."""
    if not moment:
        return NOTHING
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


def styled(status: Any) -> Text:
    """Return a status in its colour."""
    return Text(format_value(status), style=STATUS_STYLES.get(str(status), ""))


def make_table(title: str, headers: Iterable[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table; cells are text, or Rich renderables."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    cells = [[cell if isinstance(cell, Text) else Text(format_value(cell)) for cell in row] for row in rows]
    for position, header in enumerate(headers):
        # What stays on one line is not cut off either: where it is too wide, the terminal goes on in its next line.
        widest = 0 if header in _PROSE else max([len(header), *(row[position].cell_len for row in cells)])
        table.add_column(header, overflow="fold", no_wrap=header not in _PROSE, min_width=widest)
    for row in cells:
        table.add_row(*row)
    return table


def metric_names(documents: Iterable[Document], first: str | None = None) -> list[str]:
    """Return the names of the metrics worth a column: the primary one, then those that come first."""
    names: dict[str, None] = {first: None} if first else {}
    for document in documents:
        names.update(dict.fromkeys(document.get("metrics") or {}))
    return list(names)[:_METRICS_SHOWN]


def trials_table(trials: Sequence[Document]) -> Table:
    """Return a run's trials: status, metrics so far, parameters, seconds, memory, and why one did not end well."""
    names = metric_names(trials)[:2]
    rows = [
        (
            trial.get("trial_id") or trial.get("candidate"),
            styled(trial.get("status")),
            *((trial.get("metrics") or {}).get(name) for name in names),
            _seconds(trial.get("duration_seconds")),
            trial.get("rows") or "all",
            Text(str(trial.get("reason") or "")),
        )
        for trial in trials
    ]
    return make_table("", ("trial", "status", *names, "time", "rows", ""), rows)


def search_table(run: Document) -> Table | None:
    """Return what a run searched: trials, rows, rounds, folds, budget, and what was left out; None before planning."""
    search = (run.get("summary") or {}).get("search")
    if not search:
        return None
    rows = [
        ("trials", f"{search['trials']} drawn with seed {search['seed']}, {search['lanes']} at once"),
        ("rows", _rows_trained_on(search)),
        ("ranked by", f"{search['folds']} folds" if search["folds"] > 1 else "the validation split"),
        ("because", search["why_folds"]),
    ]
    if search.get("max_seconds") or search.get("max_cost_usd"):
        rows.append(
            ("budget", f"{search.get('max_seconds') or NOTHING} s, {search.get('max_cost_usd') or NOTHING} USD")
        )
    rows += [(f"without {name}", reason) for name, reason in (search.get("left_out") or {}).items()]
    return make_table("Search", ("", "values"), [(name, Text(str(said))) for name, said in rows])


def _rows_trained_on(search: Document) -> str:
    rounds = search["rounds"]
    said = " then ".join(f"{rows:,}" for rows in rounds)
    if search.get("why_sampled"):
        return f"{said}, a sample of {search['of_rows']:,}: {search['why_sampled']}"
    return f"{said}, which are all" if len(rounds) > 1 else f"{said}, all there are"


def leaderboard_table(evaluation: Document) -> Table:
    """Return the candidates of a run, best first, with the metrics that ranked them; the winner has a star."""
    entries = evaluation.get("leaderboard") or ()
    names = metric_names(entries, evaluation.get("primary_metric"))
    rows = []
    for entry in entries:
        is_winner = entry.get("trial_id") == evaluation.get("trial_id")
        metrics = entry.get("metrics") or {}
        rows.append(
            (
                entry.get("rank"),
                Text(f"{entry.get('candidate')}{' *' if is_winner else ''}", style="bold green" if is_winner else ""),
                *(metrics.get(name) for name in names),
                _seconds(entry.get("duration_seconds")),
                Text(str(entry.get("reason") or "")),
            )
        )
    folds = (evaluation.get("search") or {}).get("folds", 1)
    ranked_by = f"mean of {folds} folds" if folds > 1 else "on the validation split"
    return make_table(f"Leaderboard, {ranked_by}", ("", "candidate", *names, "time", ""), rows)


def holdout_table(evaluation: Document) -> Table | None:
    """Return the winner on the holdout beside the baseline and the champion; None when nothing was measured."""
    holdout = evaluation.get("holdout")
    if not holdout:
        return None
    baseline = (evaluation.get("baseline") or {}).get("metrics") or {}
    champion = (evaluation.get("champion") or {}).get("metrics") or {}
    rows = [
        (name, measured.get("value"), _interval(measured), baseline.get(name), champion.get(name))
        for name, measured in holdout["metrics"].items()
    ]
    confidence = f"{100 * evaluation.get('confidence', 0.95):.0f} % interval"
    title = f"Winner on the holdout, {holdout.get('rows')} rows"
    return make_table(title, ("metric", "value", confidence, "baseline", "champion"), rows)


def gate_table(evaluation: Document) -> Table | None:
    """Return the gate's checks, each with what it found; None when there are none."""
    checks = evaluation.get("gate")
    if not checks:
        return None
    rows = [(_verdict(check), check.get("name"), Text(str(check.get("explanation") or ""))) for check in checks]
    return make_table("Gate", ("", "check", "finding"), rows)


def run_report(model: str, run: Document, trials: Sequence[Document], evaluation: Document | None) -> RenderableType:
    """Return everything about a run that has finished: leaderboard, holdout, gate, decision, version, reasons."""
    parts: list[RenderableType] = []
    if evaluation:
        tables = (leaderboard_table(evaluation), holdout_table(evaluation), gate_table(evaluation))
        for table in tables:
            parts += [table, Text()] if table is not None else []
        found = examination_lines(model, str(run.get("run_id")), evaluation)
        parts += [*found, Text()] if found else []
    elif trials:
        parts += [trials_table(trials), Text()]
    parts.append(_verdict_line(model, run, evaluation))
    if sample := (run.get("summary") or {}).get("sample"):
        parts.append(Text(f"trained on a sample, {sample['rows']:,} of {sample['of_rows']:,} rows (max_training_rows)"))
    parts += [Text(f"  - {reason}", overflow="fold") for reason in run.get("reasons") or ()]
    return Group(*parts)


def models_table(models: Sequence[Document]) -> Table:
    """Return every model: what serves, what is newest, what trains."""
    rows = []
    for model in models:
        aliases = model.get("aliases") or {}
        rows.append(
            (
                model.get("model"),
                aliases.get("champion"),
                aliases.get("challenger"),
                model.get("latest_version") or None,
                model.get("active_run_id"),
                format_moment(model.get("created_at")),
            )
        )
    return make_table("", ("model", "champion", "challenger", "latest version", "training now", "since"), rows)


def versions_table(versions: Sequence[Document]) -> Table:
    """Return a model's versions, newest first."""
    names = metric_names(versions)[:1]
    rows = [
        (
            version.get("version"),
            version.get("semantic_version"),
            version.get("candidate"),
            *((version.get("metrics") or {}).get(name) for name in names),
            _standing(version),
            version.get("run_id"),
        )
        for version in versions
    ]
    return make_table("", ("version", "semver", "candidate", *names, "standing", "run"), rows)


def _standing(version: Document) -> str:
    """Return what became of a version."""
    if version.get("status") == "retired":
        return "retired"
    return str(version.get("outcome") or NOTHING).replace("_", " ")


def runs_table(runs: Sequence[Document]) -> Table:
    """Return a model's runs, newest first."""
    rows = [
        (
            run.get("run_id"),
            run.get("kind"),
            styled(run.get("stage") if run.get("status") == "running" else run.get("status")),
            run.get("version"),
            Text("; ".join(str(reason) for reason in run.get("reasons") or ())),
        )
        for run in runs
    ]
    return make_table("", ("run", "cause", "status", "version", "reasons"), rows)


def ledger_table(entries: Sequence[Document]) -> Table:
    """Return the ledger, newest first."""
    rows = [
        (
            format_moment(entry.get("occurred_at")),
            entry.get("actor"),
            entry.get("action"),
            Text(_why(entry)),
        )
        for entry in entries
    ]
    return make_table("", ("when", "who", "what", "why"), rows)


def moment_report(document: Document) -> RenderableType:
    """Return what an alias pointed to at a moment: since when, trained on what, let in by whom and why."""
    version, move = document.get("version"), document.get("move") or {}
    when = f"{document['model']}, {document['alias']} at {document['at']}"
    if not version:
        return Text.assemble((when, "bold"), ": none")
    rows = [
        ("version", f"{version['version']} ({version['semantic_version']})"),
        ("since", format_moment(move.get("occurred_at"))),
        ("let in by", move.get("actor")),
        ("why", move.get("reason")),
        ("candidate", version.get("candidate")),
        ("run", version.get("run_id")),
        ("datasets", "\n".join(version.get("dataset_ids") or ())),
        ("metrics", version.get("metrics") or None),
    ]
    table = make_table("", ("", "seen"), rows)
    table.show_header = False
    return Group(Text(when, style="bold"), table)


def _why(entry: Document) -> str:
    """Return an entry's reason, after what it was about."""
    details = entry.get("details") or {}
    about = str(details.get("key") or "")
    if "to_version" in details:
        about = f"{details.get('alias')}: {format_value(details.get('from_version'))} to {details['to_version']}"
    elif "version" in details:
        about = f"version {details['version']}"
    parts = [about, str(entry.get("reason") or ""), str(details.get("remedy") or "")]
    return "; ".join(part for part in parts if part)


def predictions_table(predictions: Sequence[Any]) -> Table:
    """Return predictions: the label with its probability, or the value."""
    rows: list[tuple[Any, ...]] = []
    for number, prediction in enumerate(predictions, start=1):
        if isinstance(prediction, Mapping):
            rows.append((number, prediction.get("label"), prediction.get("probabilities")))
        else:
            rows.append((number, prediction, None))
    return make_table("", ("row", "prediction", "probabilities"), rows)


def _verdict_line(model: str, run: Document, evaluation: Document | None) -> Text:
    status = "waits for approval" if run.get("stage") == "awaiting_approval" else run.get("status")
    line = Text.assemble(f"{model}: run ", styled(status))
    decision = (evaluation or {}).get("decision")
    if decision:
        line.append(", gate: ").append(styled(decision))
    if run.get("version"):
        line.append(f", version {run['version']}", style="bold")
    return line


def _verdict(check: Document) -> Text:
    return Text("pass", style="green") if check.get("passed") else Text("FAIL", style="bold red")


def _interval(measured: Document) -> str | None:
    low, high = measured.get("low"), measured.get("high")
    return None if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _seconds(value: Any) -> str | None:
    return f"{value:.1f} s" if isinstance(value, int | float) else None
