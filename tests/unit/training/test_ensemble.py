"""Ensembles: weights that pay only where they do, and one graph that is the average of its members."""

import numpy as np
import onnx
import pytest
from millrace.errors import ModelExportError
from millrace.features import FeatureMatrix
from millrace.metrics.catalogue import get_metric
from millrace.serving.model import PROBABILITIES_OUTPUT, OnnxModel
from millrace.training.candidates import get_candidate
from millrace.training.early_stopping import fixed
from millrace.training.ensemble import (
    LEAST_ROWS,
    LEAST_WEIGHT,
    MAX_BOOSTINGS,
    MAX_MEMBERS,
    HeldOutPredictions,
    average_weights,
    choose_ensemble,
    row_losses,
)
from millrace.training.ensemble_graph import check_average, combine_models
from millrace.training.export import append_scaling, export_onnx
from millrace.training.preprocessing import FeatureTable
from millrace.training.probability_scaling import ProbabilityScaling
from millrace.training.search_space import SEARCH_SPACES

from tests.prepared_data import make_dataset

TASKS = ("binary", "multiclass", "regression")


def held_out(task, *, noise, rows=600, seed=0):
    """Predictions with independent errors of the given sizes."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=rows)
    fold_of = rng.integers(0, 5, rows)
    if task == "regression":
        target = signal
        found = [signal + size * rng.normal(size=rows) for size in noise]
    else:
        target = (rng.random(rows) < 1 / (1 + np.exp(-2 * signal))).astype(np.int64)
        scores = [1 / (1 + np.exp(-2 * (signal + size * rng.normal(size=rows)))) for size in noise]
        found = [np.stack([1 - score, score], axis=1) for score in scores]
    return HeldOutPredictions(task, target, fold_of, {f"{i:02d}-trial": one for i, one in enumerate(found)})


class TestChoice:
    @pytest.mark.parametrize("task", ["binary", "regression"])
    def test_models_with_errors_of_their_own_are_averaged(self, task):
        choice = choose_ensemble(held_out(task, noise=[0.5, 0.5, 0.5]), get_metric(task, None))
        assert len(choice.weights) >= 2
        assert sum(choice.weights.values()) == pytest.approx(1.0)
        assert choice.report.ensemble_loss < choice.report.loss
        assert "an average of trials has a loss of" in choice.report.reason

    @pytest.mark.parametrize("task", ["binary", "regression"])
    def test_a_best_trial_that_nothing_adds_to_stays_alone(self, task):
        choice = choose_ensemble(held_out(task, noise=[0.0, 3.0, 3.0]), get_metric(task, None))
        assert choice.weights == {"00-trial": 1.0}

    def test_a_copy_of_the_best_adds_nothing(self):
        rows = held_out("regression", noise=[0.5])
        both = {**rows.predictions, "01-trial": rows.predictions["00-trial"]}
        choice = choose_ensemble(
            HeldOutPredictions(rows.task, rows.target, rows.fold_of, both), get_metric("regression", None)
        )
        assert choice.weights == {"00-trial": 1.0}

    def test_an_average_whose_weights_do_not_hold_on_other_rows_is_refused(self):
        # Each of two trials knows one half. With weights of all rows their average is better than the best trial; with
        # those of the other half it is far worse.
        rng = np.random.default_rng(0)
        target, half = rng.normal(size=400), np.arange(400) % 2
        errors = [rng.choice([-1.0, 1.0], 400), 1.6 * half, 1.6 * (1 - half)]
        predictions = {f"{number:02d}-trial": target + error for number, error in enumerate(errors)}
        choice = choose_ensemble(
            HeldOutPredictions("regression", target, half, predictions), get_metric("regression", None)
        )
        assert choice.weights == {"00-trial": 1.0}
        assert choice.report.reason.endswith("and the average is worse by more than chance")

    def test_few_rows_choose_no_weights(self):
        choice = choose_ensemble(
            held_out("regression", noise=[0.5, 0.5], rows=LEAST_ROWS - 1), get_metric("regression", None)
        )
        assert choice.weights == {"00-trial": 1.0}
        assert "too few" in choice.report.reason

    def test_one_trial_is_itself(self):
        choice = choose_ensemble(held_out("regression", noise=[0.5]), get_metric("regression", None))
        assert choice.weights == {"00-trial": 1.0}
        assert choice.report.loss is None

    def test_an_average_that_ranks_worse_by_the_metric_is_not_taken(self):
        rows = held_out("binary", noise=[0.3], rows=400)
        # The same order of rows at another certainty: the log loss falls, and a metric of decisions may not.
        sure = rows.predictions["00-trial"] ** 6
        best = sure / sure.sum(axis=1, keepdims=True)
        other = 1.0 - rows.predictions["00-trial"]
        choice = choose_ensemble(
            HeldOutPredictions(rows.task, rows.target, rows.fold_of, {"00-best": best, "01-other": other}),
            get_metric("binary", "roc_auc"),
        )
        before = get_metric("binary", "roc_auc").compute(rows.target, best)
        average = sum(weight * {"00-best": best, "01-other": other}[name] for name, weight in choice.weights.items())
        assert get_metric("binary", "roc_auc").compute(rows.target, average) >= before

    def test_members_are_few_and_weights_sum_to_one(self):
        rows = held_out("regression", noise=[0.5] * 8)
        errors = np.stack(list(rows.predictions.values())) - rows.target
        weights = average_weights("regression", errors, seed=0)
        assert np.count_nonzero(weights) == MAX_MEMBERS
        assert weights.sum() == pytest.approx(1.0)
        assert weights[weights > 0].min() >= LEAST_WEIGHT

    def test_a_third_boosting_gives_way_to_another_candidate(self):
        rows = held_out("regression", noise=[0.5] * 8)
        errors = np.stack(list(rows.predictions.values())) - rows.target
        boostings = np.flatnonzero(average_weights("regression", errors, seed=0)).tolist()
        weights = average_weights("regression", errors, seed=0, boostings=boostings)
        assert np.count_nonzero(weights[boostings]) == MAX_BOOSTINGS
        assert np.count_nonzero(weights) == MAX_MEMBERS
        assert weights.sum() == pytest.approx(1.0)

    def test_losses_of_rows(self):
        assert row_losses("regression", np.array([1.0, 2.0]), np.array([1.0, 4.0])).tolist() == [0.0, 4.0]
        impossible = row_losses("binary", np.array([1]), np.array([[1.0, 0.0]]))
        assert np.isfinite(impossible).all()


def exported(candidate, dataset):
    """Return the bytes of a fitted candidate."""
    schema, train = dataset.schema, dataset.splits["train"]
    space = next(one for one in SEARCH_SPACES if one.candidate == candidate and schema.task in one.tasks)
    small = {"hist_gradient_boosting": {"max_iter": 10}, "extra_trees": {"n_estimators": 10}}
    parameters = fixed({**space.fixed, **space.first, **small.get(candidate, {})}, None)
    pipeline = get_candidate(candidate, schema.task).build(schema.task, train.features, parameters, 0)
    return export_onnx(pipeline.fit(FeatureTable(train.features), train.target), train.features, schema.task)


def members_of(task, dataset):
    names = ("hist_gradient_boosting", "ridge" if task == "regression" else "logistic_regression", "extra_trees")
    return [exported(name, dataset) for name in names]


class TestGraph:
    @pytest.mark.parametrize("mix", ["both", "numbers only", "strings only", "missing values"])
    @pytest.mark.parametrize("task", TASKS)
    def test_graph_is_the_average_of_its_members(self, task, mix):
        dataset = make_dataset(task, mix, rows=300)
        bodies, weights = members_of(task, dataset), (0.5, 0.25, 0.25)
        average = OnnxModel.load(combine_models(bodies, weights, task), dataset.schema)
        check_average(
            [OnnxModel.load(body, dataset.schema) for body in bodies],
            weights,
            average,
            dataset.splits["validation"].features,
        )

    def test_same_members_give_the_same_bytes(self):
        bodies = members_of("binary", make_dataset("binary", rows=200))
        assert combine_models(bodies, (0.5, 0.25, 0.25), "binary") == combine_models(
            bodies, (0.5, 0.25, 0.25), "binary"
        )

    def test_values_beyond_float32_stay_float64(self):
        dataset = make_dataset("regression", rows=200)
        far = {
            name: type(split)(split.features, split.target + 1e9, split.row_ids)
            for name, split in dataset.splits.items()
        }
        moved = type(dataset)(dataset.schema, far)
        bodies = members_of("regression", moved)
        model = OnnxModel.load(combine_models(bodies, (0.5, 0.25, 0.25), "regression"), moved.schema)
        values = model.run(moved.splits["test"].features)
        assert values.dtype == np.float64
        assert float(np.std(values)) > 0.1

    def test_calibrated_members_and_a_calibrated_average(self):
        dataset = make_dataset("binary", rows=200)
        scaling = ProbabilityScaling("temperature", np.array([0.7, 0.7]), np.zeros(2))
        bodies = [append_scaling(body, scaling) for body in members_of("binary", dataset)]
        body = combine_models(bodies, (0.5, 0.25, 0.25), "binary")
        model = OnnxModel.load(append_scaling(body, scaling), dataset.schema)
        features = dataset.splits["test"].features
        raw = model.run_raw(features)
        members = [OnnxModel.load(one, dataset.schema).run(features) for one in bodies]
        assert np.allclose(raw, 0.5 * members[0] + 0.25 * members[1] + 0.25 * members[2], atol=1e-6)
        assert np.allclose(scaling.apply(raw), model.run(features), atol=1e-5)

    def test_labels_follow_the_average(self):
        dataset = make_dataset("multiclass", rows=200)
        body = combine_models(members_of("multiclass", dataset), (0.5, 0.25, 0.25), "multiclass")
        onnx.checker.check_model(onnx.load_from_string(body))
        model = OnnxModel.load(body, dataset.schema)
        inputs = model._inputs(dataset.splits["test"].features)
        labels, probabilities = model.session.run(["label", PROBABILITIES_OUTPUT], inputs)
        assert (labels == probabilities.argmax(axis=1)).all()

    def test_a_graph_of_other_weights_is_refused(self):
        dataset = make_dataset("binary", rows=200)
        bodies = members_of("binary", dataset)
        average = OnnxModel.load(combine_models(bodies, (0.9, 0.05, 0.05), "binary"), dataset.schema)
        members = [OnnxModel.load(body, dataset.schema) for body in bodies]
        with pytest.raises(ModelExportError, match="average of its members"):
            check_average(members, (0.05, 0.05, 0.9), average, dataset.splits["test"].features)

    def test_missing_numbers_and_unseen_strings_reach_every_member(self):
        dataset = make_dataset("regression", rows=200)
        bodies = members_of("regression", dataset)
        model = OnnxModel.load(combine_models(bodies, (0.5, 0.25, 0.25), "regression"), dataset.schema)
        rows = dataset.splits["test"].features.take(np.arange(2))
        odd = FeatureMatrix(np.full_like(rows.numbers, np.nan), np.full(rows.strings.shape, "Atlantis"))
        assert np.isfinite(model.run(odd)).all()


def test_rows_are_predicted_by_weights_that_do_not_know_them():
    rows = held_out("regression", noise=[1.0] * 8, rows=150)
    choice = choose_ensemble(rows, get_metric("regression", None))
    assert len(choice.weights) > 1
    own = sum(weight * rows.predictions[name] for name, weight in choice.weights.items())
    losses = [float(row_losses("regression", rows.target, each).mean()) for each in (choice.predictions, own)]
    assert losses[0] == pytest.approx(choice.report.ensemble_loss)
    assert losses[0] > losses[1]
