"""Explanations against what is known exactly: linear models in closed form, and Shapley's sum over all coalitions."""

import io
from itertools import combinations
from math import factorial

import numpy as np
import pytest
from millrace.errors import InvalidInputError
from millrace.features import FeatureMatrix, build_features
from millrace.schema import Column, TableSchema
from millrace.serving.explain import (
    MAX_BACKGROUND_ROWS,
    MAX_EVALUATIONS,
    Explainer,
    choose_background,
    column_groups,
    dump_background,
    load_background,
)


def make_schema(numbers: int = 3, strings: int = 1, dates: int = 0, sensitive=()) -> TableSchema:
    names = [(f"n{i}", "number") for i in range(numbers)] + [(f"d{i}", "datetime") for i in range(dates)]
    names += [(f"s{i}", "category") for i in range(strings)]
    columns = [Column(name, kind, sensitive=name in sensitive) for name, kind in names]
    return TableSchema((*columns, Column("y", "number", "target")), "regression")


def make_rows(schema: TableSchema, n_rows: int, seed: int = 0) -> FeatureMatrix:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n_rows, len(schema.number_names))).astype(np.float32)
    strings = rng.choice(np.array(["a", "b", "c"], dtype=object), size=(n_rows, len(schema.string_names)))
    return FeatureMatrix(numbers, strings)


def linear(features: FeatureMatrix) -> np.ndarray:
    weights = np.arange(1, features.numbers.shape[1] + 1)
    return features.numbers.astype(np.float64) @ weights + 5.0 * (features.strings == "a").sum(axis=1)


def tangled(features: FeatureMatrix) -> np.ndarray:
    x, words = features.numbers.astype(np.float64), features.strings
    product = x[:, 0] * x[:, 1] + np.where(words[:, 0] == "a", x[:, 2] ** 2, -x[:, 2])
    return product + np.maximum(x[:, 0], x[:, 2]) * (x[:, 1] > 0)


def brute_force(schema: TableSchema, background: FeatureMatrix, row: FeatureMatrix, output) -> np.ndarray:
    """Shapley's formula, coalition by coalition."""
    d = len(schema.features)
    number_groups, string_groups = column_groups(schema)

    def value(coalition: tuple[int, ...]) -> float:
        taken = np.isin(np.arange(d), coalition)
        numbers = np.where(taken[number_groups], row.numbers, background.numbers)
        strings = np.where(taken[string_groups], row.strings, background.strings)
        return float(output(FeatureMatrix(numbers, strings)).mean())

    found = np.zeros(d)
    for feature in range(d):
        others = [other for other in range(d) if other != feature]
        for size in range(d):
            weight = factorial(size) * factorial(d - size - 1) / factorial(d)
            for chosen in combinations(others, size):
                found[feature] += weight * (value((*chosen, feature)) - value(chosen))
    return found


class TestExactness:
    def test_a_linear_model_is_explained_in_closed_form(self):
        schema = make_schema()
        background, row = make_rows(schema, 20), make_rows(schema, 1, seed=1)
        told = Explainer(schema, background).explain(row, linear)
        weights = np.array([1.0, 2.0, 3.0])
        expected = weights * (row.numbers[0] - background.numbers.mean(axis=0, dtype=np.float64))
        assert told.values[:3] == pytest.approx(expected, abs=1e-5)
        share = (background.strings[:, 0] == "a").mean()
        assert told.values[3] == pytest.approx(5.0 * (float(row.strings[0, 0] == "a") - share), abs=1e-6)
        assert told.standard_errors == pytest.approx(0.0, abs=1e-6)
        assert told.base_value == pytest.approx(linear(background).mean())

    @pytest.mark.parametrize("seed", range(5))
    def test_attributions_and_base_value_sum_to_the_prediction(self, seed):
        schema = make_schema(3, 2, 1)
        background, row = make_rows(schema, 17, seed), make_rows(schema, 1, seed + 100)
        told = Explainer(schema, background).explain(row, tangled)
        assert told.values.sum() + told.base_value == pytest.approx(tangled(row)[0], abs=1e-9)

    def test_two_features_are_exact(self):
        schema = make_schema(2, 0)
        background, row = make_rows(schema, 6), make_rows(schema, 1, 3)

        def product(features: FeatureMatrix) -> np.ndarray:
            return features.numbers[:, 0] * features.numbers[:, 1]

        told = Explainer(schema, background).explain(row, product)
        assert told.values == pytest.approx(brute_force(schema, background, row, product), abs=1e-6)
        assert told.standard_errors == pytest.approx(0.0, abs=1e-7)

    def test_one_feature_takes_everything(self):
        schema = make_schema(1, 0)
        background, row = make_rows(schema, 5), make_rows(schema, 1, 2)
        told = Explainer(schema, background).explain(row, linear)
        assert told.values[0] == pytest.approx(linear(row)[0] - linear(background).mean())

    def test_the_parts_of_a_date_are_one_feature(self):
        schema = make_schema(1, 0, 1)
        background, row = make_rows(schema, 10), make_rows(schema, 1, 4)
        told = Explainer(schema, background).explain(row, linear)
        moved = (row.numbers[0] - background.numbers.mean(axis=0)) * np.arange(1, 6)
        assert told.values == pytest.approx([moved[0], moved[1:].sum()], abs=1e-5)

    def test_a_text_is_one_feature_with_all_its_words(self):
        columns = (Column("n", "number"), Column("t", "text"), Column("y", "number", "target"))
        schema = TableSchema(columns, "regression")
        rows = build_features(
            schema,
            {"n": np.arange(5.0), "t": np.array(["late", "", "so late", "fine", "late fine"], dtype=object)},
            5,
        )
        row = rows.take(np.array([0]))
        found = Explainer(schema, rows.take(np.arange(1, 5))).explain(row, linear)
        weights = np.arange(1, rows.numbers.shape[1] + 1)
        moved = weights * (row.numbers[0] - rows.numbers[1:].mean(axis=0))
        np.testing.assert_allclose(found.values, [moved[0], moved[1:].sum()], rtol=1e-6)

    def test_missing_values_are_values(self):
        schema = make_schema(2, 1)
        background, row = make_rows(schema, 8), make_rows(schema, 1, 5)
        row.numbers[0, 0] = np.nan

        def known(features: FeatureMatrix) -> np.ndarray:
            return np.isnan(features.numbers[:, 0]).astype(np.float64)

        assert Explainer(schema, background).explain(row, known).values == pytest.approx([1.0, 0.0, 0.0])


def test_the_stated_errors_cover_the_truth():
    """The truth lies as often within the stated errors as it should, and they are no larger than they have to be."""
    schema = make_schema(5, 1)
    background = make_rows(schema, MAX_BACKGROUND_ROWS)
    explainer = Explainer(schema, background)
    ratios = []
    for seed in range(60):
        row = make_rows(schema, 1, 1_000 + seed)
        told = explainer.explain(row, tangled)
        missed = told.values - brute_force(schema, background, row, tangled)
        sampled = told.standard_errors > 1e-9
        assert missed[~sampled] == pytest.approx(0.0, abs=1e-6)
        ratios += (missed[sampled] / told.standard_errors[sampled]).tolist()
    assert len(ratios) > 150
    assert np.mean(np.abs(ratios) < 1.0) == pytest.approx(0.68, abs=0.1)
    assert np.mean(np.abs(ratios) < 1.96) == pytest.approx(0.95, abs=0.035)


def test_the_same_row_is_explained_alike_whatever_is_beside_it():
    schema = make_schema(4, 1)
    explainer = Explainer(schema, make_rows(schema, 9))
    row, other = make_rows(schema, 1, 1), make_rows(schema, 1, 2)
    first = explainer.explain(row, tangled)
    explainer.explain(other, tangled)
    again = explainer.explain(row, tangled)
    assert (first.values == again.values).all()
    assert (first.values != explainer.explain(other, tangled).values).any()


def test_large_tables_are_done_in_pieces_and_come_out_the_same(monkeypatch):
    schema = make_schema(6, 2)
    explainer, row = Explainer(schema, make_rows(schema, 9)), make_rows(schema, 1, 1)
    whole = explainer.explain(row, tangled)
    monkeypatch.setattr("millrace.serving.explain._CHUNK_VALUES", 50)
    assert explainer.explain(row, tangled).values == pytest.approx(whole.values, abs=1e-12)


def test_cost_is_bounded():
    schema = make_schema(14, 0)
    explainer = Explainer(schema, make_rows(schema, MAX_BACKGROUND_ROWS))
    most = MAX_EVALUATIONS // explainer.evaluations_per_row
    explainer.check_cost(most)
    with pytest.raises(InvalidInputError, match=f"send at most {most} rows"):
        explainer.check_cost(most + 1)
    for width in (1, 2, 100, 1_000, 2_000):
        wide = make_schema(width, 0)
        background = choose_background(wide, make_rows(wide, 60), 0)
        Explainer(wide, background).check_cost(1)
        assert Explainer(wide, background).evaluations_per_row <= MAX_EVALUATIONS


class TestBackground:
    def test_it_comes_back_as_it_was_written_without_pickle(self):
        schema = make_schema(2, 2)
        rows = make_rows(schema, 30)
        chosen = choose_background(schema, rows, 3)
        body = dump_background(chosen)
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            assert set(arrays) == {"numbers", "strings"}
        again = load_background(body)
        assert (again.numbers == chosen.numbers).all()
        assert (again.strings == chosen.strings).all()
        assert again.strings.dtype == object

    def test_rows_are_whole_rows_of_the_training_split(self):
        schema = make_schema(3, 1)
        rows = make_rows(schema, 200)
        chosen = choose_background(schema, rows, 0)
        known = {tuple(row) for row in rows.numbers.tolist()}
        assert len(chosen) == MAX_BACKGROUND_ROWS
        assert all(tuple(row) in known for row in chosen.numbers.tolist())
        assert (choose_background(schema, rows, 0).numbers == chosen.numbers).all()

    def test_sensitive_columns_are_taken_from_other_rows(self):
        schema = make_schema(3, 1, sensitive=("n1", "s0"))
        rows = make_rows(schema, 300)
        chosen = choose_background(schema, rows, 0)
        pairs = {(row[0], row[1]) for row in rows.numbers.tolist()}
        assert sum((row[0], row[1]) in pairs for row in chosen.numbers.tolist()) < MAX_BACKGROUND_ROWS / 5
        assert {row[1] for row in chosen.numbers.tolist()} <= {row[1] for row in rows.numbers.tolist()}
        assert all((row[0], row[2]) in {(r[0], r[2]) for r in rows.numbers.tolist()} for row in chosen.numbers.tolist())

    def test_a_table_of_few_rows_gives_them_all(self):
        schema = make_schema(2, 0)
        assert len(choose_background(schema, make_rows(schema, 3), 0)) == 3
        assert len(choose_background(schema, make_rows(schema, 0), 0)) == 0
