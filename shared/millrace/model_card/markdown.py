"""The model card in Markdown: what a pull request, a wiki or a terminal can show."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from millrace.model_card.origin import STATED, samples, usage
from millrace.model_card.subject import CardSubject, interval, metric_name
from millrace.reporting import wording

_SHOWN_FEATURES = 10


def render_markdown(document: Mapping[str, Any]) -> str:
    """Return a card's document as Markdown; see :func:`millrace.model_card.page.render_card`."""
    subject = CardSubject(document)
    parts = (_head, _stated, _performance, _slices, _fairness, _importance, _gate, _leaderboard, _data, _usage)
    return "\n".join(line for part in parts for line in part(subject)) + "\n"


def _head(subject: CardSubject) -> Iterator[str]:
    version, evaluation = subject.version, subject.evaluation
    name = f"version {version['version']} ({version['semantic_version']})" if version else "evaluation of a run"
    yield f"# {subject.model}, {name}"
    yield ""
    by = f", by {evaluation['candidate']}" if evaluation.get("candidate") else ""
    registered = f" Registered {wording.moment(version.get('created_at'))}." if version else ""
    known = f" from {len(subject.features)} features" if subject.features else ""
    yield f"Predicts `{subject.target}` ({subject.task}){known}{by}.{registered}"
    yield ""
    yield f"Decision: **{subject.decision}**."
    yield ""
    yield from (f"* {_line(reason)}" for reason in evaluation.get("reasons") or ())


def _stated(subject: CardSubject) -> Iterator[str]:
    stated: Mapping[str, str] = subject.document.get("stated") or {}
    for name, title in STATED.items():
        if stated.get(name):
            yield from ("", f"## {title}", "", stated[name])


def _performance(subject: CardSubject) -> Iterator[str]:
    if not subject.metrics:
        return
    baseline = (subject.evaluation.get("baseline") or {}).get("metrics") or {}
    yield from ("", "## How good it is", "")
    yield f"On {subject.holdout_rows:,} rows that neither fitting nor choosing has seen:"
    yield ""
    rows = [
        (metric_name(name), wording.number(measured["value"]), interval(measured), wording.number(baseline.get(name)))
        for name, measured in subject.metrics.items()
    ]
    yield from _table(("metric", "value", f"{subject.confidence} interval", "trivial baseline"), rows)
    yield ""
    yield f"The primary metric is {metric_name(subject.primary_metric)}."
    fit = subject.evaluation.get("fit")
    if fit:
        yield from ("", f"Fit: {fit['verdict']}. {fit['explanation']}")
    threshold = subject.evaluation.get("threshold")
    if threshold:
        told = f"A row is called {threshold['positive_class']} from a probability of {threshold['value']:.4g} on."
        yield from ("", told)


def _slices(subject: CardSubject) -> Iterator[str]:
    slices: Sequence[Mapping[str, Any]] = subject.evaluation.get("slices") or ()
    if not slices:
        return
    name = subject.primary_metric
    yield from ("", "## Slices", "")
    rows = [
        (
            part["name"],
            wording.count(part["rows"]),
            wording.number(((part.get("metrics") or {}).get(name) or {}).get("value")),
            "clearly worse" if part["clearly_worse"] else "",
        )
        for part in slices
    ]
    yield from _table(("slice", "rows", metric_name(name), ""), rows)


def _fairness(subject: CardSubject) -> Iterator[str]:
    columns: Sequence[Mapping[str, Any]] = subject.evaluation.get("fairness") or ()
    rows = [
        (
            column["column"],
            measure,
            wording.number(gap["value"]),
            interval(gap),
            f"{gap['highest']} and {gap['lowest']}",
        )
        for column in columns
        for measure, gap in column["gaps"].items()
        if gap
    ]
    if rows:
        yield from ("", "## Fairness", "")
        yield from _table(("column", "measure", "gap", "interval", "between"), rows)


def _importance(subject: CardSubject) -> Iterator[str]:
    columns = (subject.evaluation.get("importance") or {}).get("columns") or ()
    if columns:
        yield from ("", "## What it relies on", "")
        rows = [(column["name"], wording.number(column["value"]), interval(column)) for column in columns]
        yield from _table(("feature", "loss when shuffled", "interval"), rows[:_SHOWN_FEATURES])


def _gate(subject: CardSubject) -> Iterator[str]:
    checks = subject.evaluation.get("gate") or ()
    if checks:
        yield from ("", "## Why it is here", "")
        rows = [(check["name"], "passed" if check["passed"] else "FAILED", check["explanation"]) for check in checks]
        yield from _table(("check", "", "finding"), rows)


def _leaderboard(subject: CardSubject) -> Iterator[str]:
    entries = subject.evaluation.get("leaderboard") or ()
    if entries:
        name = subject.primary_metric
        yield from ("", "## Candidates", "")
        rows = [
            (
                entry["candidate"],
                wording.number((entry.get("metrics") or {}).get(name)),
                entry.get("reason") or entry.get("status") or "",
            )
            for entry in entries
        ]
        yield from _table(("candidate", f"{metric_name(name)} on validation", ""), rows)


def _data(subject: CardSubject) -> Iterator[str]:
    document, evaluation = subject.document, subject.evaluation
    yield from ("", "## What it learned from", "")
    run = (document.get("run") or {}).get("run_id") or evaluation.get("run_id")
    version = (document.get("schema") or {}).get("version")
    yield f"Run `{run}`, trial `{evaluation.get('trial_id')}`, schema version {version}, datasets:"
    yield from (f"* `{dataset['dataset_id']}`" for dataset in (document.get("data") or {}).get("datasets") or ())
    told = samples(subject)
    if told:
        yield from ("", f"A sample: {'; '.join(told)}.")
    if not subject.features:
        return
    yield from ("", "## What it takes", "")
    rows = [(c["name"], c["type"], "no" if c.get("nullable") else "yes") for c in subject.features]
    yield from _table(("feature", "type", "required"), rows)


def _usage(subject: CardSubject) -> Iterator[str]:
    if subject.version:
        yield from ("", "## How to call it")
        for title, text in usage(subject):
            yield from ("", f"{title}:", "", "```", text, "```")


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    yield from (f"| {' | '.join(_line(str(cell)).replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _line(text: str) -> str:
    return " ".join(text.split())
