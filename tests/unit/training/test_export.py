"""Parity finds a model that is wrong, and only that."""

import numpy as np
import onnx
import pytest
from millrace.errors import ModelExportError
from millrace.features import FLOAT32_MAX
from millrace.serving.model import OnnxModel
from millrace.training.candidates import get_candidate
from millrace.training.early_stopping import fixed
from millrace.training.export import (
    EXTREME_FACTOR,
    UNSEEN_STRING,
    check_parity,
    export_onnx,
    perturbed,
    predict_estimator,
    round_thresholds_down,
)
from millrace.training.preprocessing import FeatureTable, build_preprocessor
from millrace.training.search_space import select_search_spaces
from millrace.training.trial_record import ParityReport
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from tests.prepared_data import Dataset, make_dataset


def fitted(dataset: Dataset, name: str) -> Pipeline:
    train, task = dataset.splits["train"], dataset.schema.task
    candidate = get_candidate(name, task)
    (space,) = select_search_spaces(task, (candidate.name,))
    pipeline = candidate.build(task, train.features, fixed({**space.fixed, **space.first}, None), seed=0)
    return pipeline.fit(FeatureTable(train.features), train.target)


def test_model_with_the_outputs_that_serving_expects():
    dataset = make_dataset("multiclass")
    body = export_onnx(fitted(dataset, "logistic_regression"), dataset.splits["train"].features, "multiclass")

    graph = onnx.load_from_string(body).graph

    assert [node.name for node in graph.input] == ["numbers", "strings"]
    assert [node.name for node in graph.output] == ["label", "probabilities"]


def test_input_of_width_zero_is_left_out():
    dataset = make_dataset("regression", "numbers only")
    body = export_onnx(fitted(dataset, "ridge"), dataset.splits["train"].features, "regression")

    graph = onnx.load_from_string(body).graph

    assert [node.name for node in graph.input] == ["numbers"]
    assert [node.name for node in graph.output] == ["value"]


@pytest.mark.parametrize(("task", "name"), [("binary", "logistic_regression"), ("regression", "ridge")])
def test_another_model_does_not_pass_for_the_estimator(task, name):
    dataset, other = make_dataset(task), make_dataset(task, seed=9)
    body = export_onnx(fitted(other, name), other.splits["train"].features, task)

    report = check_parity(
        fitted(dataset, name), OnnxModel.load(body, dataset.schema), dataset.splits["validation"].features
    )

    assert not report.passed
    assert report.max_probability_difference > 1e-3


def test_model_that_only_mishandles_missing_values_does_not_pass():
    """A forest splits on NaN by itself, but its ONNX form sends NaN elsewhere: the fault parity exists for."""
    dataset = make_dataset("binary", "missing values")
    train = dataset.splits["train"].features
    preprocessor = build_preprocessor("native", train)
    pipeline = Pipeline([("preprocess", preprocessor), ("estimator", RandomForestClassifier(10, random_state=0))])
    pipeline.fit(FeatureTable(train), dataset.splits["train"].target)
    body = export_onnx(pipeline, train, "binary")

    report = check_parity(pipeline, OnnxModel.load(body, dataset.schema), dataset.splits["validation"].features)

    assert not report.passed
    assert report.max_probability_difference > 0.05


def cancelling_network(seed: int) -> tuple[Pipeline, Dataset]:
    """Fit a network whose hidden units grow with an extreme number, and cancel in what it predicts."""
    dataset, rng, units = make_dataset("regression", "numbers only"), np.random.default_rng(seed), 32
    pipeline = fitted(dataset, "neural_network")
    bounds = pipeline[0].named_transformers_["numbers"]["clip"]
    bounds.low_, bounds.high_ = np.full_like(bounds.low_, -FLOAT32_MAX), np.full_like(bounds.high_, FLOAT32_MAX)
    network, inputs = pipeline[-1], dataset.splits["train"].features.numbers.shape[1]
    outer = rng.normal(size=(units, 1))
    network.coefs_ = [np.tile(rng.uniform(0.5, 2.0, (inputs, 1)), (1, units)), outer - outer.mean()]
    network.intercepts_ = [rng.uniform(0.0, 0.1, units), np.zeros(1)]
    network.coefs_, network.intercepts_ = (
        [part.astype(np.float32) for part in parts] for parts in (network.coefs_, network.intercepts_)
    )
    return pipeline, dataset


@pytest.mark.parametrize("seed", range(5))
def test_rounding_of_extreme_numbers_is_no_difference(seed):
    pipeline, dataset = cancelling_network(seed)
    rows = dataset.splits["validation"].features
    model = OnnxModel.load(export_onnx(pipeline, dataset.splits["train"].features, "regression"), dataset.schema)
    expected = predict_estimator(pipeline, perturbed(rows), "regression")
    assert np.abs(model.run(perturbed(rows)) - expected).max() > 2e-4 * np.abs(expected).max(), "nothing is rounded"

    report = check_parity(pipeline, model, rows)

    assert report.passed, report


def test_a_conversion_that_mishandles_extreme_numbers_alone_does_not_pass():
    dataset = make_dataset("regression", "numbers only")
    pipeline, rows = fitted(dataset, "nearest_neighbours"), dataset.splits["validation"].features
    model = OnnxModel.load(export_onnx(pipeline, dataset.splits["train"].features, "regression"), dataset.schema)
    # The estimator is not cut as the model is: only numbers past ten standard deviations make a difference.
    pipeline[-1]._average_block = lambda values: values[:, :1]

    assert not check_parity(pipeline, model, rows).passed


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("regression", " by up to 0.25 of a value's size, over 400 rows"),
        ("binary", " by up to 0.25 in a probability, with another label on 3 of 400 rows"),
    ],
)
def test_a_difference_is_described_in_the_terms_of_its_task(task, text):
    assert ParityReport(0.25, 3, 400, passed=False).describe(task) == text


def test_rounding_split_points_leaves_the_estimators_answers_as_they_were():
    dataset = make_dataset("regression", "neighbours in float32")
    pipeline, rows = fitted(dataset, "hist_gradient_boosting"), dataset.splits["validation"].features
    before = predict_estimator(pipeline, rows, "regression")
    split_points = [tree.nodes["num_threshold"].copy() for (tree,) in pipeline[-1]._predictors]

    round_thresholds_down(pipeline[-1])

    rounded = [tree.nodes["num_threshold"] for (tree,) in pipeline[-1]._predictors]
    assert any((new < old).any() for new, old in zip(rounded, split_points, strict=True))
    assert all((new == new.astype(np.float32)).all() for new in rounded)
    np.testing.assert_array_equal(predict_estimator(pipeline, rows, "regression"), before)


def test_estimator_without_onnx_form_is_named():
    dataset = make_dataset("binary", "numbers only")
    pipeline = fitted(dataset, "logistic_regression")
    pipeline.steps.insert(1, ("square", FunctionTransformer(np.square).fit(np.ones((2, 3)))))

    with pytest.raises(ModelExportError, match="LogisticRegression could not be converted to ONNX"):
        export_onnx(pipeline, dataset.splits["train"].features, "binary")


def test_perturbed_rows_change_one_column_a_row():
    features = make_dataset("binary").splits["validation"].features
    rows = len(features)

    made = perturbed(features)

    assert len(made) == 4 * rows
    np.testing.assert_array_equal(made.numbers[:rows], features.numbers)
    np.testing.assert_array_equal(made.strings[:rows], features.strings)
    missing, extreme, unseen = (slice(copy * rows, (copy + 1) * rows) for copy in (1, 2, 3))
    assert (np.isnan(made.numbers[missing]).sum(axis=1) == 1).all()
    assert ((made.numbers[extreme] != features.numbers).sum(axis=1) == 1).all()
    assert np.abs(made.numbers[extreme]).max() >= EXTREME_FACTOR * np.abs(features.numbers).max() * 0.99
    assert ((made.strings[unseen] == UNSEEN_STRING).sum(axis=1) == 1).all()
