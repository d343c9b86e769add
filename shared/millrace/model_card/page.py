"""The model card as one HTML page that asks nothing of a network."""

from collections.abc import Mapping
from typing import Any

from millrace.model_card.behaviour import (
    fairness_section,
    fit_section,
    importance_section,
    slices_section,
    threshold_section,
)
from millrace.model_card.decision import TONES, gate_section, leaderboard_section, verdict
from millrace.model_card.origin import data_section, lineage_section, stated_section, usage_section
from millrace.model_card.performance import figures, metrics_table
from millrace.model_card.subject import CardSubject, interval, metric_name
from millrace.reporting import wording
from millrace.reporting.blocks import badge, tiles
from millrace.reporting.html import Content, element, join
from millrace.reporting.page import Section, render_page


def render_card(document: Mapping[str, Any]) -> str:
    """Return a model card as a self-contained HTML page.

    Parameters
    ----------
    document : mapping
        ``card.json``, as :func:`millrace.model_card.document.build_card` makes it; of a version, or of a run that
        registered nothing.

    Returns
    -------
    str
        The same document gives the same page.
    """
    subject = CardSubject(document)
    decision = str(subject.evaluation.get("decision"))
    return render_page(
        title=subject.model,
        kicker="Model card" if subject.version else "Evaluation of a run",
        badge=badge(subject.decision, TONES.get(decision, "plain"), large=True),
        subtitle=_subtitle(subject),
        summary=join(verdict(subject), tiles(_tiles(subject))),
        sections=_sections(subject),
        footer=_footer(subject),
    )


def _subtitle(subject: CardSubject) -> Content:
    version, evaluation = subject.version, subject.evaluation
    known = f" from {wording.count(len(subject.features), 'feature')}" if subject.features else ""
    what = f"Predicts {subject.target} ({subject.task}){known}"
    by = f", by {str(evaluation.get('candidate')).replace('_', ' ')}" if evaluation.get("candidate") else ""
    if not version:
        return join(what, by, ". Run ", element("code", str(evaluation.get("run_id"))), ".")
    return join(
        element("strong", f"Version {version['version']} ({version['semantic_version']})"),
        f". {what}{by}. Registered {wording.moment(version.get('created_at'))}.",
    )


def _tiles(subject: CardSubject) -> list[tuple[str, str, str]]:
    evaluation, name = subject.evaluation, subject.primary_metric
    measured = subject.metrics.get(name)
    found: list[tuple[str, str, str]] = []
    if measured:
        found.append((metric_name(name), wording.number(measured["value"]), interval(measured)))
        trivial = ((evaluation.get("baseline") or {}).get("metrics") or {}).get(name)
        found.append(("Trivial baseline", wording.number(trivial), f"{metric_name(name)} without a model"))
    champion = evaluation.get("champion")
    if champion and champion.get("gain"):
        gain = champion["gain"]
        told = f"{wording.number(gain['low'])} to {wording.number(gain['high'])}"
        found.append((f"Gain over version {champion['version']}", told, f"{subject.confidence} interval, paired"))
    if subject.holdout_rows:
        found.append(("Holdout", wording.count(subject.holdout_rows), "rows never seen"))
    latency = evaluation.get("latency")
    if latency:
        batch = latency["batch"]
        hint = f"at most, 19 of 20 times; {batch['rows']:,} rows {batch['p95_milliseconds']:.3g} ms"
        found.append(("One row", f"{latency['row']['p95_milliseconds']:.3g} ms", hint))
    if evaluation.get("model_bytes"):
        kilobytes = f"{wording.number(round(evaluation['model_bytes'] / 1_000, 1))} kB"
        found.append(("ONNX file", kilobytes, "verified by SHA-256"))
    return found


def _sections(subject: CardSubject) -> list[Section]:
    evaluation = subject.evaluation
    drawn = figures(subject)
    sections = [
        Section("use", "Intended use", stated_section(subject), "What the model is for, in its owner's words.", "Use")
        if "stated" in subject.document
        else None,
        Section("performance", "Performance", join(metrics_table(subject), drawn)) if subject.metrics else None,
        Section("threshold", "Decision threshold", threshold_section(subject), short_title="Threshold")
        if evaluation.get("threshold")
        else None,
        Section("slices", "Slices", slices_section(subject), "Parts of the rows, and how the model does on them.")
        if evaluation.get("slices") is not None
        else None,
        Section(
            "fairness",
            "Fairness",
            fairness_section(subject),
            "How the groups that the spec calls sensitive are treated. A gap is a fact, not a verdict.",
        )
        if evaluation.get("fairness")
        else None,
        Section("importance", "What it relies on", importance_section(subject), short_title="Importance")
        if (evaluation.get("importance") or {}).get("columns")
        else None,
        Section("fit", "Over- and underfitting", fit_section(subject), short_title="Fit")
        if evaluation.get("fit")
        else None,
        Section("gate", "Gate", gate_section(subject), "What was asked before it may serve, with every number."),
        Section(
            "leaderboard",
            "Leaderboard",
            leaderboard_section(subject),
            "The candidates, by their metrics on the validation split.",
        )
        if evaluation.get("leaderboard")
        else None,
        Section("data", "Data", data_section(subject)),
        Section("lineage", "Lineage", lineage_section(subject)),
        Section("usage", "How to call it", usage_section(subject)) if subject.version else None,
    ]
    return [section for section in sections if section is not None]


def _footer(subject: CardSubject) -> Content:
    where = "card.json, which lies beside this page" if subject.version else "the run's evaluation.json"
    return join(
        f"Made by Millrace {subject.document.get('code_version')} from {where}; after Mitchell et al., “Model Cards "
        "for Model Reporting”, 2019."
    )
