"""Documents of the API as tables for people. Pure: from plain JSON to Rich renderables."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]

STATUS_STYLES = {
    "succeeded": "green",
    "promote": "green",
    "keep": "yellow",
    "rejected": "yellow",
    "reject": "red",
    "failed": "red",
    "running": "cyan",
    "queued": "dim",
    "planned": "dim",
}
NOTHING = "-"
_METRICS_SHOWN = 4


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
    """Return an ISO 8601 moment in local time, to the second."""
    if not moment:
        return NOTHING
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def styled(status: Any) -> Text:
    """Return a status in its colour."""
    return Text(format_value(status), style=STATUS_STYLES.get(str(status), ""))


def make_table(title: str, headers: Iterable[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table; cells are text, or Rich renderables."""
    table = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else escape(format_value(cell)) for cell in row))
    return table


def metric_names(documents: Iterable[Document], first: str | None = None) -> list[str]:
    """Return the names of the metrics worth a column: the primary one, then those that come first."""
    names: dict[str, None] = {first: None} if first else {}
    for document in documents:
        names.update(dict.fromkeys(document.get("metrics") or {}))
    return list(names)[:_METRICS_SHOWN]


def trials_table(trials: Sequence[Document]) -> Table:
    """Return a run's trials: candidate, status, metrics, seconds, and why one failed."""
    names = metric_names(trials)
    rows = [
        (
            trial.get("candidate"),
            styled(trial.get("status")),
            *((trial.get("metrics") or {}).get(name) for name in names),
            _seconds(trial.get("duration_seconds")),
            trial.get("reason") or "",
        )
        for trial in trials
    ]
    return make_table(
        "", ("candidate", "status", *names, "time", ""), [(*row[:-1], Text(str(row[-1]))) for row in rows]
    )


def leaderboard_table(evaluation: Document, trials: Sequence[Document]) -> Table:
    """Return the candidates of a run, best first, with the metrics that the evaluation ranked them by."""
    entries = [entry for entry in evaluation.get("leaderboard") or () if isinstance(entry, Mapping)]
    candidates = {trial.get("trial_id"): trial.get("candidate") for trial in trials}
    primary = evaluation.get("primary_metric")
    names = metric_names(entries, primary if isinstance(primary, str) else None)
    winner = evaluation.get("trial_id") or (entries[0].get("trial_id") if entries else None)
    rows = []
    for rank, entry in enumerate(entries, start=1):
        metrics = entry.get("metrics") or {}
        name = entry.get("candidate") or candidates.get(entry.get("trial_id")) or entry.get("trial_id")
        is_winner = entry.get("trial_id") == winner
        rows.append(
            (
                entry.get("rank", rank),
                Text(f"{name} *" if is_winner else str(name), style="bold green" if is_winner else ""),
                *(metrics.get(metric) for metric in names),
            )
        )
    return make_table("Leaderboard (validation split)", ("", "candidate", *names), rows)


def gate_table(evaluation: Document) -> Table | None:
    """Return the gate's checks, each with what it found; None when there are none."""
    gate = evaluation.get("gate") or {}
    checks = gate.get("checks") if isinstance(gate, Mapping) else gate
    if isinstance(checks, Mapping):
        checks = [
            {"name": name, **(check if isinstance(check, Mapping) else {"passed": check})}
            for name, check in checks.items()
        ]
    if not checks:
        return None
    rows = [(_verdict(check), check.get("name") or check.get("check"), _explanation(check)) for check in checks]
    return make_table("Gate", ("", "check", "finding"), rows)


def run_report(model: str, run: Document, trials: Sequence[Document], evaluation: Document | None) -> RenderableType:
    """Return everything about a run that has finished: leaderboard, holdout, gate, decision, version, reasons."""
    parts: list[RenderableType] = []
    if evaluation:
        parts += [leaderboard_table(evaluation, trials), Text()]
        holdout = _holdout_metrics(evaluation)
        if holdout:
            parts += [make_table("Holdout", holdout.keys(), [tuple(holdout.values())]), Text()]
        gate = gate_table(evaluation)
        parts += [gate, Text()] if gate is not None else []
    elif trials:
        parts += [trials_table(trials), Text()]
    parts.append(_verdict_line(model, run, evaluation))
    parts += [Text(f"  - {reason}") for reason in run.get("reasons") or ()]
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
    names = metric_names(versions)
    rows = [
        (
            version.get("version"),
            version.get("semantic_version"),
            version.get("candidate"),
            *((version.get("metrics") or {}).get(name) for name in names),
            version.get("run_id"),
            format_moment(version.get("created_at")),
        )
        for version in versions
    ]
    return make_table("", ("version", "semantic", "candidate", *names, "run", "registered"), rows)


def runs_table(runs: Sequence[Document]) -> Table:
    """Return a model's runs, newest first."""
    rows = [
        (
            run.get("run_id"),
            run.get("kind"),
            styled(run.get("status")),
            run.get("stage"),
            run.get("version"),
            format_moment(run.get("requested_at")),
            Text("; ".join(str(reason) for reason in run.get("reasons") or ())),
        )
        for run in runs
    ]
    return make_table("", ("run", "cause", "status", "stage", "version", "requested", "reasons"), rows)


def ledger_table(entries: Sequence[Document]) -> Table:
    """Return the ledger, newest first."""
    rows = [
        (
            format_moment(entry.get("occurred_at")),
            entry.get("actor"),
            entry.get("action"),
            Text(str(entry.get("reason") or "")),
            entry.get("details") or {},
        )
        for entry in entries
    ]
    return make_table("", ("when", "who", "what", "why", "details"), rows)


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
    status = run.get("status")
    line = Text.assemble(f"{model}: run ", styled(status))
    decision = (evaluation or {}).get("decision") or (run.get("summary") or {}).get("decision")
    if isinstance(decision, Mapping):
        decision = decision.get("decision")
    if decision:
        line.append(", gate: ").append(styled(decision))
    if run.get("version"):
        line.append(f", version {run['version']}", style="bold")
    return line


def _holdout_metrics(evaluation: Document) -> dict[str, Any]:
    """Return the winner's metrics on the holdout, with their intervals where there are some."""
    holdout = evaluation.get("holdout") or {}
    if not isinstance(holdout, Mapping):
        return {}
    metrics = holdout.get("metrics") or holdout.get("challenger") or holdout
    if not isinstance(metrics, Mapping):
        return {}
    shown = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    return dict(list(shown.items())[: _METRICS_SHOWN + 1])


def _verdict(check: Document) -> Text:
    passed = check.get("passed")
    if passed is None:
        return Text("-", style="dim")
    return Text("pass", style="green") if passed else Text("FAIL", style="bold red")


def _explanation(check: Document) -> Text:
    for key in ("message", "reason", "explanation", "finding", "detail"):
        if check.get(key):
            return Text(str(check[key]))
    rest = {key: value for key, value in check.items() if key not in ("name", "check", "passed")}
    return Text(format_value(rest) if rest else "")


def _seconds(value: Any) -> str | None:
    return f"{value:.1f} s" if isinstance(value, int | float) else None
