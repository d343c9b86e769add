"""How often the gate errs: a truly worse challenger promoted, a truly better one refused.

    python benchmarks/gate/simulate.py                       # about ten minutes
    python benchmarks/gate/simulate.py --simulations 50      # a rough look

Champion and challenger are made up so that their true difference is known: both see the same signal through noise of
their own, and share some of it, as two models trained on much the same rows do. The true metric of a pair is measured
on 200,000 rows. The gate's own functions then judge the pair on many small holdouts.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from millrace.evaluation.gate import GateEvidence, decide
from millrace.evaluation_results import ChampionComparison
from millrace.metrics.bootstrap import ConfidenceInterval, bootstrap, gain_interval
from millrace.metrics.catalogue import get_metric
from millrace.schema import Task
from millrace.spec.training import GateSpec
from millrace.training.trial_record import ParityReport

Array = npt.NDArray[np.float64]

#: Share of the noise that both models have in common.
SHARED = 0.6
#: The champion's own noise; the challenger's is set so that the true difference is the wanted one.
NOISE: dict[Task, float] = {"binary": 1.0, "regression": 0.5}
TRUE_ROWS = 200_000
#: Losses, as shares of the champion's true RMSE for regression, and in ROC AUC for binary tasks.
GAINS: dict[Task, tuple[float, ...]] = {
    "binary": (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05),
    "regression": (-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10),
}
HOLDOUTS = (100, 300, 1_000, 3_000)


@dataclass(frozen=True)
class Pair:
    """A champion and a challenger whose true difference is known."""

    task: Task
    champion_noise: float
    challenger_noise: float

    def draw(self, rows: int, generator: np.random.Generator) -> tuple[Array, Array, Array]:
        """Return a target, the champion's and the challenger's predictions."""
        signal = generator.normal(size=rows)
        common = generator.normal(size=rows)
        answers = [
            signal + noise * (np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * generator.normal(size=rows))
            for noise in (self.champion_noise, self.challenger_noise)
        ]
        if self.task == "regression":
            return signal + generator.normal(size=rows), answers[0], answers[1]
        target = (generator.random(rows) < 1 / (1 + np.exp(-2 * signal))).astype(np.int64)
        first, second = (_as_probabilities(score) for score in answers)
        return target, first, second


def _as_probabilities(score: Array) -> Array:
    positive = 1 / (1 + np.exp(-score))
    return np.stack([1 - positive, positive], axis=1)


def true_metric(task: Task, noise: float) -> float:
    """Return a model's metric on very many rows."""
    target, predictions, _ = Pair(task, noise, noise).draw(TRUE_ROWS, np.random.default_rng(1))
    return get_metric(task, None).compute(target, predictions)


def noise_for(task: Task, wanted: float) -> float:
    """Return the noise with which a model has the wanted metric, by bisection."""
    low, high = 0.0, 6.0
    for _ in range(14):
        middle = (low + high) / 2
        better = get_metric(task, None).gain(true_metric(task, middle), wanted) > 0
        low, high = (middle, high) if better else (low, middle)
    return (low + high) / 2


def promotions(pair: Pair, rows: int, simulations: int, rules: Sequence[str]) -> list[float]:
    """Return how often the gate promotes the challenger, by each of its rules."""
    metric = get_metric(pair.task, None)
    promoted = np.zeros(len(rules))
    for simulation in range(simulations):
        target, first, second = pair.draw(rows, np.random.default_rng([simulation, rows]))
        statistics = {
            "champion": metric.statistic(target, first),
            "challenger": metric.statistic(target, second),
        }
        samples = bootstrap(statistics, rows, seed=simulation)
        gain = gain_interval(
            samples["challenger"],
            samples["champion"],
            greater_is_better=metric.greater_is_better,
            confidence=GateSpec().confidence,
        )
        for position, rule in enumerate(rules):
            promoted[position] += _decision(pair.task, gain, rule) == "promote"
    return [float(count / simulations) for count in promoted]


def _decision(task: Task, gain: ConfidenceInterval | None, rule: str) -> str:
    evidence = GateEvidence(
        task=task,
        primary_metric=get_metric(task, None),
        metrics={},
        baseline_gain=ConfidenceInterval(1.0, 1.0),
        champion=ChampionComparison(1, gain),
        model_bytes=1,
        parity=ParityReport(0.0, 0, 1, passed=True),
    )
    return decide(evidence, GateSpec.model_validate({"champion_rule": rule})).decision


def main() -> None:
    """Print a table for each task and rule."""
    parser = argparse.ArgumentParser(description="How often the gate errs.")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--task", choices=tuple(GAINS), action="append", help="both by default")
    parser.add_argument("--holdout", type=int, choices=HOLDOUTS, action="append", help="all by default")
    options = parser.parse_args()
    rules, holdouts = ("not_worse", "better"), options.holdout or HOLDOUTS
    for task in options.task or tuple(GAINS):
        metric = get_metric(task, None)
        base = true_metric(task, NOISE[task])
        pairs = []
        for gain in GAINS[task]:
            wanted = base + gain if task == "binary" else base * (1 - gain)
            pairs.append(Pair(task, NOISE[task], noise_for(task, wanted) if gain else NOISE[task]))
        rates = {
            (gain, rows): promotions(pair, rows, options.simulations, rules)
            for gain, pair in zip(GAINS[task], pairs, strict=True)
            for rows in holdouts
        }
        for position, rule in enumerate(rules):
            print(f"\n{task}, champion's true {metric.name} {base:.3f}, rule {rule}: share promoted\n")
            print("| true gain | " + " | ".join(f"{rows:,} rows" for rows in holdouts) + " |")
            print("|---|" + "---|" * len(holdouts))
            for gain in GAINS[task]:
                cells = " | ".join(f"{rates[gain, rows][position]:.0%}" for rows in holdouts)
                unit = f"{gain:+.2f}" if task == "binary" else f"{gain:+.0%}"
                print(f"| {unit} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
