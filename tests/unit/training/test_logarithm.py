"""The second boosting of a regression fits the logarithm of a target with a heavy tail."""

from dataclasses import replace

import numpy as np
import pytest
from millrace.serving.model import OnnxModel
from millrace.training.candidates import CANDIDATES, has_heavy_tail
from millrace.training.export import check_parity, export_onnx
from millrace.training.fitting import HeldOutRows, fit_trial
from millrace.training.preprocessing import FeatureTable
from millrace.training.search_space import LOGARITHM, OF_LOGARITHM, search_spaces_for

from tests.prepared_data import MIXES, make_dataset
from tests.registry_builders import make_trial

PARAMETERS = {"max_iter": 20, "early_stopping": False, "min_samples_leaf": 5}


def heavy(mix="numbers", rows=400):
    """Return a dataset whose target is a price: positive, and its mean far above its median."""
    dataset = make_dataset("regression", mix, rows=rows)
    spread = dataset.splits["train"].target.std()
    raised = {
        name: replace(split, target=1_000.0 * np.exp(1.5 * (split.target - split.target.mean()) / spread))
        for name, split in dataset.splits.items()
    }
    return replace(dataset, splits=raised)


def fitted(dataset, **parameters):
    train = dataset.splits["train"]
    boosting = CANDIDATES["hist_gradient_boosting"]
    pipeline = boosting.build("regression", train.features, {**PARAMETERS, **parameters}, seed=3)
    return pipeline.fit(FeatureTable(train.features), train.target)


@pytest.mark.parametrize("mix", MIXES)
def test_onnx_model_predicts_the_target_itself(mix):
    dataset = heavy(mix)
    pipeline, validation = fitted(dataset, **{LOGARITHM: True}), dataset.splits["validation"]
    assert pipeline.is_logarithm

    body = export_onnx(pipeline, dataset.splits["train"].features, "regression")
    model = OnnxModel.load(body, dataset.schema)

    assert check_parity(pipeline, model, validation.features).passed
    predicted = model.run(validation.features)
    np.testing.assert_allclose(predicted, pipeline.predict(FeatureTable(validation.features)), rtol=1e-4)
    assert np.median(predicted) == pytest.approx(np.median(validation.target), rel=0.5)


@pytest.mark.parametrize(("dataset", "leaves"), [(heavy(), 3), (make_dataset("regression", "numbers"), 15)])
def test_a_logarithm_alone_is_fitted_by_trees_of_its_own_size(dataset, leaves):
    rows = FeatureTable(dataset.splits["validation"].features)
    own = {LOGARITHM: True, "max_leaf_nodes": 15, OF_LOGARITHM["max_leaf_nodes"]: 3}

    asked, named = fitted(dataset, **own), fitted(dataset, **{LOGARITHM: True, "max_leaf_nodes": leaves})

    assert asked.predict(rows).tobytes() == named.predict(rows).tobytes()


def test_another_target_is_fitted_as_it_is():
    dataset = make_dataset("regression", "numbers")
    rows = FeatureTable(dataset.splits["validation"].features)

    asked, plain = fitted(dataset, **{LOGARITHM: True}), fitted(dataset)

    assert not asked.is_logarithm
    assert asked.predict(rows).tobytes() == plain.predict(rows).tobytes()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (np.exp(np.linspace(-3, 3, 200)), True),
        (np.linspace(1, 2, 200), False),
        (np.concatenate([np.zeros(50), np.exp(np.linspace(-3, 3, 150))]), False),  # a count with many zeros
        (np.concatenate([[-1.0], np.exp(np.linspace(-3, 3, 199))]), False),
        (np.concatenate([[0.0], np.exp(np.linspace(-3, 3, 199))]), True),
    ],
)
def test_a_heavy_tail_is_positive_with_a_mean_far_above_its_median(target, expected):
    assert has_heavy_tail(target) is expected


@pytest.mark.parametrize("folds", [1, 3])
def test_a_trial_is_measured_in_the_targets_units_and_the_same_each_time(folds):
    dataset = heavy()
    (space,) = (one for one in search_spaces_for("regression") if one.candidate == "hist_gradient_boosting")
    parameters = {**space.complete(space.second, 0, 240), "max_iter": 30}
    trial = replace(make_trial("t1"), candidate=space.candidate, parameters=parameters, folds=folds)
    splits = (dataset.splits["train"], dataset.splits["validation"])

    first, second = (fit_trial(trial, dataset.schema, *splits) for _ in range(2))

    assert first.onnx_bytes == second.onnx_bytes
    held = HeldOutRows.load(first.held_out_bytes)
    assert np.median(held.predictions) == pytest.approx(np.median(held.target), rel=0.5)
    assert first.metrics["rmse"] < np.std(held.target)
