"""The order in which rows are scored changes no number, whatever is chosen."""

from itertools import count

import numpy as np
import pytest
from millrace.features import FeatureMatrix
from millrace.schema import Column, TableSchema
from millrace.serving.model import CHUNK_ROWS, LoadedModel, OnnxModel
from millrace.serving.row_order import MIN_ROWS, RowOrder, find_keys
from millrace.training.candidates import get_candidate
from millrace.training.export import export_onnx
from millrace.training.preprocessing import FeatureTable

SCHEMA = TableSchema(
    (
        *(Column(f"number_{place}", "number") for place in range(4)),
        *(Column(f"word_{place}", "category") for place in range(2)),
        Column("label", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
)


def matrices(n_rows, seed=0):
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(n_rows, 4)).astype(np.float32)
    numbers[draw.random((n_rows, 4)) < 0.1] = np.nan
    words = np.array(["", "a", "b", "c", "unseen"], dtype=object)
    strings = words[draw.integers(0, 4 + (seed > 0), (n_rows, 2))]
    return FeatureMatrix(numbers, strings)


@pytest.fixture(scope="module", params=["hist_gradient_boosting", "logistic_regression"])
def model(request):
    features = matrices(2_000)
    target = (np.nan_to_num(features.numbers[:, 1]) + (features.strings[:, 0] == "a") > 0.3).astype(np.int64)
    features = FeatureMatrix(features.numbers, features.strings.astype(np.str_))
    pipeline = get_candidate(request.param, "binary").build("binary", features, {}, 0)
    pipeline.fit(FeatureTable(features), target)
    return OnnxModel.load(export_onnx(pipeline, features, "binary"), SCHEMA)


def ticking(steps):
    """Return a clock whose intervals last as given; then no time passes."""
    times = [0.0]
    for step in steps:
        times += [times[-1], times[-1] + step]
    ticks = count(1)
    return lambda: times[min(next(ticks), len(times) - 1)]


@pytest.mark.parametrize("faster", [True, False])
def test_every_number_is_that_of_the_rows_as_they_come(model, faster):
    # Of two blocks in each way, those as they come first.
    steps = [1.0, 0.5, 1.0, 0.5] if faster else [0.5, 1.0, 0.5, 1.0]
    order = RowOrder(model.run, ticking(steps))
    for seed in range(1, 8):
        features = matrices(MIN_ROWS + seed, seed)
        np.testing.assert_array_equal(order.score(features), model.run(features))
    assert {way: len(times) for way, times in order.seconds.items()} == {True: 2, False: 2}
    assert order._choose() == faster


def test_the_columns_that_decide_are_found_and_sorted_by(model):
    features = matrices(MIN_ROWS)
    first, second, *_ = find_keys(model.run, features)
    keys = {tuple(make(features)[:50].tolist()) for make in (first, second)}
    by_number = np.searchsorted(np.sort(features.numbers[:, 1]), features.numbers[:, 1])
    names = sorted(set(features.strings[:, 0].tolist()))
    by_word = tuple(names.index(name) for name in features.strings[:50, 0])
    assert by_word in keys
    [other] = keys - {by_word}
    assert np.corrcoef(other, by_number[:50])[0, 1] > 0.95


def test_small_blocks_are_scored_as_they_are_and_teach_nothing(model):
    order = RowOrder(model.run, lambda: pytest.fail("no time is measured"))
    features = matrices(MIN_ROWS - 1)
    np.testing.assert_array_equal(order.score(features), model.run(features))


def test_a_model_that_ignores_every_column_or_has_infinite_outputs_is_scored_as_it_is():
    features = matrices(MIN_ROWS)
    constant = RowOrder(lambda some: np.zeros((len(some), 2), np.float32))
    assert not constant.score(features).any()
    infinite = RowOrder(lambda some: np.full(len(some), np.inf, np.float32))
    assert np.isinf(infinite.score(features)).all()


def test_columns_without_a_value_and_one_that_is_constant_have_keys():
    numbers = np.full((MIN_ROWS, 2), np.nan, dtype=np.float32)
    numbers[:, 1] = 3.0
    features = FeatureMatrix(numbers, np.full((MIN_ROWS, 1), "a", dtype=object))

    def place(some):
        return np.arange(len(some)) * 1.0

    assert find_keys(place, features) == []
    order = RowOrder(place, ticking([]))
    assert order.score(features).tolist() == list(range(MIN_ROWS))


def test_a_first_block_is_scored_without_looking_for_columns(model):
    order = RowOrder(model.run, ticking([1.0, 0.5, 1.0, 0.5]), waits=1)
    features = matrices(MIN_ROWS)
    np.testing.assert_array_equal(order.score(features), model.run(features))
    assert not order._known
    order.score(features)
    assert order._known
    assert not order.is_as_they_come


@pytest.mark.parametrize("faster", [True, False])
def test_it_is_known_whether_sorting_pays(model, faster):
    order = RowOrder(model.run, ticking([1.0, 0.5, 1.0, 0.5] if faster else [0.5, 1.0, 0.5, 1.0]))
    for _ in range(4):
        assert not order.is_as_they_come
        order.score(matrices(MIN_ROWS))
    assert order.is_as_they_come == (not faster)


def test_rows_of_requests_are_scored_in_chunks_with_the_same_numbers(model):
    calls = []

    class Counted:
        def run(self, features):
            calls.append(len(features))
            return model.run(features)

    order = RowOrder.of_requests(LoadedModel("m", 1, Counted(), SCHEMA))
    for seed in range(1, 8):
        features = matrices(MIN_ROWS + 700 + seed, seed)
        np.testing.assert_array_equal(order.score(features), model.run(features))
    assert max(calls) == CHUNK_ROWS
