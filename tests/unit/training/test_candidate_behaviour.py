"""What every candidate must do, over every mix of columns: its ONNX model answers as its estimator does."""

import numpy as np
import pytest
from millrace.schema import TASKS, Task
from millrace.serving.onnx_model import OnnxModel
from millrace.training.candidates import CANDIDATES
from millrace.training.export import check_parity, export_onnx, perturbed, predict_estimator
from millrace.training.preprocessing import FeatureTable
from millrace.training.search_space import SEARCH_SPACES, SearchSpace
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

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
    parameters = dict(space.parameter_sets[0])
    if space.candidate == "random_forest":
        parameters["n_estimators"] = 15
    if space.candidate == "hist_gradient_boosting":
        parameters |= {"max_iter": 15, "min_samples_leaf": 5}
    return parameters


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize(("space", "task"), PAIRS)
def test_onnx_model_answers_as_its_estimator_does(space: SearchSpace, task: Task, mix: str):
    dataset = make_dataset(task, mix)
    train, validation = dataset.splits["train"], dataset.splits["validation"]
    pipeline = CANDIDATES[space.candidate].build(task, train.features, small_parameters(space), seed=3)
    with threadpool_limits(1):
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
        np.testing.assert_allclose(actual, expected, atol=2e-6)
        ordered = np.sort(expected, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 1e-5
        assert clear.any()
        assert (actual.argmax(axis=1) == pipeline.predict(FeatureTable(rows)))[clear].all()
