import json
import re
from typing import Any

import pytest
from millrace.schema import Column, TableSchema
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.serving.openapi import example_row, openapi_document
from millrace.serving.protocols import PROTOCOLS

from tests.serving_models import churn_schema


def document(schema: TableSchema) -> dict[str, Any]:
    return openapi_document(LoadedModel("churn", 3, OnnxModel(None, schema), schema), 50, PROTOCOLS)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_reference_leads_somewhere(task):
    made = document(churn_schema(task))
    references = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(made))
    assert set(references) <= set(made["components"]["schemas"])
    identifiers = [operation["operationId"] for path in made["paths"].values() for operation in path.values()
                   if isinstance(operation, dict)]  # fmt: skip
    assert len(identifiers) == len(set(identifiers)) == 6
    assert made["info"]["version"] == "3"


def test_a_row_is_what_the_model_was_trained_on():
    row = document(churn_schema())["components"]["schemas"]["Row"]
    assert row["required"] == ["age", "active", "plan"]
    assert set(row["properties"]) == {column.name for column in churn_schema().features}
    assert row["properties"]["plan"]["examples"] == ["basic", "family", "premium"]
    assert row["properties"]["subscribed"]["enum"] == [True, False, 0, 1, "true", "false", "yes", "no", None]
    assert row["properties"]["signed_up"]["description"].startswith("A date: ISO 8601, %d.%m.%Y.")


def test_labels_are_those_of_the_target():
    made = document(churn_schema("multiclass"))["components"]["schemas"]["Predictions"]
    prediction = made["properties"]["predictions"]["items"]
    assert prediction["properties"]["label"]["enum"] == [1, 2, 3, None]
    assert prediction["properties"]["probabilities"]["required"] == ["1", "2", "3"]


def test_examples_are_from_the_middle_of_what_was_seen():
    columns = (
        Column("a", "integer", minimum=10, maximum=21),
        Column("b", "number", minimum=-1.0, maximum=2.0),
        Column("c", "integer"),
        Column("d", "number"),
        Column("e", "category", categories=("", "x")),
        Column("f", "category"),
        Column("g", "datetime", minimum=0.0, maximum=172_800.0),
        Column("h", "datetime"),
        Column("i", "text"),
        Column("y", "number", "target"),
    )
    assert example_row(TableSchema(columns, "regression")) == {
        "a": 16,
        "b": 0.5,
        "c": 1,
        "d": 1.5,
        "e": "x",
        "f": "other",
        "g": "1970-01-02T00:00:00Z",
        "h": "2026-01-31T12:00:00Z",
        "i": "a few words",
    }


def test_a_text_may_have_any_length():
    schema = TableSchema((Column("review", "text", nullable=True), Column("y", "number", "target")), "regression")
    review = document(schema)["components"]["schemas"]["Row"]["properties"]["review"]
    assert review == {"type": ["string", "null"], "description": "A text. Null where it is unknown."}
