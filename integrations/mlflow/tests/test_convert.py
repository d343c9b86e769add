"""Conversion with a proof: estimators that agree with their ONNX model, and one that does not."""

import unittest
from unittest import mock

import numpy as np
import pandas as pd
from millrace_mlflow import convert
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


class Conversion(unittest.TestCase):
    def setUp(self) -> None:
        rng = np.random.default_rng(0)
        self.rows = pd.DataFrame({"age": rng.integers(18, 80, 200), "plan": rng.choice(["a", "b"], 200)})
        self.rows["age"] = self.rows["age"].astype("float32")
        self.target = self.rows["age"] / 20 + (self.rows["plan"] == "a") + rng.normal(size=200)

    def test_a_pipeline_of_numbers_and_strings_agrees_also_on_what_it_has_not_seen(self) -> None:
        columns = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["plan"]), (StandardScaler(), ["age"])
        )
        estimator = make_pipeline(columns, LogisticRegression()).fit(self.rows, self.target > 3)
        model, proof = convert.convert(estimator, self.rows)
        self.assertEqual([one.name for one in model.graph.input], ["age", "plan"])
        self.assertIn("plan = 'never seen before'", proof.compared)
        self.assertEqual(proof.refused, ("age = nan",))
        self.assertLess(proof.largest_difference, convert.TOLERANCE)

    def test_an_estimator_of_numbers_alone_takes_one_matrix(self) -> None:
        numbers = self.rows[["age"]].assign(other=np.float32(1))
        estimator = HistGradientBoostingClassifier(max_iter=5).fit(numbers, self.target > 3)
        _, proof = convert.convert(estimator, numbers)
        self.assertIn("age = nan", proof.compared)

    def test_a_model_that_differs_is_refused_with_the_row(self) -> None:
        numbers = self.rows[["age"]]
        estimator = LinearRegression().fit(numbers, self.target)
        with (
            mock.patch.object(convert, "_predict", lambda model, rows: model.predict(rows) + (rows["age"] > 70)),
            self.assertRaisesRegex(convert.ParityError, r"the rows, row \d+: ONNX predicts"),
        ):
            convert.convert(estimator, numbers)


if __name__ == "__main__":
    unittest.main()
