"""What every candidate must do, over every mix of columns: its ONNX model answers as its estimator does."""

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from millrace.schema import TASKS, Task
from millrace.serving.model import OnnxModel
from millrace.training.candidates import CANDIDATES
from millrace.training.early_stopping import fixed
from millrace.training.export import check_parity, export_onnx, perturbed, predict_estimator
from millrace.training.preprocessing import FeatureTable
from millrace.training.search_space import SEARCH_SPACES, SearchSpace
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tests.prepared_data import MIXES, make_dataset

PAIRS = [
    pytest.param(space, task, id=f"{space.candidate}-{task}")
    for space in SEARCH_SPACES
    for task in TASKS
    if task in space.tasks
]


def test_every_candidate_can_be_planned_and_built():
    assert set(CANDIDATES) == {space.candidate for space in SEARCH_SPACES}


def small_parameters(space: SearchSpace) -> dict[str, object]:
    """Forests and boosting of a few trees behave as those of many do."""
    parameters = fixed({**space.fixed, **space.first}, None)
    if "n_estimators" in parameters:
        parameters["n_estimators"] = 15
    if "l2_regularization" in parameters:
        parameters |= {"max_iter": 15, "min_samples_leaf": 5}
    if "hidden_layer_sizes" in parameters:
        parameters["max_iter"] = 20
    return parameters


@pytest.mark.parametrize("parameters", [{}, {"hidden_layer_sizes": [32, 16]}], ids=["first", "two layers"])
def test_a_network_answers_alike_whatever_its_layers(parameters: dict[str, object]):
    assert_parity("neural_network", "regression", {"alpha": 1.0, "max_iter": 20, **parameters}, "both")


@pytest.mark.parametrize("max_features", ["sqrt", 0.3, 1.0])
@pytest.mark.parametrize("candidate", ["random_forest", "extra_trees"])
def test_a_forest_answers_alike_whatever_its_splits_see(candidate: str, max_features: object):
    parameters = {"n_estimators": 10, "max_depth": 24, "min_samples_leaf": 1, "max_features": max_features}
    assert_parity(candidate, "multiclass", parameters, "missing values")


@pytest.mark.parametrize("n_neighbours", [3, 50, 10_000])
def test_neighbours_answer_alike_however_many_count(n_neighbours: int):
    assert_parity("nearest_neighbours", "binary", {"n_neighbours": n_neighbours}, "integers")


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(("space", "task"), PAIRS)
def test_onnx_model_answers_as_its_estimator_does(space: SearchSpace, task: Task, mix: str):
    assert_parity(space.candidate, task, small_parameters(space), mix)


def assert_parity(candidate: str, task: Task, parameters: Mapping[str, object], mix: str, repeats: int = 1) -> None:
    dataset = make_dataset(task, mix)
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    pipeline = CANDIDATES[candidate].build(task, train.features, parameters, seed=3)
    pipeline.repeats = repeats
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the networks of these tests are not fitted to their end
        pipeline.fit(FeatureTable(train.features), train.target)

    model = OnnxModel.load(export_onnx(pipeline, train.features, task), dataset.schema)
    report = check_parity(pipeline, model, validation.features)

    assert report.passed, report
    assert report.rows == 4 * len(validation)
    rows = perturbed(validation.features)
    expected, actual = predict_estimator(pipeline, rows, task), model.run(rows)
    assert actual.dtype == np.float32
    assert np.isfinite(actual).all()
    if task == "regression":
        assert actual.shape == (len(rows),)
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)
    else:
        assert actual.shape == (len(rows), len(dataset.schema.classes))
        # A network multiplies what rounding leaves of extreme numbers.
        np.testing.assert_allclose(actual, expected, atol=5e-5 if candidate == "neural_network" else 2e-6)
        ordered = np.sort(expected, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 1e-4
        assert (actual.argmax(axis=1) == pipeline.predict(FeatureTable(rows)))[clear].all()
