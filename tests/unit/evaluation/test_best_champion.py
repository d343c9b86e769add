"""A challenger is compared with the best champion so far as well: a chain of small losses stays within the margin."""

import json
from dataclasses import replace
from functools import cache
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data.prepared import PreparedSplit
from millrace.evaluation.champion import Champion, compare_with_champion, find_train_overlap, load_best, load_champion
from millrace.evaluation.gate import decide
from millrace.evaluation_results import BestComparison, ChampionComparison
from millrace.features import FeatureMatrix
from millrace.layout import prepared_key, version_key
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.catalogue import get_metric
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import retire
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec
from millrace.spec.training import GateSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.prepared_data import make_dataset, make_schema, manifest
from tests.training_run import MODEL, NOW, RUN_ID, TrainingRun
from tests.unit.evaluation.test_evaluate import ONE, document, onnx_of, register_champion, trained
from tests.unit.evaluation.test_gate import EVIDENCE

WHY = ("its data is newer",)
WIDE = ConfidenceInterval(-0.01, 0.01)


def holdout_of(target: np.ndarray) -> PreparedSplit:
    rows = len(target)
    features = FeatureMatrix(np.arange(rows, dtype=np.float32)[:, None], np.empty((rows, 0), dtype=np.str_))
    return PreparedSplit(features, target, np.arange(rows, dtype=np.uint64))


def version_of(number: int, task: str, predictions: np.ndarray, best: int | None = None) -> Champion:
    """A version whose model predicts what it is given."""
    model: Any = SimpleNamespace(schema=make_schema(task, 1, 0), run=lambda features: predictions)
    manifest: Any = SimpleNamespace(split_fingerprint="f", best_version=best)
    return Champion(number, model, manifest)


def compare(champion: Champion, best: Champion | None, predictions: np.ndarray, target: np.ndarray, task: str, **spec):
    return compare_with_champion(
        champion,
        predictions,
        holdout_of(target),
        metric=get_metric(task, spec.get("primary_metric")),
        spec=ModelSpec.parse(spec),
        split={"fingerprint": "f"},
        data_store=MemoryObjectStore("data"),
        best=best,
    )


def predictions_of(task: str, target: np.ndarray, skill: float, generator: np.random.Generator) -> np.ndarray:
    noisy = target + generator.normal(size=len(target)) / skill
    if task == "regression":
        return noisy
    positive = 1 / (1 + np.exp(-2 * (noisy - 0.5)))
    return np.stack([1 - positive, positive], axis=1)


@settings(max_examples=8, deadline=None)
@example(seed=0, task="regression", rows=150, step=0.1)
@example(seed=1, task="binary", rows=400, step=0.1)
@given(
    seed=st.integers(0, 10**6),
    task=st.sampled_from(["binary", "regression"]),
    rows=st.sampled_from([40, 150, 400]),
    step=st.sampled_from([0.03, 0.1, 0.2]),
)
def test_a_chain_of_worse_challengers_loses_at_most_the_margin(seed, task, rows, step):
    """Of the values on the holdout, which are what the gate knows; each round has a reason to replace the champion."""
    generator = np.random.default_rng(seed)
    metric, spec = get_metric(task, None), GateSpec()
    target = generator.normal(size=rows) if task == "regression" else (np.arange(rows) % 3 == 0).astype(np.int64)
    models, best_of, champion = {1: predictions_of(task, target, 1.5, generator)}, {1: None}, 1
    values = {1: metric.compute(target, models[1])}
    for number in range(2, 12):
        models[number] = a_little_worse(task, models[champion], step * generator.normal(size=rows))
        values[number] = metric.compute(target, models[number])
        best = best_of[champion]
        compared = compare(
            version_of(champion, task, models[champion]),
            None if best is None else version_of(best, task, models[best]),
            models[number],
            target,
            task,
        )
        evidence = replace(EVIDENCE, task=task, primary_metric=metric, champion=replaced(compared, reasons=WHY))
        result = decide(evidence, spec)
        best_of[number] = result.best_version
        champion = number if result.decision == "promote" else champion
        for reference in (1, best_of[champion] or champion):
            margin = spec.relative_margin * values[reference] if task == "regression" else spec.margin
            assert metric.gain(values[champion], values[reference]) >= -margin


def a_little_worse(task: str, predictions: np.ndarray, noise: np.ndarray) -> np.ndarray:
    if task == "regression":
        return predictions + noise
    positive = 1 / (1 + predictions[:, 0] / predictions[:, 1] * np.exp(-2 * noise))
    return np.stack([1 - positive, positive], axis=1)


def replaced(compared: ChampionComparison, **changes) -> ChampionComparison:
    return msgspec.structs.replace(compared, **changes)


@pytest.mark.parametrize(
    ("best", "decision", "best_version"),
    [
        (None, "promote", 3),
        (BestComparison(1, ConfidenceInterval(-0.017, 0.01), metrics={"roc_auc": 0.9}), "promote", 1),
        (BestComparison(1, ConfidenceInterval(-0.018, 0.01), metrics={"roc_auc": 0.9}), "keep", 1),
        (BestComparison(1, ConfidenceInterval(-0.05, -0.03), metrics={"roc_auc": 0.9}), "keep", 1),
        (BestComparison(1, ConfidenceInterval(0.01, 0.02), metrics={"roc_auc": 0.9}), "promote", None),
        (BestComparison(1, not_compared="it is retired"), "promote", 3),
    ],
)
def test_the_best_champion_so_far_decides_beside_the_champion(best, decision, best_version):
    champion = ChampionComparison(3, WIDE, metrics={"roc_auc": 0.89}, rows=500, reasons=WHY, best=best)
    result = decide(replace(EVIDENCE, champion=champion), GateSpec())
    assert (result.decision, result.best_version) == (decision, best_version)
    (check,) = [check for check in result.checks if check.name == "best_champion"]
    compared = "version 1, the best champion so far" if best and best.gain else "version 3, the champion"
    assert compared in check.explanation
    assert check.explanation in result.reasons
    assert check.threshold == -0.02
    assert ("it is retired" in check.explanation) == bool(best and best.not_compared)


@pytest.mark.parametrize(
    ("low", "relative_margin", "decision"), [(-4.2, 0.05, "promote"), (-4.5, 0.05, "keep"), (-8.8, 0.1, "promote")]
)
def test_the_margin_of_a_loss_is_a_share_of_the_best_champions(low, relative_margin, decision):
    champion = ChampionComparison(2, ConfidenceInterval(low, 3.0), metrics={"rmse": 100.0}, rows=500, reasons=WHY)
    evidence = replace(
        EVIDENCE,
        task="regression",
        primary_metric=get_metric("regression", None),
        metrics={"rmse": 99.0},
        champion=champion,
    )
    result = decide(evidence, GateSpec(relative_margin=relative_margin))
    assert result.decision == decision
    assert f"the margin ({100 * relative_margin:.0f}, {100 * relative_margin:.0f} % of its value)" in result.reasons[1]


@pytest.mark.parametrize(("latest", "number"), [(0, 1), (1, 1), (3, 3), (20, 20)])
def test_each_decision_against_one_best_champion_is_stricter_than_the_last(latest, number):
    """The chances of an error of all of them add up to that of one interval's end."""
    best = BestComparison(1, ConfidenceInterval(-0.012, 0.004), measured_gain=-0.002, metrics={"roc_auc": 0.9})
    champion = ChampionComparison(3, WIDE, metrics={}, rows=500, reasons=WHY, best=best, latest_version=latest)
    (check,) = [one for one in decide(replace(EVIDENCE, champion=champion), GateSpec()).checks if "best" in one.name]
    quantiles = [NormalDist().inv_cdf(1 - 0.025 / divisor) for divisor in (number * (number + 1), 1)]
    assert check.value == pytest.approx(-0.002 - 0.01 * quantiles[0] / quantiles[1])
    assert check.passed == (number < 20)
    assert f"as decision {number} since that version" in check.explanation


def test_a_model_that_beats_the_champion_is_promoted_also_where_an_earlier_one_is_better():
    best = BestComparison(1, ConfidenceInterval(-0.2, -0.1), metrics={"roc_auc": 0.95})
    champion = ChampionComparison(3, ConfidenceInterval(0.05, 0.1), metrics={"roc_auc": 0.7}, best=best)
    result = decide(replace(EVIDENCE, champion=champion), GateSpec())
    assert (result.decision, result.best_version) == ("promote", 1)
    assert "warning: version 1, an earlier champion, is clearly better than the model" in result.reasons[-1]


@pytest.mark.parametrize("rule", ["not_worse", "better"])
def test_without_an_interval_the_champion_stays(rule):
    champion = ChampionComparison(3, not_compared="its 12 rows are too few", reasons=WHY)
    result = decide(replace(EVIDENCE, champion=champion), GateSpec(champion_rule=rule))
    assert result.decision == "keep"
    assert result.reasons == ("version 3 could not be compared on this holdout: its 12 rows are too few",)


def test_an_interval_without_width_of_models_that_differ_is_none():
    """Both models are right on all 40 rows, and not the same: forty rows do not show that they are as good."""
    target = (np.arange(40) % 2).astype(np.int64)
    first = np.stack([1.0 - target, 1.0 * target], axis=1) * 0.8 + 0.1
    score = target * 0.6 + np.linspace(0.1, 0.3, 40)
    second = np.stack([1.0 - score, score], axis=1)
    same, other = (compare(version_of(1, "binary", first), None, rows, target, "binary") for rows in (first, second))
    assert (same.gain.low, same.gain.high, same.not_compared) == (0.0, 0.0, None)
    assert (other.gain, other.measured_gain) == (None, 0.0)
    assert "its 40 rows are too few for an interval of the gain in roc_auc" in other.not_compared


@pytest.mark.parametrize(("metric", "is_alike"), [("roc_auc", True), ("pr_auc", True), ("log_loss", False)])
def test_models_of_one_order_are_equal_where_the_order_counts(metric, is_alike):
    """A calibration moves probabilities and leaves their order: a version that gained one loses no ROC AUC by it."""
    generator = np.random.default_rng(3)
    target = (np.arange(200) % 3 == 0).astype(np.int64)
    raw = predictions_of("binary", target, 1.0, generator)
    scaled = raw**0.7 / (raw**0.7).sum(axis=1, keepdims=True)
    compared = compare(version_of(1, "binary", raw), None, scaled, target, "binary", primary_metric=metric)
    assert compared.not_compared is None
    assert (compared.gain == ConfidenceInterval(0.0, 0.0)) == is_alike


@pytest.mark.parametrize(("value", "decision"), [(0.79, "promote"), (0.81, "keep")])
def test_a_champion_that_misses_a_floor_is_replaced_by_a_model_that_is_as_good(value, decision):
    champion = ChampionComparison(3, WIDE, metrics={"roc_auc": value}, rows=500)
    result = decide(replace(EVIDENCE, champion=champion), GateSpec(floors={"roc_auc": 0.8}))
    assert result.decision == decision
    assert ("version 3's roc_auc is 0.79 and must be at least 0.8" in result.reasons[-1]) == (decision == "promote")


# ------------------------------------------------------------------------------------------ which version is the best
DATASET = make_dataset("binary", rows=1_600)
SPLIT = {"by": "random", "fingerprint": "f"}


@cache
def stored_model() -> bytes:
    return onnx_of(DATASET)


def lineage(best: int | None = 1, schema: TableSchema = DATASET.schema) -> TrainingRun:
    """Version 1, under ``schema``, and version 2, the champion, as stored; the run follows a finding of drift."""
    world = TrainingRun.prepared(DATASET, "drift", candidates=ONE)
    register_champion(world, stored_model(), schema, split=SPLIT)
    register_champion(world, stored_model(), DATASET.schema, number=2, best=best, split=SPLIT)
    prepared = json.dumps(manifest(DATASET) | {"split": SPLIT}).encode()
    world.data_store.put(prepared_key(MODEL, RUN_ID, "manifest.json"), prepared)
    return world


def best_of(world: TrainingRun) -> Champion | None:
    stores = {"registry": world.registry, "model_store": world.model_store}
    champion = load_champion(MODEL, DATASET.schema, **stores)
    return load_best(MODEL, champion, DATASET.schema, **stores)


def test_the_best_version_is_the_one_that_the_champions_manifest_names():
    world = lineage()
    assert best_of(world).version == 1
    assert world.evaluate(world.train_all()).decision == "promote"
    report = document(world)
    assert report["champion"]["best"]["version"] == report["best_version"] == 1
    assert report["champion"]["best"]["metrics"] == report["champion"]["metrics"]


def test_a_version_that_is_its_own_best_needs_no_second_model():
    assert best_of(lineage(best=None)) is None


OTHER_CLASSES = replace(DATASET.schema, classes=("no", "perhaps", "yes"))
OTHER_TARGET = replace(DATASET.schema, columns=(*DATASET.schema.features, replace(DATASET.schema.target, name="x")))


@pytest.mark.parametrize(
    ("fault", "obstacle"),
    [
        ("retired", "it is retired"),
        ("deleted", "model.onnx"),
        ("damaged", "do not match the recorded SHA-256"),
        ("unknown", "no version"),
        (OTHER_CLASSES, "its 3 classes are not the present 2"),
        (OTHER_TARGET, "its target is x, now target"),
    ],
    ids=["retired", "deleted", "damaged", "unknown", "other classes", "other target"],
)
def test_a_best_version_that_cannot_be_compared_gives_way_to_the_champion(fault, obstacle):
    world = lineage(best=9 if fault == "unknown" else 1, schema=DATASET.schema if isinstance(fault, str) else fault)
    key = version_key(MODEL, 1, "model.onnx")
    if fault == "retired":
        retire(MODEL, 1, AuditContext("me", "leaky", NOW), registry=world.registry)
    elif fault == "deleted":
        world.model_store.delete([key])
    elif fault == "damaged":
        world.model_store.put(key, b"other bytes")
    best = best_of(world)
    assert best.model is None
    assert obstacle in best.obstacle
    if fault != "retired":
        return  # once is enough for the whole way
    verdict, report = world.evaluate(world.train_all()), document(world)
    assert (verdict.decision, report["best_version"]) == ("promote", 2)
    assert report["champion"]["best"]["not_compared"] == obstacle
    assert obstacle in verdict.reasons[1]
    assert "against version 2, the champion" in verdict.reasons[1]


def test_a_best_version_that_may_have_seen_the_holdout_is_no_measure():
    target = (np.arange(400) % 2).astype(np.int64)
    generator = np.random.default_rng(0)
    models = [predictions_of("binary", target, skill, generator) for skill in (1.0, 9.0, 1.0)]
    best = version_of(1, "binary", models[1])
    best.manifest.split_fingerprint, best.manifest.model, best.manifest.run_id = "other", MODEL, "gone"
    compared = compare(version_of(2, "binary", models[0]), best, models[2], target, "binary")
    assert compared.best.not_compared == "it may have been trained on rows of this holdout"
    assert compared.gain is not None


@pytest.mark.parametrize(
    ("ended", "begins", "biased"),
    [
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", False),
        ("2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z", False),
        ("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z", True),
        (20.0, 21, False),
        (20.0, 9.0, True),
        (None, "2026-01-01T00:00:00Z", True),
    ],
)
def test_a_holdout_that_begins_after_a_versions_training_rows_has_none_of_them(ended, begins, biased):
    manifest: Any = SimpleNamespace(split_fingerprint="f", trained_before=ended, model=MODEL, run_id="expired")
    split = {"by": "time", "fingerprint": "f", "test_from": begins}
    found = find_train_overlap(manifest, split, np.arange(500, dtype=np.uint64), MemoryObjectStore("data"))
    assert (found.unseen, found.biased) == (None, biased)


def test_a_champion_of_another_target_is_not_compared():
    dataset = make_dataset("binary")
    world, outcomes = trained(dataset, candidates=ONE)
    old = replace(dataset.schema, columns=(*dataset.schema.features, Column("last_year", "category", role="target")))
    register_champion(world, onnx_of(dataset), old)
    world.evaluate(outcomes)
    assert document(world)["champion"]["not_compared"] == "its target is last_year, now target"
