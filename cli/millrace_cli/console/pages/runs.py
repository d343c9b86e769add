"""Pages of training runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millrace.evaluation_results import MetricEstimate
from millrace.quantities import format_duration
from millrace.reports import charts
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.errors import ApiError
from millrace_cli.output import Document

#: Seconds between two readings of a run that goes on.
REFRESH_SECONDS = 2
#: For the run of an upload to begin: S3 sends no events in a bucket's first minutes.
_PATIENCE = timedelta(minutes=15)
_NOT_FOUND = 404
_ACTIVE = ("queued", "running")
#: Seconds below which a step's duration has a tenth.
_TENTHS_BELOW = 10.0
_STAGES = {
    "waiting": "Waiting",
    "running": "The run",
    "validating": "Validation and preparation",
    "planning": "Planning",
    "training": "Training",
    "evaluating": "Evaluation",
    "registering": "Registration",
    "awaiting_approval": "Waiting for approval",
}
TONES = {
    "succeeded": "good",
    "failed": "bad",
    "rejected": "warn",
    "running": "accent",
    "promote": "good",
    "keep": "warn",
    "reject": "bad",
}


def list_runs(context: PageContext, model: str) -> Response:
    """Return the page of a model's runs, read again while one goes on or the query's upload has begun none."""
    since = _read_time(context.query.get("since", ""))
    try:
        document = context.get("models", model, "runs", after=context.query.get("after"))
    except ApiError as error:
        if since is None or context.now - since >= _PATIENCE or error.status != _NOT_FOUND:
            raise
        document = {"runs": [], "next": None}  # the first upload of a model makes it
    runs = document["runs"]
    begun = [run for run in runs if since and datetime.fromisoformat(run["requested_at"]) >= since]
    awaits = since is not None and not begun and context.now - since < _PATIENCE
    is_active = any(run["status"] in _ACTIVE for run in runs)
    return context.show(
        "runs.html",
        model=model,
        runs=runs,
        awaits=awaits,
        next_page=document["next"],
        tones=TONES,
        took=_duration,
        refresh_seconds=REFRESH_SECONDS if awaits or is_active else None,
        actions=[("Train now", link("models", model, "actions", "train"))],
    )


def _read_time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def show_run(context: PageContext, model: str, run_id: str) -> Response:
    """Return the page of a run, which is read again every other second while the run goes on."""
    document = context.get("models", model, "runs", run_id)
    run, evaluation = document["run"], document.get("evaluation") or {}
    is_active = run["status"] in _ACTIVE
    metric = evaluation.get("primary_metric") or run["summary"].get("primary_metric")
    return context.show(
        "run.html",
        model=model,
        run=run,
        tone=TONES.get(run["status"], "plain"),
        is_active=is_active,
        outcome=describe_outcome(run),
        steps=describe_steps(run, document["trials"], context.now),
        trials=describe_leaderboard(document["trials"], evaluation, metric),
        tones=TONES,
        metric=metric,
        evaluation=evaluation,
        rivals=_describe_rivals(evaluation),
        gains=describe_gains(evaluation),
        lasted=_duration(run) or format_duration(_seconds(run["requested_at"], context.now.isoformat())),
        refresh_seconds=REFRESH_SECONDS if is_active else None,
        actions=_actions(model, run),
        trail=[("Runs", link("models", model, "runs"))],
    )


def _actions(model: str, run: Document) -> list[tuple[str, str]]:
    if run["stage"] != "awaiting_approval":
        return []
    return [
        ("Approve", link("models", model, "actions", "approve", run=run["run_id"])),
        ("Reject", link("models", model, "actions", "reject", run=run["run_id"])),
    ]


def describe_outcome(run: Document) -> str:
    """Return the outcome of a run, without the reasons, which the page lists below it."""
    outcome: str = run["summary"].get("outcome") or run["status"]
    first = next(filter(None, run["reasons"]), None)
    before = outcome.partition(first)[0] if first else outcome
    return before.rstrip("; :") or str(run["status"])


def describe_steps(run: Document, trials: Sequence[Document], now: datetime) -> list[dict[str, Any]]:
    """Return the stages of a run by their begin, each fit of a trial among them, with places on a chart 100 wide."""
    fits = _list_fits(trials)
    begins = {"waiting": run["requested_at"], **run["stages"]} | ({"training": fits[0][1]} if fits else {})
    if not run["stages"] and run["started_at"]:
        begins["running"] = run["started_at"]  # all that a run of an earlier release has
    stages = sorted(begins.items(), key=lambda stage: datetime.fromisoformat(stage[1]))
    ends = [*(begin for _, begin in stages[1:]), run["finished_at"]]
    chart = _StepChart(run, now)
    steps = []
    for (stage, begin), end in zip(stages, ends, strict=True):
        steps.append(chart.step(_STAGES[stage], begin, end))
        if stage == "training":
            steps += [chart.step(*fit, is_fit=True) for fit in fits]
    return steps


@dataclass(frozen=True, slots=True)
class _StepChart:
    """The time of a run, from its request to its end or to now."""

    run: Document
    now: datetime

    def step(self, name: str, begin: str, end: str | None, *, is_fit: bool = False) -> dict[str, Any]:
        """Return a step with its place; one without an end goes on, while the run does."""
        requested, last = self.run["requested_at"], self.run["finished_at"] or self.now.isoformat()
        whole = max(_seconds(requested, last), 1e-3)
        left, right = (max(_seconds(requested, at), 0.0) for at in (begin, end or last))
        return {
            "name": name,
            "is_fit": is_fit,
            "left": round(100 * left / whole, 2),
            "width": round(max(100 * (right - left) / whole, 0.5), 2),
            "took": f"{right - left:.1f} s" if right - left < _TENTHS_BELOW else format_duration(right - left),
            "goes_on": end is None and self.run["status"] in _ACTIVE,
        }


def _list_fits(trials: Sequence[Document]) -> list[tuple[str, str, str | None]]:
    """Return name, begin and end of each fit, of earlier rounds too, by their begin."""
    fits = []
    for trial in trials:
        for fit in (*trial["earlier_rounds"], trial):
            if begin := fit.get("started_at"):
                took, goes_on = fit["duration_seconds"], fit is trial and trial["status"] == "running"
                end = datetime.fromisoformat(begin) + timedelta(seconds=took or 0.0)
                in_round = f", round {fit['round']}" if trial["earlier_rounds"] else ""
                fits.append((trial["trial_id"] + in_round, begin, None if goes_on else end.isoformat()))
    return sorted(fits, key=lambda fit: datetime.fromisoformat(fit[1]))


def describe_leaderboard(trials: Sequence[Document], evaluation: Document, metric: str | None) -> list[dict[str, Any]]:
    """Return the trials by rank, where it is known; the winner is marked.

    Each has its gain over the champion, drawn beside no gain, where it was compared.
    """
    entries = evaluation.get("leaderboard") or ()
    ranks = {one["trial_id"]: one["rank"] for one in entries}
    gains = _draw_gains(
        {one["trial_id"]: (one.get("measured_gain"), *_bounds(one.get("gain"))) for one in entries if one["rank"]}
    )
    rows = [
        {
            **trial,
            "rank": ranks.get(trial["trial_id"]),
            "is_winner": trial["trial_id"] == evaluation.get("trial_id"),
            "value": trial["metrics"].get(metric) if metric else None,
            "gain": gains.get(trial["trial_id"]),
        }
        for trial in trials
    ]
    last = len(rows) + 1
    return sorted(rows, key=lambda row: (row["rank"] or last, row["value"] is None, row["trial_id"]))


def describe_gains(evaluation: Document) -> list[dict[str, Any]]:
    """Return the winner's gains by the primary metric over the champion and the best champion so far.

    Each has its interval on the same draws of rows, drawn beside no gain, or the reason for which there is none.
    """
    champion = evaluation.get("champion") or {}
    rivals = [(f"version {champion.get('version')}, the champion", champion)]
    if best := champion.get("best"):
        rivals.append((f"version {best['version']}, the best champion so far", best))
    gains = _draw_gains({name: (rival.get("measured_gain"), *_bounds(rival.get("gain"))) for name, rival in rivals})
    return [{"name": name, "not_compared": rival.get("not_compared"), **gains[name]} for name, rival in rivals if rival]


def _bounds(interval: Document | None) -> tuple[float | None, float | None]:
    return (interval["low"], interval["high"]) if interval else (None, None)


def _draw_gains(
    gains: Mapping[str, tuple[float | None, float | None, float | None]],
) -> dict[str, dict[str, Any]]:
    """Return value, bounds and drawing of each gain, all on one scale with a mark at no gain."""
    drawn = charts.spans(
        [MetricEstimate(value, low, high) if value is not None else None for value, low, high in gains.values()],
        mark=0.0,
    )
    return {
        name: {"value": value, "low": low, "high": high, "span": span}
        for (name, (value, low, high)), span in zip(gains.items(), drawn, strict=True)
    }


def _describe_rivals(evaluation: Document) -> list[dict[str, Any]]:
    """Return the winner, the champion and the trivial baseline on the holdout, with intervals where they are known."""
    metric, holdout = evaluation.get("primary_metric"), (evaluation.get("holdout") or {}).get("metrics", {})
    if not metric or metric not in holdout:
        return []
    winner, champion = holdout[metric], evaluation.get("champion") or {}
    baseline = (evaluation.get("baseline") or {}).get("metrics", {}).get(metric)
    rows = [{"name": f"this run: {evaluation['candidate']}", **winner}]
    if (value := champion.get("metrics", {}).get(metric)) is not None:
        rows.append({"name": f"version {champion['version']}, the champion", "value": value, "low": None, "high": None})
    if baseline is not None:
        rows.append({"name": "no model", "value": baseline, "low": None, "high": None})
    estimates = [MetricEstimate(row["value"], row["low"], row["high"]) for row in rows]
    drawn = charts.spans(estimates, mark=value)
    return [row | {"span": span} for row, span in zip(rows, drawn, strict=True)]


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _duration(run: Document) -> str | None:
    if not run["finished_at"]:
        return None
    return format_duration(max(0.0, _seconds(run["requested_at"], run["finished_at"])))
