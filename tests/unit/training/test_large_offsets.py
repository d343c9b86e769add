"""Numbers with a large offset and a small variation: what float32 would lose reaches the model, and comes back."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from millrace.data.prepare import prepare
from millrace.data.prepared import PreparedSplit
from millrace.data.typed_table import TypedTable
from millrace.entities import Trial
from millrace.evaluation.champion import Champion, compare_with_champion
from millrace.evaluation.slices import feature_columns
from millrace.features import FeatureMatrix, build_features, float32_centre, recentre
from millrace.metrics.catalogue import get_metric
from millrace.schema import Column, TableSchema
from millrace.serving.model import OnnxModel
from millrace.serving.request import RecordsTable
from millrace.serving.rows import RowReader
from millrace.spec import ModelSpec
from millrace.training.export import check_parity, export_onnx
from millrace.training.fitting import fit_pipeline
from millrace.training.search_space import SEARCH_SPACES, SearchSpace
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.unit.training.test_candidate_behaviour import small_parameters

ROWS = 400
POSITION = np.random.default_rng(0).permutation(ROWS) / ROWS  # from 0 to 1, decides every outcome

LOST = {
    "seconds of a minute": 1.7e9 + 60 * POSITION,
    "seconds of a week": np.round(1.7e9 + 604_800 * POSITION),
    "balance of a large account": 1e9 + np.round(50 * POSITION, 2),
    "debt": -(1e9 + np.round(50 * POSITION, 2)),
    "row number of a large table": 941_030_000 + np.floor(20 * POSITION),
    "milliseconds": np.round(1.7e12 + 30_000 * POSITION),
    "a constant and a little": 1_000 + 1e-4 * POSITION,
    "one outlier": np.where(np.arange(ROWS) == 7, 0.0, 1.7e9 + 60 * POSITION),
    "some missing": np.where(np.arange(ROWS) % 9, 1.7e9 + 60 * POSITION, np.nan),
}
KEPT = {
    "years": 2_000 + np.floor(20 * POSITION),
    "zeros and ones": np.round(POSITION),
    "temperatures": np.round(20 + POSITION, 1),
    "a year in seconds": np.round(1.7e9 + 3e7 * POSITION),
    "codes far apart": np.round(1e8 + 8e8 * POSITION),
    "one value": np.full(ROWS, 1.7e9 + 1),
    "nothing": np.full(ROWS, np.nan),
}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


def prepared(values: np.ndarray):
    columns = (Column("v", "number", nullable=True), Column("x", "number"), Column("target", "number", role="target"))
    schema = TableSchema(columns, "regression")
    data = {"v": values, "x": np.arange(ROWS) / 7, "target": POSITION}
    return prepare(schema, [TypedTable(schema, data, ROWS)], ModelSpec())


@pytest.mark.parametrize("values", LOST.values(), ids=LOST)
def test_what_float32_would_lose_reaches_the_model_in_training_as_in_serving(values: np.ndarray):
    made = prepared(values)
    train = made.splits["train"]
    known = ~np.isnan(train.features.numbers[:, 0])
    usual = known & (np.abs(train.features.numbers[:, 0]) < 1e6)

    order = np.corrcoef(train.features.numbers[usual, 0], train.target[usual])[0, 1]
    assert abs(order) > 0.99
    reader = RowReader(made.schema)
    records = [{"v": None if np.isnan(value) else value, "x": 1.0} for value in values.tolist()]
    expected = build_features(made.schema, {"v": values, "x": np.ones(ROWS)}, ROWS).numbers
    for few in range(0, 32, 8):
        rows = reader.read(RecordsTable(records[few : few + 8]))
        np.testing.assert_array_equal(rows.features(0, 8).numbers, expected[few : few + 8])
    many = reader.read(RecordsTable(records))
    np.testing.assert_array_equal(many.features(0, ROWS).numbers, expected)
    assert set(train.features.numbers[known, 0]) <= set(expected[:, 0])


@pytest.mark.parametrize("start", [1.7e9, 1.7e12, -1e9])
def test_rows_that_are_one_in_float32_are_no_repetitions_of_an_earlier_upload(start: float):
    schema = TableSchema((Column("v", "number"), Column("target", "category", role="target")), "binary", ("a", "b"))

    def table(position: np.ndarray) -> TypedTable:
        values = start + np.round(60 * position, 2)
        return TypedTable(schema, {"v": values, "target": np.where(position > 0.5, "b", "a")}, len(values))

    first, second = table(POSITION), table(POSITION + 0.5 / ROWS)
    once, again = prepare(schema, [first, second], ModelSpec()), prepare(schema, [first, table(POSITION)], ModelSpec())

    assert [part.used for part in once.contributions] == [ROWS, ROWS]
    assert [part.used for part in again.contributions] == [ROWS, 0]
    shuffled = table(np.concatenate([POSITION[::-1], [0.123456]]))
    assert [part.used for part in prepare(schema, [first, shuffled], ModelSpec()).contributions] == [ROWS, 1]


@pytest.mark.parametrize("values", KEPT.values(), ids=KEPT)
def test_other_numbers_stay_as_they_are(values: np.ndarray):
    assert float32_centre(values) is None
    assert prepared(values).schema.centres == ()


def test_slices_are_described_in_the_values_of_the_table():
    values = LOST["seconds of a minute"]
    made = prepared(values)
    columns = feature_columns(made.schema, made.splits["test"].features)
    assert np.isin(np.round(columns["v"], 2), np.round(values, 2)).all()


def test_a_sensitive_column_shows_no_centre():
    columns = (Column("v", "number", centre=1.7e9, sensitive=True), Column("target", "number", role="target"))
    schema = TableSchema(columns, "regression")
    assert schema.without_sensitive_values().columns[0].centre is None
    assert TableSchema.from_dict(schema.to_dict()) == schema


def fitted(space: SearchSpace, schema: TableSchema, split: PreparedSplit) -> OnnxModel:
    pipeline, _ = fit_pipeline(Trial("m", "r", "01", space.candidate, small_parameters(space), seed=0), schema, split)
    model = OnnxModel.load(export_onnx(pipeline, split.features, "regression"), schema)
    assert check_parity(pipeline, model, split.features).passed
    return model


REGRESSORS = [
    pytest.param(space, id=space.candidate)
    for space in SEARCH_SPACES
    if "regression" in space.tasks and space.candidate != "baseline"
]


@pytest.mark.parametrize("target", ["seconds of a minute", "balance of a large account", "debt", "milliseconds"])
@pytest.mark.parametrize("space", REGRESSORS)
def test_a_target_with_a_large_offset_is_learnt_and_predicted(space: SearchSpace, target: str):
    inputs, outcomes = POSITION, LOST[target]
    schema = TableSchema((Column("a", "number"), Column("target", "number", role="target")), "regression")
    features = FeatureMatrix(inputs[:, None].astype(np.float32), np.empty((len(inputs), 0), dtype=np.str_))

    model = fitted(space, schema, PreparedSplit(features, outcomes, np.arange(len(inputs), dtype=np.uint64)))
    predicted = model.run(features)

    assert predicted.dtype == np.float64
    assert 1 - np.mean((predicted - outcomes) ** 2) / np.var(outcomes) > 0.6
    assert len(set(predicted.tolist())) > 10


def test_an_ordinary_target_is_predicted_as_before():
    schema = TableSchema((Column("a", "number"), Column("target", "number", role="target")), "regression")
    features = FeatureMatrix(POSITION[:, None].astype(np.float32), np.empty((ROWS, 0), dtype=np.str_))
    split = PreparedSplit(features, 20 + 5 * POSITION, np.arange(ROWS, dtype=np.uint64))
    assert fitted(REGRESSORS[0].values[0], schema, split).run(features).dtype == np.float32


def test_a_champion_is_compared_on_rows_as_it_was_trained_on_them():
    made = prepared(LOST["a constant and a little"])
    plain = replace(made.schema, columns=tuple(replace(column, centre=None) for column in made.schema.columns))
    train, test = made.splits["train"], made.splits["test"]
    as_before = replace(train, features=recentre(train.features, made.schema, plain))
    assert as_before.features.numbers[:, 0].min() >= 1_000
    model = fitted(next(space.values[0] for space in REGRESSORS if space.id == "ridge"), plain, as_before)

    manifest: Any = SimpleNamespace(split_fingerprint="as now")
    champion = Champion(1, model, manifest, rows_schema=made.schema)
    compared = compare_with_champion(
        champion,
        model.run(recentre(test.features, made.schema, plain)),
        test,
        metric=get_metric("regression", "rmse"),
        spec=ModelSpec(),
        split={"fingerprint": "as now"},
        data_store=MemoryObjectStore("data"),
    )
    assert compared.gain.low == compared.gain.high == 0
