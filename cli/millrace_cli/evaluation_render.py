"""What an evaluation found beside its metrics, in lines for a terminal; the model card has all of it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

Document = Mapping[str, Any]

_SHOWN = 3


def examination_lines(model: str, run_id: str, evaluation: Document) -> list[RenderableType]:
    """Return fit, threshold, slices, fairness gaps and importance in a line each, and how to see the rest."""
    lines = [*_fit(evaluation), *_threshold(evaluation), *_slices(evaluation), *_fairness(evaluation)]
    lines += _importance(evaluation)
    if lines:
        lines.append(("everything", f"millrace card {model} --run {run_id}"))
    return [Text.assemble((f"{name}: ", "bold"), told, overflow="fold") for name, told in lines]


def _fit(evaluation: Document) -> Iterator[tuple[str, str]]:
    fit = evaluation.get("fit")
    if fit:
        yield f"fit {fit['verdict']}", fit["explanation"]


def _threshold(evaluation: Document) -> Iterator[tuple[str, str]]:
    threshold = evaluation.get("threshold")
    if threshold:
        yield "threshold", f"{threshold['positive_class']} from {threshold['value']:.4g} on"


def _slices(evaluation: Document) -> Iterator[tuple[str, str]]:
    worse = [part for part in evaluation.get("slices") or () if part["clearly_worse"]]
    if worse:
        yield "clearly worse where", _listed([f"{part['name']} ({part['rows']} rows)" for part in worse])


def _fairness(evaluation: Document) -> Iterator[tuple[str, str]]:
    for column in evaluation.get("fairness") or ():
        clear = [
            f"{measure.replace('_', ' ')} {gap['value']:.3g} between {gap['highest']} and {gap['lowest']}"
            for measure, gap in column["gaps"].items()
            if gap and gap["clear"]
        ]
        yield f"gaps by {column['column']}", _listed(clear) if clear else "none beyond chance"


def _importance(evaluation: Document) -> Iterator[tuple[str, str]]:
    columns: Sequence[Document] = (evaluation.get("importance") or {}).get("columns") or ()
    if columns:
        yield "relies on", ", ".join(str(column["name"]) for column in columns[:_SHOWN])


def _listed(told: Sequence[str]) -> str:
    more = len(told) - _SHOWN
    return "; ".join(told[:_SHOWN]) + (f"; {more} more" if more > 0 else "")
