"""The schema says what columns are, in an order that never changes, and survives being stored."""

import json
from dataclasses import replace

import pytest
from millrace.schema import DATE_PARTS, NULL_STRINGS, Column, TableSchema

SCHEMA = TableSchema(
    columns=(
        Column("key", "integer", "identifier", reason="named like an identifier, and unique"),
        Column("since", "datetime", nullable=True, minimum=0.0, maximum=1.5, formats=("%d/%m/%Y", "iso")),
        Column("age", "number", minimum=-1.0, maximum=0.0),
        Column("plan", "category", categories=("a", "b")),
        Column("active", "boolean", categories=("No", "Yes"), true_values=("yes",), false_values=("no",)),
        Column("notes", "text", "ignored", nullable=True, reason="free text"),
        Column("label", "integer", "target"),
    ),
    task="binary",
    classes=("0", "1"),
    version=3,
)


def test_a_schema_comes_back_from_json_as_it_was():
    assert TableSchema.from_dict(json.loads(json.dumps(SCHEMA.to_dict()))) == SCHEMA


def test_what_is_empty_is_not_written_but_zero_and_false_are():
    written = Column("age", "number", minimum=0.0).to_dict()
    assert written == {"name": "age", "type": "number", "role": "feature", "nullable": False, "minimum": 0.0}


def test_roles_are_found_in_the_order_of_the_columns():
    assert SCHEMA.target.name == "label"
    assert SCHEMA.identifier is not None
    assert SCHEMA.identifier.name == "key"
    assert [column.name for column in SCHEMA.features] == ["since", "age", "plan", "active"]
    assert TableSchema(SCHEMA.columns[1:], "binary").identifier is None


def test_matrix_columns_follow_the_features():
    assert SCHEMA.number_names == (*(f"since.{part}" for part in DATE_PARTS), "age", "active")
    assert SCHEMA.string_names == ("plan",)


def test_columns_are_found_by_name():
    assert SCHEMA.column("plan").type == "category"
    with pytest.raises(KeyError, match="unknown"):
        SCHEMA.column("unknown")


@pytest.mark.parametrize(
    ("target", "classes", "labels"),
    [
        (Column("y", "integer", "target"), ("0", "1"), [0, 1]),
        (Column("y", "boolean", "target"), ("false", "true"), [False, True]),
        (Column("y", "boolean", "target", true_values=("yes",), false_values=("no",)), ("No", "Yes"), ["No", "Yes"]),
        (Column("y", "category", "target"), ("a", "b"), ["a", "b"]),
        (Column("y", "number", "target"), ("0.5", "1"), ["0.5", "1"]),
    ],
)
def test_labels_are_the_values_that_a_caller_knows(target, classes, labels):
    schema = TableSchema((target,), "binary", classes)
    found = [schema.label(index) for index in range(2)]
    assert found == labels
    assert [type(label) for label in found] == [type(label) for label in labels]


@pytest.mark.parametrize("classes", [("a", "b"), ("0", "1", "2"), ()])
def test_classes_of_a_sensitive_target_are_numbered_for_people(classes):
    target = Column("y", "category", "target", categories=classes, sensitive=True)
    schema = TableSchema((target,), "multiclass", classes)

    shown = schema.without_sensitive_values()

    assert shown.classes == tuple(f"class {number + 1}" for number in range(len(classes)))
    assert shown.without_sensitive_values() == shown
    assert schema.classes == classes  # as the model needs them
    assert [schema.quote_class(index) for index in range(len(classes))] == ["***"] * len(classes)
    named = TableSchema((replace(target, sensitive=False),), "multiclass", classes)
    assert named.without_sensitive_values().classes == classes
    assert [named.quote_class(index) for index in range(len(classes))] == [repr(name) for name in classes]


def test_another_version_is_the_same_schema_otherwise():
    assert SCHEMA.with_version(4).to_dict() == {**SCHEMA.to_dict(), "version": 4}


def test_missing_words_hold_no_blanks_so_that_they_match_trimmed_cells():
    assert "" in NULL_STRINGS
    assert all(word == word.strip() for word in NULL_STRINGS)
