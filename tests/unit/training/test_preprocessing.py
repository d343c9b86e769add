"""The matrices an estimator sees: float32, in steps that follow from the training split."""

import numpy as np
import pytest
from millrace.errors import TrainingFailedError
from millrace.features import FeatureMatrix
from millrace.training.category_statistics import MAX_STATISTIC_CLASSES
from millrace.training.preprocessing import FeatureTable, build_preprocessor
from millrace.training.search_plan import MAX_ONE_HOT_OUTPUTS, encoded_width

from tests.prepared_data import make_features

NUMBERS = np.array([[1, np.nan, 5], [3, np.nan, 5], [np.nan, np.nan, 5]], dtype=np.float32)
STRINGS = np.array([["a"], [""], ["b"]])


def fitted_output(encoding, features: FeatureMatrix) -> np.ndarray:
    return build_preprocessor(encoding, features).fit_transform(FeatureTable(features))


def test_table_gives_columns_of_either_matrix_by_index():
    table = FeatureTable(FeatureMatrix(NUMBERS, STRINGS))

    assert table.shape == (3, 4)
    assert table[:, [0, 2]].dtype == np.float32
    np.testing.assert_array_equal(table[:, [3]], STRINGS)
    np.testing.assert_array_equal(table[[1], [0]], [[3]])
    whole = np.asarray(table)
    assert whole.dtype == object
    assert whole[0, 3] == "a"


@pytest.mark.parametrize("encoding", ["scaled", "imputed", "native"])
def test_output_is_float32_without_the_column_that_is_never_known(encoding):
    output = fitted_output(encoding, FeatureMatrix(NUMBERS, STRINGS))

    assert output.dtype == np.float32
    assert output.shape == (3, 2 + (3 if encoding == "scaled" else 1))


def test_trees_get_medians_and_codes_and_minus_one_for_the_unseen():
    features = FeatureMatrix(NUMBERS, STRINGS)
    preprocessor = build_preprocessor("imputed", features).fit(FeatureTable(features))
    row = FeatureMatrix(np.array([[np.nan, 7, np.nan]], dtype=np.float32), np.array([["a string never seen"]]))

    np.testing.assert_array_equal(preprocessor.transform(FeatureTable(row)), [[2, 5, -1]])


def test_native_encoding_leaves_missing_values_to_the_estimator():
    assert np.isnan(fitted_output("native", FeatureMatrix(NUMBERS, STRINGS))[2, 0])


def test_one_hot_keeps_the_most_frequent_values_and_rare_ones_are_all_zeros():
    columns = 100
    most = MAX_ONE_HOT_OUTPUTS // columns
    values = [f"v{number:03d}" for number in range(most + 5)]
    column = np.array([*values, *values[5:]])
    strings = np.repeat(column[:, None], columns, axis=1)
    features = FeatureMatrix(np.empty((len(column), 0), dtype=np.float32), strings)

    output = fitted_output("scaled", features)[:, :most]

    np.testing.assert_array_equal(output[:5], 0)
    np.testing.assert_array_equal(output[5:].sum(axis=1), 1)


def test_nothing_to_learn_from_is_said_in_words():
    features = make_features(10, "no number ever known")
    with pytest.raises(TrainingFailedError, match="no feature column holds a known value"):
        build_preprocessor("imputed", FeatureMatrix(features.numbers, features.strings[:, :0]))


def many_values(rows: int = 399) -> tuple[FeatureMatrix, np.ndarray]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 100, rows)  # fewer than four rows for each value
    strings = np.stack([np.char.add("v", codes.astype(str)), rng.choice(["a", "b"], rows)], axis=1)
    return FeatureMatrix(np.empty((rows, 0), dtype=np.float32), strings), (codes % 2).astype(np.int64)


@pytest.mark.parametrize("encoding", ["scaled", "imputed", "native"])
def test_a_string_of_many_values_becomes_its_mean_outcome(encoding):
    features, target = many_values()
    preprocessor = build_preprocessor(encoding, features, task="binary", seed=0)
    preprocessor.fit(FeatureTable(features), target)

    output = preprocessor.transform(FeatureTable(features))

    assert output.dtype == np.float32
    # A one-hot vector or a code of the short column; of the long one its statistic, for trees after its code.
    assert output.shape == (399, 3)
    assert np.corrcoef(output[:, -1], target)[0, 1] > 0.8
    unseen = FeatureMatrix(features.numbers[:1], np.array([["never seen", "a"]]))
    middle = preprocessor.transform(FeatureTable(unseen))[0, -1]
    assert output[target == 0, -1].max() < middle < output[target == 1, -1].min()


def test_linear_models_get_outputs_for_each_value_where_values_have_rows():
    features, target = many_values(400)

    output = build_preprocessor("scaled", features, task="binary").fit_transform(FeatureTable(features), target)

    assert output.shape == (400, 2 + len(np.unique(features.strings[:, 0])))
    np.testing.assert_array_equal(output.sum(axis=1), 2)


def test_numbers_beyond_all_others_are_clipped_for_linear_models_alone():
    numbers = np.stack([np.linspace(0, 1, 201), np.arange(201) == 0], axis=1).astype(np.float32)
    features = FeatureMatrix(numbers, np.empty((201, 0), dtype="<U1"))
    row = FeatureMatrix(np.array([[1e6, 1], [1.25, 0]], dtype=np.float32), features.strings[:2])

    scaled, imputed = (
        build_preprocessor(encoding, features).fit(FeatureTable(features)).transform(FeatureTable(row))
        for encoding in ("scaled", "imputed")
    )

    # The 1st and 99th percentile are 0.01 and 0.99; their distance is added.
    deviation = numbers[:, 0].std()
    np.testing.assert_allclose(scaled[:, 0] * deviation + 0.5, [0.99 + 0.98, 1.25], rtol=1e-5)
    # One row in 201 is no outlier where every percentile is the same: a flag keeps both values.
    assert scaled[0, 1] == pytest.approx((1 - 1 / 201) / numbers[:, 1].std(), rel=1e-5)
    np.testing.assert_array_equal(imputed, row.numbers)


def test_trees_get_the_code_beside_the_mean_outcome():
    features, target = many_values()
    preprocessor = build_preprocessor("native", features, task="binary").fit(FeatureTable(features), target)

    codes = preprocessor.transform(FeatureTable(features))[:, 1]

    values = np.unique(features.strings[:, 0])
    np.testing.assert_array_equal(codes, np.searchsorted(values, features.strings[:, 0]))


def test_no_row_of_training_knows_its_own_target():
    rng = np.random.default_rng(0)
    # Two rows of each category, and nothing to learn: only a row's own target would correlate with its statistic.
    strings = np.char.add("v", np.repeat(np.arange(300), 2).astype(str))[:, None]
    features = FeatureMatrix(np.empty((600, 0), dtype=np.float32), strings)
    target = rng.normal(size=600)

    fitted = build_preprocessor("native", features, task="regression").fit_transform(FeatureTable(features), target)

    assert abs(np.corrcoef(fitted[:, 1], target)[0, 1]) < 0.15


@pytest.mark.parametrize(("classes", "width"), [(3, 3), (12, MAX_STATISTIC_CLASSES)])
def test_with_several_classes_each_of_the_most_frequent_has_a_share(classes, width, monkeypatch):
    features, _ = many_values(1_200)
    monkeypatch.setattr("millrace.training.search_plan.FEW_ROWS", 1_000)
    codes = np.char.replace(features.strings[:, 0], "v", "").astype(np.int64)
    target = codes % classes

    preprocessor = build_preprocessor("scaled", features, task="multiclass").fit(FeatureTable(features), target)
    output = preprocessor.transform(FeatureTable(features))

    assert output.shape == (1_200, 2 + width)
    if classes == width:
        assert (output[:, 2:].argmax(axis=1) == target).all()


def test_a_class_of_few_rows_does_not_stop_the_statistics():
    features, _ = many_values()
    target = np.zeros(399, dtype=np.int64)
    target[:2], target[2:200] = 2, 1

    output = build_preprocessor("native", features, task="multiclass").fit_transform(FeatureTable(features), target)

    assert output.shape == (399, 1 + 1 + 3)
    assert np.isfinite(output).all()


def test_a_wide_table_of_strings_keeps_fewer_values_of_each():
    strings = np.array([[f"{row % 40}" for _ in range(500)] for row in range(80)])
    features = FeatureMatrix(np.empty((80, 0), dtype=np.float32), strings)

    output = fitted_output("scaled", features)

    assert output.shape[1] == encoded_width(0, 500, 80) == MAX_ONE_HOT_OUTPUTS
