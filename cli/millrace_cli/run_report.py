"""Tables and reports of training runs: trials, search, leaderboard, holdout, gate and evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from millrace.quantities import format_number
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from millrace_cli.output import (
    MISSING,
    Document,
    command_text,
    facts_table,
    format_status,
    format_value,
    make_table,
)

#: Stage of a run that waits for a person.
AWAITING_APPROVAL = "awaiting_approval"

_MAX_METRICS = 4
#: Slices, gaps or columns that one line of an evaluation lists.
#: Level of intervals and prediction sets whose coverage is shown.
_SHOWN_LEVEL = 0.9
_MAX_LISTED = 3


def metric_names(documents: Iterable[Document], first: str | None = None) -> list[str]:
    """Return the metrics to show as columns: the primary one, then the others in order."""
    names: dict[str, None] = {first: None} if first else {}
    for document in documents:
        names.update(dict.fromkeys(document.get("metrics") or {}))
    return list(names)[:_MAX_METRICS]


def runs_table(runs: Sequence[Document]) -> Table:
    """Return a table of a model's runs, newest first."""
    rows = [
        (
            run.get("run_id"),
            run.get("kind"),
            format_status(run.get("stage") if run.get("status") == "running" else run.get("status")),
            run.get("version"),
            Text("; ".join(str(reason) for reason in run.get("reasons") or ())),
        )
        for run in runs
    ]
    return make_table("", ("run", "cause", "status", "version", "reasons"), rows)


def trials_table(trials: Sequence[Document]) -> Table:
    """Return a table of a run's trials: status, metrics so far, duration, rows, and the reason of a failure."""
    names = metric_names(trials)[:2]
    rows = [
        (
            trial.get("trial_id") or trial.get("candidate"),
            format_status(trial.get("status")),
            *((trial.get("metrics") or {}).get(name) for name in names),
            _seconds(trial.get("duration_seconds")),
            trial.get("rows") or "all",
            Text(str(trial.get("reason") or "")),
        )
        for trial in trials
    ]
    return make_table("", ("trial", "status", *names, "time", "rows", ""), rows)


def search_table(run: Document) -> Table | None:
    """Return a table of a run's search: trials, rows, folds, budget, exclusions; None before planning."""
    search = (run.get("summary") or {}).get("search")
    if not search:
        return None
    rows = [
        ("trials", f"{search['trials']} sampled with seed {search['seed']}, {search['lanes']} at once"),
        ("rows", _training_rows(search)),
        ("ranked by", f"{search['folds']} folds" if search["folds"] > 1 else "the validation split"),
        ("because", search["why_folds"]),
        ("refit", "the winner, on training and validation rows" if search.get("refit") else _why_not_refitted(search)),
    ]
    if search.get("max_seconds") or search.get("max_cost_usd"):
        rows.append(
            ("budget", f"{search.get('max_seconds') or MISSING} s, {search.get('max_cost_usd') or MISSING} USD")
        )
    rows += [(f"excluded {name}", reason) for name, reason in (search.get("left_out") or {}).items()]
    return facts_table([(name, Text(str(value))) for name, value in rows], title="Search")


def _why_not_refitted(search: Document) -> str:
    return f"none: {search['why_not_refitted']}" if search.get("why_not_refitted") else "none"


def _training_rows(search: Document) -> str:
    rounds = search["rounds"]
    counts = " then ".join(f"{rows:,}" for rows in rounds)
    if search.get("why_sampled"):
        return f"{counts}, a sample of {search['of_rows']:,}: {search['why_sampled']}"
    return f"{counts} (all rows)"


def leaderboard_table(evaluation: Document) -> Table:
    """Return a run's candidates, best first, with the metrics that ranked them; a star marks the winner.

    Where they were compared with the champion, each has its gain over it.
    """
    entries = evaluation.get("leaderboard") or ()
    comparison = evaluation.get("trials_comparison") or {}
    is_compared = bool(comparison.get("rows"))
    names = metric_names(entries, evaluation.get("primary_metric"))
    rows = []
    for entry in entries:
        is_winner = entry.get("trial_id") == evaluation.get("trial_id")
        metrics = entry.get("metrics") or {}
        rows.append(
            (
                entry.get("rank"),
                Text(f"{_entry_name(entry)}{' *' if is_winner else ''}", style="bold green" if is_winner else ""),
                *(metrics.get(name) for name in names),
                *([_gain(entry)] if is_compared else []),
                _seconds(entry.get("duration_seconds")),
                Text(str(entry.get("reason") or "")),
            )
        )
    folds = (evaluation.get("search") or {}).get("folds", 1)
    ranked_by = f"mean of {folds} folds" if folds > 1 else "on the validation split"
    gain = [f"gain over v{comparison['version']}"] if is_compared else []
    return make_table(f"Leaderboard, {ranked_by}", ("", "trial", *names, *gain, "time", ""), rows)


def _gain(entry: Document) -> str | None:
    """Return a trial's gain over the champion, with its interval where there is one."""
    value, interval = entry.get("measured_gain"), entry.get("gain")
    if value is None:
        return None
    return f"{format_value(value)} ({_interval(interval)})" if interval else format_value(value)


def _entry_name(entry: Document) -> str:
    """Return a trial's id, whose number distinguishes trials of one candidate; else the candidate's name."""
    return str(entry.get("trial_id") if "-" in str(entry.get("trial_id")) else entry.get("candidate"))


def holdout_table(evaluation: Document) -> Table | None:
    """Return the winner's holdout metrics beside the baseline and the champion; None when there are none."""
    holdout = evaluation.get("holdout")
    if not holdout:
        return None
    baseline = (evaluation.get("baseline") or {}).get("metrics") or {}
    champion = (evaluation.get("champion") or {}).get("metrics") or {}
    rows = [
        (name, metric.get("value"), _interval(metric), baseline.get(name), champion.get(name))
        for name, metric in holdout["metrics"].items()
    ]
    confidence = f"{100 * evaluation.get('confidence', 0.95):.0f} % interval"
    title = f"Winner on the holdout, {holdout.get('rows')} rows"
    return make_table(title, ("metric", "value", confidence, "baseline", "champion"), rows)


def gate_table(evaluation: Document) -> Table | None:
    """Return the gate's checks and findings; None when there are none."""
    checks = evaluation.get("gate")
    if not checks:
        return None
    rows = [
        (
            Text("pass", style="green") if check.get("passed") else Text("FAIL", style="bold red"),
            check.get("name"),
            Text(str(check.get("explanation") or "")),
        )
        for check in checks
    ]
    return make_table("Gate", ("", "check", "finding"), rows)


def evaluation_lines(model: str, run_id: str, evaluation: Document) -> list[RenderableType]:
    """Return one line for each part of the evaluation, and the command for the full card."""
    lines = [*_fit(evaluation), *_calibration(evaluation), *_threshold(evaluation), *_intervals(evaluation)]
    lines += [*_slices(evaluation), *_fairness(evaluation), *_importance(evaluation)]
    texts = [Text.assemble((f"{name}: ", "bold"), text, overflow="fold") for name, text in lines]
    return [*texts, command_text(f"full evaluation: millrace card {model} --run {run_id}")] if texts else []


def _fit(evaluation: Document) -> Iterator[tuple[str, str]]:
    fit = evaluation.get("fit")
    if fit:
        yield f"fit {fit['verdict']}", fit["explanation"]


def _calibration(evaluation: Document) -> Iterator[tuple[str, str]]:
    calibration = evaluation.get("probability_calibration") or {}
    effect = calibration.get("holdout")
    if effect:
        losses = f"log loss {format_number(effect['log_loss'])} instead of {format_number(effect['raw_log_loss'])}"
        errors = f"{format_number(effect['expected_error'])} instead of {format_number(effect['raw_expected_error'])}"
        text = f"{calibration['method']}: on the holdout {losses}, expected calibration error {errors}"
        yield "calibrated probabilities", text


def _threshold(evaluation: Document) -> Iterator[tuple[str, str]]:
    threshold = evaluation.get("threshold")
    if threshold:
        value = format_number(threshold["value"])
        yield "threshold", f"{threshold['positive_class']} at a probability of {value} or more"


def _intervals(evaluation: Document) -> Iterator[tuple[str, str]]:
    """Describe the coverage of intervals or prediction sets at 0.9, and of the group that is covered least."""
    intervals = evaluation.get("prediction_intervals") or {}
    for part in intervals.get("levels") or ():
        if part["level"] == _SHOWN_LEVEL:
            is_value, covered = evaluation.get("task") == "regression", part["covered"]
            size = f"{format_number(part['size'])} {'wide' if is_value else 'classes'} on average"
            text = f"{covered['value']:.1%} of the holdout ({covered['low']:.1%} to {covered['high']:.1%}), {size}"
            groups = intervals.get("groups") or ()
            if groups:
                least = min(groups, key=lambda group: group["covered"]["value"])
                text += f"; least of {least['name']}: {least['covered']['value']:.1%} of {least['rows']} rows"
            yield f"{'intervals' if is_value else 'prediction sets'} of {_SHOWN_LEVEL:g} cover", text


def _slices(evaluation: Document) -> Iterator[tuple[str, str]]:
    worse = [part for part in evaluation.get("slices") or () if part["clearly_worse"]]
    if worse:
        yield "significantly worse slices", _join([f"{part['name']} ({part['rows']} rows)" for part in worse])


def _fairness(evaluation: Document) -> Iterator[tuple[str, str]]:
    for column in evaluation.get("fairness") or ():
        clear = [
            f"{measure.replace('_', ' ')} {format_number(gap['value'], 3)} between {gap['highest']} and {gap['lowest']}"
            for measure, gap in column["gaps"].items()
            if gap and gap["clear"]
        ]
        yield f"fairness gaps by {column['column']}", _join(clear) if clear else "none significant"


def _importance(evaluation: Document) -> Iterator[tuple[str, str]]:
    columns: Sequence[Document] = (evaluation.get("importance") or {}).get("columns") or ()
    if columns:
        yield "most important features", ", ".join(str(column["name"]) for column in columns[:_MAX_LISTED])


def _join(items: Sequence[str]) -> str:
    more = len(items) - _MAX_LISTED
    return "; ".join(items[:_MAX_LISTED]) + (f"; {more} more" if more > 0 else "")


def run_report(model: str, run: Document, trials: Sequence[Document], evaluation: Document | None) -> RenderableType:
    """Return the report of a run: leaderboard, holdout, gate, decision, version and reasons."""
    parts: list[RenderableType] = []
    if evaluation:
        tables = (leaderboard_table(evaluation), holdout_table(evaluation), gate_table(evaluation))
        for table in tables:
            parts += [table, Text()] if table is not None else []
        lines = evaluation_lines(model, str(run.get("run_id")), evaluation)
        parts += [*lines, Text()] if lines else []
    elif trials:
        parts += [trials_table(trials), Text()]
    parts.append(_outcome_line(model, run, evaluation))
    if sample := (run.get("summary") or {}).get("sample"):
        parts.append(Text(f"trained on a sample, {sample['rows']:,} of {sample['of_rows']:,} rows (max_training_rows)"))
    parts += [Text(f"  - {reason}", overflow="fold") for reason in run.get("reasons") or ()]
    return Group(*parts)


def _outcome_line(model: str, run: Document, evaluation: Document | None) -> Text:
    status = "awaiting approval" if run.get("stage") == AWAITING_APPROVAL else run.get("status")
    line = Text.assemble(f"{model}: run ", format_status(status))
    decision = (evaluation or {}).get("decision")
    if decision:
        line.append(", gate: ").append(format_status(decision))
    if run.get("version"):
        line.append(f", version {run['version']}", style="bold")
    return line


def _interval(metric: Document) -> str | None:
    low, high = metric.get("low"), metric.get("high")
    if metric.get("reason"):
        return f"too few rows: {metric['reason']}"
    return None if low is None or high is None else f"{format_value(low)} to {format_value(high)}"


def _seconds(value: Any) -> str | None:
    return f"{value:.1f} s" if isinstance(value, int | float) else None
