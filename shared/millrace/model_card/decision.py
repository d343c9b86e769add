"""Why a model serves, or does not: the gate's checks with every number, and the candidates that competed."""

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.model_card.subject import CardSubject, metric_name
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, Tone, badge, callout, folded, table
from millrace.reporting.html import Content, Html, element, join

TONES: Mapping[str, Tone] = {"promote": "good", "keep": "warn", "reject": "bad"}

_HEADS = {
    "promote": "The gate promoted this version:",
    "keep": "The gate kept this version as challenger:",
    "reject": "The gate rejected this run's winner:",
}
_SHOWN_TRIALS = 12
_SHOWN_REASONS = 6


def verdict(subject: CardSubject) -> Html | None:
    """Return the decision with its reasons."""
    decision = str(subject.evaluation.get("decision"))
    if decision not in _HEADS:
        return None
    reasons = [str(reason) for reason in subject.evaluation.get("reasons") or ()]
    more = [f"{len(reasons) - _SHOWN_REASONS:,} more, below"] if len(reasons) > _SHOWN_REASONS else []
    return callout(_HEADS[decision], [*reasons[:_SHOWN_REASONS], *more], TONES[decision])


def gate_section(subject: CardSubject) -> Html:
    """Return every check of the gate."""
    rows = [
        (
            str(check["name"]),
            badge("passed", "good") if check["passed"] else badge("failed", "bad"),
            wording.number(check["value"]),
            wording.number(check["threshold"]),
            str(check["explanation"]),
        )
        for check in subject.evaluation.get("gate") or ()
    ]
    heads = (
        TableColumn("Check"),
        TableColumn(""),
        TableColumn("Measured", "number"),
        TableColumn("Limit", "number"),
        TableColumn("In words", "wide"),
    )
    return join(
        table(heads, rows, caption="What the gate asked") if rows else None,
        element(
            "p",
            "The gate decides what may serve; whether a person was asked, and what was served when, is in the ledger.",
            class_="quiet after",
        ),
    )


def leaderboard_section(subject: CardSubject) -> Html:
    """Return the candidates, best first, by their metrics on the validation split."""
    entries: Sequence[Mapping[str, Any]] = subject.evaluation.get("leaderboard") or ()
    names = list(dict.fromkeys([subject.primary_metric, *(n for entry in entries for n in entry.get("metrics") or {})]))
    names = [name for name in names if any(name in (entry.get("metrics") or {}) for entry in entries)][:4]
    heads = [
        TableColumn("Candidate"),
        *(TableColumn(metric_name(name), "number") for name in names),
        TableColumn("Seconds", "number"),
        TableColumn("", "wide"),
    ]

    def row(entry: Mapping[str, Any]) -> list[Content]:
        won = entry.get("trial_id") == subject.evaluation.get("trial_id")
        label = join(str(entry["candidate"]), " ", badge("winner", "accent") if won else None)
        metrics = entry.get("metrics") or {}
        seconds = entry.get("duration_seconds")
        cells: list[Content] = [wording.number(metrics.get(name)) for name in names]
        return [
            label,
            *cells,
            wording.NOT_KNOWN if seconds is None else f"{seconds:.1f}",
            str(entry.get("reason") or ""),
        ]

    rest = entries[_SHOWN_TRIALS:]
    return join(
        table(heads, [row(entry) for entry in entries[:_SHOWN_TRIALS]], caption="Candidates, best first"),
        folded(
            f"The other {len(rest):,} trials", table(heads, [row(entry) for entry in rest], caption="Further trials")
        )
        if rest
        else None,
    )
