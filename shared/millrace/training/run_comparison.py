"""The comparison of two runs: data, search, winner, libraries and metrics, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from millrace.documents import from_plain
from millrace.entities import Run
from millrace.evaluation_results import Evaluation
from millrace.training.trial_record import TrialRecord

_WINNER_FACTS = ("seed", "schema_version", "rows", "folds", "artifacts")


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """A run, its evaluation, and the record of its winner; None for what an early failure left out."""

    run: Run
    evaluation: Evaluation | None
    record: TrialRecord | None

    @classmethod
    def read(cls, described: Mapping[str, Any], record: TrialRecord | None) -> Self:
        """Read a run as ``GET /models/{model}/runs/{run_id}`` describes it."""
        stored = described["evaluation"]
        return cls(from_plain(Run, described["run"]), Evaluation.read(stored) if stored else None, record)

    @property
    def rows(self) -> dict[str, int]:
        """Rows by split; empty for a run that prepared none."""
        return {f"{name}_rows": count for name, count in self.run.summary.get("rows_by_split", {}).items()}

    @property
    def search(self) -> dict[str, Any]:
        """The search, without its deadline: a timestamp always differs, and means nothing."""
        return {name: value for name, value in self.run.summary.get("search", {}).items() if name != "deadline"}

    @property
    def winner(self) -> dict[str, Any]:
        """The winner's trial, the gate's decision on it, and the facts of its record."""
        trial, decision = (self.evaluation.trial_id, self.evaluation.decision) if self.evaluation else (None, None)
        facts = {name: getattr(self.record, name, None) for name in _WINNER_FACTS}
        return {"trial": trial, "decision": decision, **facts}

    @property
    def metrics(self) -> dict[str, float]:
        """The winner's metrics on the holdout."""
        holdout = self.evaluation.holdout if self.evaluation else None
        return {name: measured.value for name, measured in holdout.metrics.items()} if holdout else {}


def compare_runs(one: ComparedRun, other: ComparedRun) -> dict[str, Any]:
    """Compare two runs.

    Returns
    -------
    dict
        ``data``, ``search``, ``winner``, ``parameters``, ``versions``: the differences, as ``{name: [one, other]}``;
        ``metrics``: every metric of the winners on their holdouts; ``same_holdout``: whether those can be compared.
    """
    runs = (one, other)
    dataset_ids = [list(each.run.dataset_ids) for each in runs]
    prepared = [each.record.prepared if each.record else {} for each in runs]
    data: dict[str, list[Any]] = {
        "dataset_ids": dataset_ids,
        "prepared": prepared,
        **_side_by_side([each.rows for each in runs]),
    }
    parameters = [each.record.parameters if each.record else {} for each in runs]
    libraries = [each.record.libraries if each.record else {} for each in runs]
    return {
        "runs": [each.run.run_id for each in runs],
        "data": _different(data),
        "search": _different(_side_by_side([each.search for each in runs])),
        "winner": _different(_side_by_side([each.winner for each in runs])),
        "parameters": _different(_side_by_side(parameters)),
        "versions": _different(_side_by_side(libraries)),
        "metrics": _side_by_side([each.metrics for each in runs]),
        "same_holdout": bool(one.rows) and dataset_ids[0] == dataset_ids[1],
    }


def _side_by_side(pair: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    one, other = pair
    return {name: [one.get(name), other.get(name)] for name in {**one, **other}}


def _different(pairs: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
