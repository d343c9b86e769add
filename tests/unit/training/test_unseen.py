"""A value that training has not seen is scored near the average, by every candidate and its ONNX form."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.features import FeatureMatrix
from millrace.schema import Column, TableSchema, Task
from millrace.serving.model import OnnxModel
from millrace.training import candidates
from millrace.training.export import check_parity, export_onnx, predict_estimator
from millrace.training.fitting import fit_pipeline
from millrace.training.search_space import SEARCH_SPACES, SearchSpace
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from tests.unit.training.test_candidate_behaviour import small_parameters

ROWS = 600
#: Of the numeric feature that is noise, for the rows that are scored.
NOISE = np.linspace(-1.5, 1.5, 12, dtype=np.float32)


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


#: Categories of each row, their chance of the second class, and the unseen values of a row.
Kind = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, list[str]]]


def among_four(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    codes = rng.integers(0, 4, ROWS)
    return np.array(["A", "B", "C", "D"])[codes][:, None], np.array([0.95, 0.6, 0.1, 0.05])[codes], ["never seen"]


def of_two(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    codes = (rng.random(ROWS) < 0.3).astype(int)
    return np.array(["no", "yes"])[codes][:, None], np.array([0.03, 0.97])[codes], ["maybe"]


def never_missing(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    strings, chance, _ = of_two(rng)
    return strings, 1.0 - chance, [""]


def several_at_once(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    codes = rng.integers(0, 3, (ROWS, 3))
    chance = np.where(codes.sum(axis=1) > 3, 0.85, 0.15)
    return np.array(["a", "b", "c"])[codes], chance, ["u", "", "w"]


def many_values(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    codes = rng.integers(0, 100, ROWS)
    return np.char.add("shop ", codes.astype(str))[:, None], np.where(codes % 2, 0.95, 0.05), ["shop 999"]


def integers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[str]]:
    codes = rng.integers(0, 3, ROWS)
    return np.array(["1", "2", "3"])[codes][:, None], np.array([0.9, 0.05, 0.05])[codes], ["0"]


def fitted(space: SearchSpace, task: Task, columns: list[Column], features: FeatureMatrix, target: np.ndarray):
    classes = () if task == "regression" else tuple(map(str, np.unique(target)))
    schema = TableSchema((*columns, Column("target", "number", role="target")), task, classes)
    trial = Trial("m", "r", "01", space.candidate, small_parameters(space), seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline, _ = fit_pipeline(trial, schema, PreparedSplit(features, target, np.arange(ROWS, dtype=np.uint64)))
    model = OnnxModel.load(export_onnx(pipeline, features, task), schema)
    assert check_parity(pipeline, model, features.take(np.arange(150))).passed
    return pipeline, model


def scored(space: SearchSpace, task: Task, strings: np.ndarray, target: np.ndarray, unseen: list[str]):
    """Return the predictions for rows of unseen values, and those for the rows of training."""
    noise = np.random.default_rng(1).normal(size=(ROWS, 1)).astype(np.float32)
    features = FeatureMatrix(noise, strings)
    columns = [Column("x", "number"), *(Column(f"s{place}", "category") for place in range(strings.shape[1]))]
    pipeline, model = fitted(space, task, columns, features, target)
    rows = FeatureMatrix(NOISE[:, None], np.tile(np.array(unseen, dtype=object), (len(NOISE), 1)))
    predicted = model.run(rows)
    np.testing.assert_allclose(predicted, predict_estimator(pipeline, rows, task), rtol=1e-4, atol=1e-4)
    return predicted, model.run(features)


def spaces(task: Task, *names: str) -> list[object]:
    named = [space for space in SEARCH_SPACES if task in space.tasks and (not names or space.candidate in names)]
    return [pytest.param(space, id=space.candidate) for space in named]


@pytest.mark.parametrize("kind", [among_four, of_two, never_missing, several_at_once, many_values, integers])
@pytest.mark.parametrize("space", spaces("binary"))
def test_an_unseen_category_is_scored_near_the_average(space: SearchSpace, kind: Kind):
    rng = np.random.default_rng(0)
    strings, chance, unseen = kind(rng)
    target = (rng.random(ROWS) < chance).astype(np.int64)

    predicted, _ = scored(space, "binary", strings, target, unseen)

    assert abs(predicted[:, 1].mean() - target.mean()) < 0.12


@pytest.mark.parametrize("space", spaces("regression"))
def test_an_unseen_category_has_the_mean_value(space: SearchSpace):
    rng = np.random.default_rng(0)
    strings, chance, unseen = of_two(rng)
    target = 100.0 * chance + rng.normal(size=ROWS)

    predicted, _ = scored(space, "regression", strings, target, unseen)

    assert abs(predicted.mean() - target.mean()) < 10


@pytest.mark.parametrize("space", spaces("multiclass"))
def test_an_unseen_category_has_the_shares_of_the_classes(space: SearchSpace):
    rng = np.random.default_rng(0)
    codes = rng.choice(3, ROWS, p=[0.5, 0.3, 0.2])
    target = np.where(rng.random(ROWS) < 0.9, codes, rng.integers(0, 3, ROWS)).astype(np.int64)

    predicted, _ = scored(space, "multiclass", np.array(["a", "b", "c"])[codes][:, None], target, ["d"])

    assert np.abs(predicted.mean(axis=0) - np.bincount(target) / ROWS).max() < 0.2


@pytest.mark.parametrize("space", spaces("binary"))
def test_a_boolean_that_was_never_missing_is_scored_near_the_average_where_it_is(space: SearchSpace):
    rng = np.random.default_rng(0)
    active = rng.random(ROWS) < 0.25
    target = (rng.random(ROWS) < np.where(active, 0.95, 0.05)).astype(np.int64)
    numbers = np.stack([rng.normal(size=ROWS), active], axis=1).astype(np.float32)
    columns = [Column("x", "number"), Column("active", "boolean")]
    _, model = fitted(space, "binary", columns, FeatureMatrix(numbers, np.empty((ROWS, 0), dtype=np.str_)), target)

    rows = FeatureMatrix(np.stack([NOISE, np.full_like(NOISE, np.nan)], axis=1), np.empty((len(NOISE), 0), np.str_))

    assert abs(model.run(rows)[:, 1].mean() - target.mean()) < 0.12


@pytest.mark.parametrize("space", spaces("binary", "hist_gradient_boosting", "random_forest", "extra_trees"))
def test_an_unseen_category_does_not_depend_on_the_names_of_the_others(space: SearchSpace):
    rng = np.random.default_rng(0)
    strings, chance, unseen = among_four(rng)
    target = (rng.random(ROWS) < chance).astype(np.int64)
    renamed = np.where(strings == "A", "Z", strings)

    before, _ = scored(space, "binary", strings, target, unseen)
    after, _ = scored(space, "binary", renamed, target, unseen)

    assert abs(before[:, 1].mean() - after[:, 1].mean()) < 0.05


@pytest.mark.parametrize(
    "space",
    spaces("binary", "hist_gradient_boosting", "random_forest", "logistic_regression", "neural_network"),
)
def test_values_seen_in_training_are_scored_as_without_it(space: SearchSpace, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    strings, chance, unseen = several_at_once(rng)
    strings = np.concatenate([strings, many_values(rng)[0]], axis=1)
    target = (rng.random(ROWS) < chance).astype(np.int64)

    _, seen = scored(space, "binary", strings, target, [*unseen, "x"])
    monkeypatch.setattr(candidates, "average_unseen", lambda *_: None)
    _, plain = scored(space, "binary", strings, target, [*unseen, "x"])

    np.testing.assert_allclose(seen, plain, atol=1e-5)
