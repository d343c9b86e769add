"""Operating curves of the gate on real models, and what chains of twenty rounds lose.

    python benchmarks/gate/real_models.py --tables DIR                         # adults.parquet, about half an hour
    python benchmarks/gate/real_models.py --tables DIR --table diamonds        # RMSE
    python benchmarks/gate/real_models.py --tables DIR --rows 200 --chains 4   # a rough look

Gradient boosting is fitted on rows of a real table; the rows that no model has seen give each model's true value, and
small holdouts are drawn from them. The gate's own functions decide on each holdout.

*Pairs*: models of different skill, two at random. *Chains*: twenty models in turn, the first serves. In ``creep`` each
is trained on 15 % fewer rows and 1.2 % more wrong labels (or noise) than the one before, in ``same law`` on as many
rows of the same table. The holdout is drawn once (``one``) or each round (``fresh``).

Rules: ``before`` promotes all that is not clearly worse than the champion; ``better`` is ``champion_rule: better``;
``new`` is the default without, and ``new, reason`` with a reason to replace the champion in every round.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.preprocessing import OrdinalEncoder

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "shared"))

from millrace.evaluation.gate import GateEvidence, GateResult, decide
from millrace.evaluation_results import BestComparison, ChampionComparison
from millrace.metrics.bootstrap import ConfidenceInterval, bootstrap, gain_interval, resamples_for
from millrace.metrics.catalogue import Metric, get_metric
from millrace.schema import Task
from millrace.spec.training import GateSpec
from millrace.training.trial_record import ParityReport

Array = npt.NDArray[Any]
TABLES: dict[str, tuple[str, str, Task]] = {
    "adults": ("adults.parquet", "class", "binary"),
    "diamonds": ("diamonds.csv", "price", "regression"),
}
TRAINING_ROWS, CREEP_ROWS, LAW_ROWS, ROUNDS = 20_000, 5_000, 1_000, 20
RULES = ("before", "better", "new", "new, reason")
#: True gains whose neighbourhoods a table shows: of ROC AUC, or as a share of the champion's RMSE.
GAINS = {"binary": (-0.05, -0.02, -0.01, 0.0, 0.01, 0.02, 0.05), "regression": (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)}
#: Rows of all the holdouts that each pair of models is decided on, at least one and at most four of them.
PAIR_ROWS, MOST_DRAWS = 2_000, 4


@dataclass
class World:
    """The rows that no model has seen, and the fitted models' predictions of them."""

    task: Task
    target: Array
    chains: dict[str, list[Array]]  # kind -> (n_chains of) arrays of shape (ROUNDS, n_rows)
    models: Array
    truths: dict[int, float] = field(default_factory=dict)

    @property
    def metric(self) -> Metric:
        """The primary metric."""
        return get_metric(self.task, None)

    def predictions(self, model: Array) -> Array:
        """Return a model's predictions as the library has them."""
        return np.stack([1 - model, model], axis=1) if self.task == "binary" else model

    def truth(self, model: Array) -> float:
        """Return the metric on all rows that no model has seen."""
        key = hash(model[:50].tobytes())
        if key not in self.truths:
            self.truths[key] = self.metric.compute(self.target, self.predictions(model))
        return self.truths[key]


class Holdout:
    """Some rows, and each model's metric on them and on their bootstrap draws."""

    def __init__(self, world: World, rows: int, generator: np.random.Generator) -> None:
        self.world, self.size = world, rows
        self.rows = generator.choice(len(world.target), rows, replace=False)
        self.seed = int(generator.integers(2**31))
        self.known: dict[int, tuple[float, Array]] = {}

    def measure(self, model: Array) -> tuple[float, Array]:
        """Return a model's metric on the rows, and on each draw."""
        key = hash(model[:50].tobytes())
        if key not in self.known:
            world = self.world
            statistic = world.metric.statistic(world.target[self.rows], world.predictions(model[self.rows]))
            draws = bootstrap({"model": statistic}, self.size, seed=self.seed, resamples=resamples_for(self.size))
            self.known[key] = float(statistic(np.ones((1, self.size)))[0]), draws["model"]
        return self.known[key]

    def gain(self, model: Array, other: Array) -> ConfidenceInterval | None:
        """Return the interval of a model's gain over another."""
        metric = self.world.metric
        first, second = self.measure(model)[1], self.measure(other)[1]
        confidence = GateSpec().confidence
        return gain_interval(first, second, greater_is_better=metric.greater_is_better, confidence=confidence)


def gate(
    holdout: Holdout, rule: str, challenger: Array, champion: Array, best: Array | None, *, number: int = 1
) -> GateResult:
    """Return the gate's ``number``-th decision since the best champion, where all other checks pass."""
    world, gain = holdout.world, holdout.gain(challenger, champion)
    name = world.metric.name
    compared_best = None
    if best is not None:
        compared_best = BestComparison(
            1,
            holdout.gain(challenger, best),
            measured_gain=world.metric.gain(holdout.measure(challenger)[0], holdout.measure(best)[0]),
            metrics={name: holdout.measure(best)[0]},
        )
    evidence = GateEvidence(
        task=world.task,
        primary_metric=world.metric,
        metrics={name: holdout.measure(challenger)[0]},
        baseline_gain=ConfidenceInterval(1.0, 1.0),
        champion=ChampionComparison(
            2,
            gain,
            metrics={name: holdout.measure(champion)[0]},
            rows=holdout.size,
            measured_gain=world.metric.gain(holdout.measure(challenger)[0], holdout.measure(champion)[0]),
            best=compared_best,
            latest_version=number + (1 if best is None else 0),
            reasons=("newer data",) if rule == "new, reason" else (),
        ),
        model_bytes=1,
        parity=ParityReport(0.0, 0, 1, passed=True),
    )
    result = decide(evidence, GateSpec(champion_rule="better" if rule == "better" else "not_worse"))
    if rule == "before":
        is_kept = gain is None or gain.high < 0
        return GateResult("keep" if is_kept else "promote", (), ())
    return result


def run_chain(
    world: World, chain: Array, rule: str, draw: Callable[[], Holdout], fresh: bool
) -> tuple[float, int, float]:
    """Return the true gain of the last champion over the first, the promotions, and how much its holdout flatters."""
    champion, best, promotions, since, holdout = 0, 0, 0, 0, draw()
    for number in range(1, len(chain)):
        holdout = draw() if fresh else holdout
        earlier, since = None if best == champion else chain[best], since + 1
        result = gate(holdout, rule, chain[number], chain[champion], earlier, number=since)
        if result.decision == "promote":
            best, since = (number, 0) if result.best_version is None else (best, since)
            champion, promotions = number, promotions + 1
    truth, first = world.truth(chain[champion]), world.truth(chain[0])
    gained = world.metric.gain(truth, first) / (first if world.metric.change_is_relative else 1)
    measured = world.metric.gain(holdout.measure(chain[champion])[0], truth)
    return gained, promotions, measured / (truth if world.metric.change_is_relative else 1)


def run_chains(world: World, rows: int, chains: int) -> list[dict[str, Any]]:
    """Run chains by every rule, and return their means and the worst of them."""
    found, spec = [], GateSpec()
    margin = spec.relative_margin if world.metric.change_is_relative else spec.margin
    for kind, models in world.chains.items():
        for fresh in (True, False):
            results: dict[str, list[tuple[float, int, float]]] = defaultdict(list)
            for number, chain in enumerate(models[:chains]):
                drawn = [Holdout(world, rows, np.random.default_rng([number, rows, k])) for k in range(ROUNDS)]
                for rule in RULES:
                    order = iter(drawn)
                    results[rule].append(run_chain(world, chain, rule, lambda order=order: next(order), fresh))
            for rule, values in results.items():
                gained, promotions, flattery = (np.array(part, dtype=float) for part in zip(*values, strict=True))
                row = {
                    "chain": kind,
                    "holdout": "fresh" if fresh else "one",
                    "rows": rows,
                    "rule": rule,
                    "chains": len(values),
                    "gain": gained.mean(),
                    "worst": gained.min(),
                    "beyond margin": float(np.mean(gained < -margin)),
                    "promotions": promotions.mean(),
                    "flatters": flattery.mean(),
                }
                found.append(row)
                numbers = (
                    f"{row['gain']:+.4f} | {row['worst']:+.4f} | {row['beyond margin']:.0%} | "
                    f"{row['promotions']:.1f} | {row['flatters']:+.4f}"
                )
                print(f"| {kind} | {row['holdout']} | {rows:,} | {rule} | {numbers} |", flush=True)
    return found


def run_pairs(world: World, rows: int) -> list[dict[str, Any]]:
    """Decide on each ordered pair of models, and return the share promoted by true gain."""
    counts: dict[tuple[float, str], list[int]] = defaultdict(list)
    truths = [world.truth(model) for model in world.models]
    gains = np.array(GAINS[world.task])
    generator = np.random.default_rng(rows)
    for _ in range(max(1, min(MOST_DRAWS, PAIR_ROWS // rows))):
        for number, champion in enumerate(world.models):
            holdout = Holdout(world, rows, generator)
            for other, challenger in enumerate(world.models):
                if other == number:
                    continue
                gain = world.metric.gain(truths[other], truths[number])
                gain /= truths[number] if world.metric.change_is_relative else 1
                nearest = float(gains[np.argmin(np.abs(gains - gain))])
                if abs(gain - nearest) > max(0.25 * abs(nearest), 0.1 * gains[4]):
                    continue
                for rule in RULES:
                    promoted = gate(holdout, rule, challenger, champion, None).decision == "promote"
                    counts[nearest, rule].append(promoted)
    found = []
    for gain in gains:
        shares = {rule: float(np.mean(counts[gain, rule])) for rule in RULES if counts[gain, rule]}
        found.append({"rows": rows, "gain": float(gain), "pairs": len(counts[gain, "new"]), "shares": shares})
        cells = " | ".join(f"{shares.get(rule, float('nan')):.0%}" for rule in RULES)
        print(f"| {gain:+.2f} | {rows:,} | {found[-1]['pairs']} | {cells} |", flush=True)
    return found


def fit_models(path: Path, target: str, task: Task, chains: int) -> World:
    """Fit the models of the chains and of the pairs."""
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    values = table.pop(target)
    labels = values.to_numpy(float) if task == "regression" else (values == sorted(values.unique())[1]).to_numpy(int)
    words = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    table[words] = OrdinalEncoder().fit_transform(table[words].astype(str))
    features, order = table.to_numpy(float), np.random.default_rng(0).permutation(len(table))
    known, unseen = order[:TRAINING_ROWS], order[TRAINING_ROWS:]

    def fit(rows: int, wrong: float, generator: np.random.Generator) -> Array:
        taken = generator.choice(known, rows, replace=False)
        learnt = labels[taken].copy()
        chosen = generator.random(rows) < wrong
        if task == "regression":
            learnt[chosen] = generator.permutation(learnt)[chosen]
            return HistGradientBoostingRegressor(random_state=0).fit(features[taken], learnt).predict(features[unseen])
        learnt[chosen] = 1 - learnt[chosen]
        model = HistGradientBoostingClassifier(random_state=0).fit(features[taken], learnt)
        return np.asarray(model.predict_proba(features[unseen])[:, 1])

    made: dict[str, list[Array]] = {"creep": [], "same law": []}
    for chain in range(chains):
        generator = np.random.default_rng([1, chain])
        made["same law"].append(np.stack([fit(LAW_ROWS, 0.0, generator) for _ in range(ROUNDS)]))
        steps = [(max(200, int(CREEP_ROWS * 0.85**step)), 0.012 * step) for step in range(ROUNDS)]
        made["creep"].append(np.stack([fit(*step, generator) for step in steps]))
    generator = np.random.default_rng(5)
    skills = [(rows, wrong) for rows in (300, 600, 1_000, 2_000, 5_000) for wrong in (0.0, 0.03, 0.07, 0.12, 0.2, 0.3)]
    return World(task, labels[unseen], made, np.stack([fit(*skill, generator) for skill in skills]))


def main() -> None:
    """Fit the models, print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description="The gate on real models.")
    parser.add_argument("--tables", type=Path, required=True, help="folder with adults.parquet or diamonds.csv")
    parser.add_argument("--table", choices=tuple(TABLES), default="adults")
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 1_000, 5_000])
    parser.add_argument(
        "--chains", type=int, default=24, help="of each kind; a quarter of them with 5,000 rows or more"
    )
    parser.add_argument("--out", type=Path, help="JSON file for draw_curves.py")
    options = parser.parse_args()
    name, target, task = TABLES[options.table]
    world = fit_models(options.tables / name, target, task, options.chains)
    print(f"\n{options.table}, {world.metric.name}: share promoted by the true gain\n")
    print("| true gain | rows | pairs | " + " | ".join(RULES) + " |\n|" + "---|" * (3 + len(RULES)))
    pairs = [row for rows in options.rows for row in run_pairs(world, rows)]
    heads = ("chain", "holdout", "rows", "rule", "gain", "worst", "beyond margin", "promotions", "flatters")
    print(f"\nAfter 20 rounds\n\n| {' | '.join(heads)} |\n|" + "---|" * len(heads))
    many = 5_000
    chains = [
        row for rows in options.rows for row in run_chains(world, rows, options.chains // (4 if rows >= many else 1))
    ]
    if options.out:
        options.out.write_text(json.dumps({"table": options.table, "pairs": pairs, "chains": chains}, indent=1))


if __name__ == "__main__":
    main()
