"""What a card shows: the document, read with care, because any part of it may be missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from millrace.reporting import wording

Decision = Literal["promote", "keep", "reject"]

#: The gate's decisions in words.
OUTCOMES: Mapping[str, str] = {"promote": "promoted", "keep": "kept as challenger", "reject": "rejected"}

#: Metrics as people say them.
METRIC_NAMES: Mapping[str, str] = {
    "roc_auc": "ROC AUC",
    "roc_auc_ovr": "ROC AUC, one versus rest",
    "pr_auc": "PR AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R\N{SUPERSCRIPT TWO}",
    "error_p50": "median absolute error",
    "error_p90": "90 % of absolute errors below",
}

_GREATER_IS_BETTER = frozenset({"roc_auc", "roc_auc_ovr", "pr_auc", "accuracy", "f1", "macro_f1", "r2"})


@dataclass(frozen=True, slots=True)
class CardSubject:
    """A card's document, ``card.json``."""

    document: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self.document["model"])

    @property
    def version(self) -> Mapping[str, Any]:
        """The version's number, semantic version and moment; empty for a run that registered nothing."""
        return self.document.get("version") or {}

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """``evaluation.json``."""
        return self.document.get("evaluation") or {}

    @property
    def decision(self) -> str:
        """The gate's decision in words."""
        return OUTCOMES.get(str(self.evaluation.get("decision")), wording.NOT_KNOWN)

    @property
    def task(self) -> str:
        """Of the model."""
        return str(self.evaluation.get("task") or (self.document.get("schema") or {}).get("task") or "")

    @property
    def primary_metric(self) -> str:
        """The metric that ranks and compares."""
        return str(self.evaluation.get("primary_metric") or "")

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Value and interval of each metric on the holdout."""
        return (self.evaluation.get("holdout") or {}).get("metrics") or {}

    @property
    def holdout_rows(self) -> int:
        """Rows of the holdout."""
        return int((self.evaluation.get("holdout") or {}).get("rows") or 0)

    @property
    def confidence(self) -> str:
        """Of the intervals, in words."""
        return f"{100 * float(self.evaluation.get('confidence') or 0.95):g} %"

    @property
    def columns(self) -> Sequence[Mapping[str, Any]]:
        """Of the schema."""
        return (self.document.get("schema") or {}).get("columns") or ()

    @property
    def features(self) -> list[Mapping[str, Any]]:
        """The columns that the model sees."""
        return [column for column in self.columns if column.get("role") == "feature"]

    @property
    def target(self) -> str:
        """The column that is predicted."""
        named = next((str(column["name"]) for column in self.columns if column.get("role") == "target"), None)
        return named or str(self.evaluation.get("target") or "the target")

    @property
    def positive_class(self) -> str:
        """The class that binary metrics are about."""
        classes: Sequence[str] = self.evaluation.get("classes") or ()
        return str(classes[1]) if len(classes) == 2 else ""  # noqa: PLR2004  # a binary task


def metric_name(name: str) -> str:
    """Return a metric as people say it."""
    return METRIC_NAMES.get(name, name)


def is_greater_better(name: str) -> bool:
    """Tell which way is better."""
    return name in _GREATER_IS_BETTER


def interval(measured: Mapping[str, Any]) -> str:
    """Return an interval in words; a dash where there is none."""
    low, high = measured.get("low"), measured.get("high")
    if low is None or high is None:
        return wording.NOT_KNOWN
    return f"{wording.number(low)} to {wording.number(high)}"
