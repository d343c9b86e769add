"""A refit averages several fits of a network, as one network."""

import numpy as np
import pytest
import sklearn.utils
from millrace.layout import split_key, trial_key
from millrace.schema import TASKS
from millrace.training.candidates import ScaledMLPRegressor
from millrace.training.repeated_fits import MAX_REPEATED_ROWS, count_repeats, fit_repeatedly, plain_batches
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import TrialRecord
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier, _multilayer_perceptron

from tests.prepared_data import MIXES, make_dataset
from tests.training_run import MODEL, RUN_ID, TickingClock, TrainingRun
from tests.unit.training.test_candidate_behaviour import assert_parity

SMALL = {"hidden_layer_sizes": [8], "max_iter": 20}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    numbers = rng.normal(size=(150, 4)).astype(np.float32)
    return numbers, numbers[:, 0] * numbers[:, 1] + 0.3 * rng.normal(size=150)


def fits_of(estimator, numbers, target):
    fits = [clone(estimator).set_params(random_state=5 + number) for number in range(3)]
    return [fit.fit(numbers, target) for fit in fits]


@pytest.mark.parametrize("layers", [[8], [8, 4]])
def test_merged_fits_predict_the_mean_of_their_values(layers, rows):
    numbers, target = rows
    network = ScaledMLPRegressor(hidden_layer_sizes=layers, max_iter=20, random_state=5)
    expected = np.array([fit.predict(numbers) for fit in fits_of(network, numbers, target)])

    merged = fit_repeatedly(network, numbers, target, 3)

    np.testing.assert_allclose(merged.predict(numbers), expected.mean(axis=0), rtol=1e-4, atol=1e-4)
    assert np.abs(expected - expected.mean(axis=0)).max() > 0.01  # the fits differ


@pytest.mark.parametrize("classes", [2, 3])
def test_merged_fits_predict_the_mean_of_their_log_odds(classes, rows):
    numbers, target = rows
    network = MLPClassifier(random_state=5, **SMALL)
    target = np.digitize(target, np.quantile(target, np.arange(1, classes) / classes))
    logs = np.mean([np.log(fit.predict_proba(numbers)) for fit in fits_of(network, numbers, target)], axis=0)
    expected = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)

    merged = fit_repeatedly(network, numbers, target, 3)

    np.testing.assert_allclose(merged.predict_proba(numbers), expected, atol=1e-5)


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("task", TASKS)
def test_onnx_model_of_merged_fits_answers_as_they_do(task, mix):
    assert_parity("neural_network", task, SMALL, mix, repeats=2)


@pytest.mark.parametrize(
    ("candidate", "rows", "weight", "expected"),
    [
        ("neural_network", MAX_REPEATED_ROWS, 1.0, 3),
        ("neural_network", MAX_REPEATED_ROWS, 0.6, 3),
        ("neural_network", MAX_REPEATED_ROWS, 0.59, 2),
        ("neural_network", MAX_REPEATED_ROWS, 0.29, 1),
        ("neural_network", MAX_REPEATED_ROWS + 1, 1.0, 1),
        ("hist_gradient_boosting", 500, 1.0, 1),
    ],
)
def test_networks_of_few_rows_are_repeated_by_their_weight(candidate, rows, weight, expected):
    assert count_repeats(candidate, rows, weight) == expected


def test_batches_by_index_alone_give_the_same_network(rows):
    numbers, target = rows
    network = ScaledMLPRegressor(hidden_layer_sizes=[8], max_iter=5, random_state=3, batch_size=40)
    general = clone(network).fit(numbers, target)

    with plain_batches():
        plain = clone(network).fit(numbers, target)

    for ours, theirs in zip(plain.coefs_ + plain.intercepts_, general.coefs_ + general.intercepts_, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert _multilayer_perceptron._safe_indexing is sklearn.utils._safe_indexing


def refitted(**spec):
    world = TrainingRun.prepared(make_dataset("binary", rows=200), candidates=("neural_network",), **spec)
    world.clock = TickingClock(step=0.001)
    (outcome,) = world.search()
    assert outcome.outcome == "succeeded", outcome
    return world, TrialRecord.read(world.model_store.get(trial_key(MODEL, RUN_ID, outcome.trial_id, "trial.json")))


def test_the_refit_of_a_winner_has_the_units_of_its_fits():
    world, record = refitted(training={"trials": 1, "folds": 1})
    alone, once = refitted(training={"trials": 1, "folds": 1, "ensemble": "never"})

    assert (record.repeats, once.repeats) == (3, 1)
    key = trial_key(MODEL, RUN_ID, record.trial_id, "model.onnx")
    assert len(world.model_store.get(key)) > 1.4 * len(alone.model_store.get(key))


def test_fits_beyond_a_limit_of_the_gate_give_way_to_one():
    world, record = refitted(training={"trials": 1, "folds": 1}, gate={"max_model_bytes": 7_000})

    assert record.repeats == 1
    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    assert reproduce_trial(record, make_dataset("binary").schema, bodies).byte_equal
