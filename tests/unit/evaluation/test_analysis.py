"""A whole evaluation: what it says of the winner, and what becomes of holdouts and answers that are wrong."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from millrace.data.prepared import PreparedSplit, dump_columns, dump_split, load_columns, load_row_ids, load_split
from millrace.documents import to_plain
from millrace.evaluation import analysis
from millrace.evaluation.analysis import MeasuredWinner, Splits, analyze
from millrace.evaluation.holdout import measure
from millrace.features import FeatureMatrix
from millrace.layout import evaluation_key, prepared_key
from millrace.metrics.catalogue import METRICS, get_metric
from millrace.schema import TASKS, TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.trial_record import LOGGED

from tests.prepared_data import Dataset, make_dataset, make_schema
from tests.registry_builders import make_trial
from tests.training_run import MODEL, RUN_ID, TickingClock, TrainingRun

ONE = {"candidates": ("logistic_regression",)}
RIDGE = {"candidates": ("ridge",)}


def evaluated(dataset: Dataset, clock: TickingClock | None = None, **spec: object) -> dict:
    """Return the evaluation of a run whose sensitive group is the first word of its rows."""
    world = TrainingRun.prepared(dataset, **spec)
    outcomes = world.train_all()
    city = dataset.splits["test"].features.strings[:, 0]
    world.data_store.put(prepared_key(MODEL, RUN_ID, "holdout_columns.npz"), dump_columns({"s0": city}))
    world.evaluate(outcomes, clock)
    return json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))


@pytest.mark.parametrize("task", TASKS)
def test_every_part_is_there_for_every_task(task):
    report = evaluated(
        make_dataset(task, rows=800),
        candidates=("ridge",) if task == "regression" else ("logistic_regression",),
        sensitive_groups=["s0"],
        evaluation={"slices": [{"by": ["s0"]}], "costs": {"false_negative": 3}},
    )

    assert set(report["holdout"]["metrics"]) == {metric.name for metric in METRICS[task]}
    assert set(report["fit"]["splits"]) == {"train", "validation", "holdout"}
    assert [point["rows"] for point in report["learning_curve"]["points"]] == [100, 200, 400]
    assert report["learning_curve"]["note"] == "Shares of fewer than 50 rows are left out."
    assert {part["name"] for part in report["slices"] if part["declared"]} >= {"s0 is Oslo", "s0 is missing"}
    assert [column["column"] for column in report["fairness"]] == ["s0"]
    names = [column["name"] for column in report["importance"]["columns"]]
    assert set(names) == {"n0", "n1", "n2", "s0", "s1"}
    assert names[0] == "n1"  # of which the target is made
    assert report["latency"]["row"]["rows"] == 1
    assert report["latency"]["batch"]["rows"] == 1_000
    assert (report["threshold"] is not None) == (task == "binary")
    assert (report["residuals"] is not None) == (task == "regression")
    assert (report["confusion"] is not None) == (task != "regression")
    assert ("roc" in (report["curves"] or {})) == (task == "binary")


def test_the_threshold_costs_less_than_the_simple_alternatives():
    report = evaluated(make_dataset("binary", rows=1_200), **ONE, evaluation={"costs": {"false_negative": 8}})
    threshold = report["threshold"]
    costs = {name: cost["value"] for name, cost in threshold["cost_per_row"]["holdout"].items()}
    assert threshold["positive_class"] == "yes"
    assert threshold["value"] < 0.5
    assert costs["threshold"] < min(costs["one_half"], costs["never_positive"])
    called = np.sum(report["confusion"]["matrix"], axis=0)
    assert called[1] > called[0] * 0.5  # the matrix is of decisions, and eight times as dear to miss one


def test_a_slice_below_its_floor_is_rejected_by_name():
    report = evaluated(
        make_dataset("binary", rows=800),
        **ONE,
        evaluation={"slices": [{"where": {"s0": "Oslo"}, "floors": {"accuracy": 0.999}}]},
    )
    assert report["decision"] == "reject"
    assert "in the slice 's0 is Oslo'" in report["reasons"][0]
    assert "accuracy" in report["reasons"][0]


def test_a_slow_model_is_rejected():
    limits = {"max_row_milliseconds": 50.0, "max_batch_milliseconds": None}
    report = evaluated(make_dataset("binary"), TickingClock(step=0.2), **ONE, gate=limits)
    assert report["decision"] == "reject"
    assert report["reasons"] == ["scoring one row takes 200 ms at the 95th percentile; the limit is 50 ms"]
    assert report["latency"]["row"]["p95_milliseconds"] == pytest.approx(200.0)


def test_importance_names_what_the_time_did_not_suffice_for():
    spec = {"evaluation": {"importance_seconds": 0.002}}
    report = evaluated(make_dataset("binary"), **ONE, **spec)
    measured = [column["name"] for column in report["importance"]["columns"]]
    assert sorted([*measured, *report["importance"]["not_measured"]]) == ["n0", "n1", "n2", "s0", "s1"]
    assert report["importance"]["not_measured"]


@pytest.mark.parametrize(("step", "repeats"), [(0.001, {5}), (2.0, {1})])
def test_columns_are_shuffled_once_in_any_case_and_again_for_a_few_seconds(step, repeats):
    report = evaluated(make_dataset("binary"), TickingClock(step=step), **ONE)
    assert {column["repeats"] for column in report["importance"]["columns"]} == repeats
    assert report["importance"]["not_measured"] == []


def with_holdout(dataset: Dataset, rows: np.ndarray) -> Dataset:
    return Dataset(dataset.schema, {**dataset.splits, "test": dataset.splits["test"].take(rows)})


def test_one_class_in_the_holdout_is_rejected_and_said():
    dataset = make_dataset("binary")
    only = np.flatnonzero(dataset.splits["test"].target == 1)
    report = evaluated(with_holdout(dataset, only), **ONE)
    assert report["decision"] == "reject"
    (reason,) = report["reasons"]
    assert reason.startswith("roc_auc is not defined on the holdout: all its rows have the class 'yes'")
    assert "roc" not in report["curves"]
    assert report["holdout"]["metrics"]["accuracy"]["value"] > 0


@pytest.mark.parametrize("task", TASKS)
def test_a_tiny_holdout_gives_a_decision_and_concludes_nothing_of_slices(task):
    dataset = make_dataset(task)
    report = evaluated(
        with_holdout(dataset, np.arange(3)), **(RIDGE if task == "regression" else ONE), sensitive_groups=["s0"]
    )
    assert report["decision"] in {"promote", "reject"}
    assert all(part["metrics"] is None for part in report["slices"])
    assert all(gap is None for column in report["fairness"] for gap in column["gaps"].values())


@pytest.mark.parametrize("task", TASKS)
def test_constant_answers_are_rejected_because_they_are_the_baselines(task, monkeypatch):
    def constant(self: OnnxModel, features) -> np.ndarray:
        shape = (len(features),) if task == "regression" else (len(features), len(self.schema.classes))
        return np.full(shape, 1 / 3 if task == "regression" else 1 / shape[1], dtype=np.float32)

    world = TrainingRun.prepared(make_dataset(task), **(RIDGE if task == "regression" else ONE))
    outcomes = world.train_all()
    monkeypatch.setattr(OnnxModel, "run", constant)
    verdict = world.evaluate(outcomes)
    assert verdict.decision == "reject"
    report = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert all(column["value"] == 0.0 for column in report["importance"]["columns"])
    assert report["fit"]["verdict"] in {"underfit", "unknown"}


@pytest.mark.parametrize("task", TASKS)
def test_answers_that_are_no_numbers_are_rejected_and_counted(task, monkeypatch):
    world = TrainingRun.prepared(make_dataset(task), **(RIDGE if task == "regression" else ONE))
    outcomes = world.train_all()
    real = OnnxModel.run

    def broken(self: OnnxModel, features) -> np.ndarray:
        answers = real(self, features)
        answers[:2] = np.nan
        return answers

    monkeypatch.setattr(OnnxModel, "run", broken)
    verdict = world.evaluate(outcomes)
    assert verdict.decision == "reject"
    assert verdict.reasons[0] == "the model's prediction is not a number for 2 rows of the holdout"
    report = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert report["holdout"]["metrics"] == {}
    assert report["slices"] is None


class ManyClasses:
    """Answers like a model of many classes: the class that the first number names is the likeliest."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema

    def run(self, features) -> np.ndarray:
        classes = len(self.schema.classes)
        named = np.clip(np.round(features.numbers[:, 0]), 0, classes - 1).astype(np.int64)
        return (0.5 * np.eye(classes)[named] + 0.5 / classes).astype(np.float32)


def test_many_classes_are_examined_in_little_room():
    rng = np.random.default_rng(0)
    rows, classes = 1_200, 120
    target = np.arange(rows) % classes
    numbers = np.stack([target + rng.normal(size=rows), rng.normal(size=rows)], axis=1).astype(np.float32)
    split = PreparedSplit(
        FeatureMatrix(numbers, np.empty((rows, 0), np.str_)), target, np.arange(rows, dtype=np.uint64)
    )
    schema = replace(make_schema("multiclass", 2, 0), classes=tuple(f"c{number:03d}" for number in range(classes)))
    model = ManyClasses(schema)
    answers = model.run(split.features)
    trivial = np.full((rows, classes), 1 / classes)
    measured, baseline = measure(schema, target, {"model": answers, "baseline": trivial}, 0).values()
    winner = MeasuredWinner(
        make_trial("t1"),
        model,
        schema,
        get_metric("multiclass", "roc_auc_ovr"),
        ModelSpec.parse({"evaluation": {"learning_curve": False}}),
        Splits(split, split, split),
        answers,
        measured,
        baseline,
        TickingClock(step=0.001),
    )

    document = to_plain(analyze(winner).analysis)

    assert document["confusion"]["matrix"] is None
    assert len(document["confusion"]["commonest"]) == 30
    assert len(document["confusion"]["per_class"]) == 100
    assert document["confusion"]["left_out_classes"] == 20
    assert document["importance"]["columns"][0]["name"] == "n0"
    assert len(json.dumps(document)) < 60_000
    low, high = (getattr(measured.estimates(0.95)["roc_auc_ovr"], end) for end in ("low", "high"))
    assert low < measured.metrics["roc_auc_ovr"] < high


def test_the_learning_curve_fits_what_the_winner_has_with_its_iterations_fixed(monkeypatch):
    fitted = []
    monkeypatch.setattr(analysis, "learning_curve", lambda trial, *_, **__: fitted.append(trial))
    winner = SimpleNamespace(
        spec=ModelSpec(),
        metric=get_metric("binary", "roc_auc"),
        trial=replace(make_trial("t1"), candidate="hist_gradient_boosting", parameters={"patience": 20}),
        record=SimpleNamespace(final_parameters={"max_iter": 7}),
        schema=None,
        splits=SimpleNamespace(train=None, validation=None),
        clock=None,
    )
    fit = SimpleNamespace(splits={name: SimpleNamespace(metrics={}) for name in ("train", "validation")})
    analysis._learning_curve(winner, fit)
    assert [trial.parameters for trial in fitted] == [{"max_iter": 7}]

    winner.trial = replace(winner.trial, candidate=LOGGED)
    assert analysis._learning_curve(winner, fit) is None
    assert len(fitted) == 1


def test_columns_told_apart_and_row_ids_come_back_as_they_were():
    columns = {"a": np.array(["x", ""], dtype=object), "b": np.array([1.5, np.nan])}
    read = load_columns(dump_columns(columns))
    assert read["a"].tolist() == ["x", ""]
    np.testing.assert_array_equal(read["b"], columns["b"])
    assert load_columns(dump_columns({})) == {}
    split = make_dataset("binary").splits["test"]
    np.testing.assert_array_equal(load_row_ids(dump_split(split)), load_split(dump_split(split)).row_ids)


def test_an_older_releases_data_has_no_columns_told_apart():
    world = TrainingRun.prepared(make_dataset("binary"), **ONE, sensitive_groups=["s0"])
    world.evaluate(world.train_all())
    report = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert report["fairness"] == []
    assert report["decision"] == "promote"
