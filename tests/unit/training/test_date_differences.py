"""Two dates of a row become their difference, in the model and in its ONNX form."""

import numpy as np
import pytest
from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.features import FeatureMatrix, build_features
from millrace.schema import Column, TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.date_differences import MAX_DATES, DateDifferences, date_pairs
from millrace.training.export import check_parity, export_onnx, predict_estimator
from millrace.training.fitting import fit_pipeline

ROWS = 400


def orders(seed: int = 0) -> tuple[TableSchema, PreparedSplit]:
    """Orders whose price is the number of days until delivery."""
    rng = np.random.default_rng(seed)
    ordered = np.datetime64("2024-01-01", "us") + rng.integers(0, 700, ROWS) * np.timedelta64(86_400_000_000, "us")
    days = rng.integers(1, 30, ROWS)
    delivered = ordered + days * np.timedelta64(86_400_000_000, "us")
    delivered[::25] = np.datetime64("NaT")
    columns = (
        Column("ordered", "datetime"),
        Column("amount", "number"),
        Column("delivered", "datetime", nullable=True),
    )
    schema = TableSchema((*columns, Column("price", "number", role="target")), "regression")
    values = {"ordered": ordered, "amount": rng.normal(size=ROWS), "delivered": delivered}
    return schema, PreparedSplit(
        build_features(schema, values, ROWS), days.astype(float), np.arange(ROWS, dtype=np.uint64)
    )


PARAMETERS = {
    "ridge": {"alpha": 1.0},
    "hist_gradient_boosting": {"max_iter": 50, "early_stopping": False},
    "random_forest": {"n_estimators": 10, "max_leaf_nodes": 50},
}


@pytest.mark.parametrize("candidate", sorted(PARAMETERS))
def test_a_duration_is_learnt_and_exported(candidate):
    schema, split = orders()
    pipeline, _ = fit_pipeline(Trial("m", "r", "01", candidate, PARAMETERS[candidate], seed=0), schema, split)
    model = OnnxModel.load(export_onnx(pipeline, split.features, "regression"), schema)

    assert check_parity(pipeline, model, split.features).passed
    _, other = orders(seed=1)
    known = ~np.isnan(other.features.numbers).any(axis=1)
    error = predict_estimator(pipeline, other.features, "regression") - other.target
    assert np.sqrt(np.mean(error[known] ** 2)) < 1.0  # of a spread of eight days


def test_differences_are_second_less_first_and_missing_where_one_is():
    days = np.array([[1, 4, 9], [2, np.nan, 2]], dtype=np.float32)

    found = DateDifferences(((0, 1), (0, 2))).fit(days).transform(days)

    np.testing.assert_array_equal(found, [[3, 8], [np.nan, 0]])


def test_pairs_that_say_nothing_are_left_out():
    numbers = np.array([[1, 2, np.nan, 9], [5, 6, np.nan, 3]], dtype=np.float32)

    assert date_pairs(numbers, [0, 1, 2, 3]) == [(0, 3), (1, 3)]  # always a day apart; never known


def test_many_dates_have_few_differences():
    numbers = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)

    assert len(date_pairs(numbers, range(10))) == MAX_DATES * (MAX_DATES - 1) // 2


def test_one_date_has_none():
    assert date_pairs(FeatureMatrix(np.ones((3, 4), np.float32), np.empty((3, 0))).numbers, [0]) == []
