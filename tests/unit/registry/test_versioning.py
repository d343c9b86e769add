from dataclasses import replace

import pytest
from millrace.registry.versioning import Recipe, classify_change, next_semantic_version
from millrace.schema import Column, ColumnRules, TableSchema

AGE = Column("age", "integer", minimum=18, maximum=90)
PLAN = Column("plan", "category", nullable=True, categories=("basic", "pro"))
TARGET = Column("churned", "boolean", role="target")
NAME = Column("name", "text", role="ignored", reason="free text")
SCHEMA = TableSchema((AGE, PLAN, NAME, TARGET), "binary", ("false", "true"))
RECIPE = Recipe(SCHEMA, "logistic_regression")


def with_columns(*columns, **changes):
    return Recipe(replace(SCHEMA, columns=columns, **changes), RECIPE.candidate)


def with_rules(**rules):
    return with_columns(replace(AGE, rules=ColumnRules(**rules)), PLAN, TARGET)


@pytest.mark.parametrize(
    "after",
    [
        RECIPE,
        with_columns(replace(AGE, maximum=99), replace(PLAN, categories=("basic", "gold", "pro")), NAME, TARGET),
        with_columns(PLAN, AGE, TARGET),
        with_columns(AGE, PLAN, replace(NAME, reason="still text"), TARGET, version=2),
    ],
    ids=["the same", "other data", "another order, and no ignored column", "another schema version"],
)
def test_the_same_recipe_on_other_data_is_a_patch(after):
    assert classify_change(RECIPE, after) == "patch"


@pytest.mark.parametrize(
    "after",
    [
        Recipe(SCHEMA, "random_forest"),
        with_columns(AGE, TARGET),
        with_columns(AGE, PLAN, Column("city", "category", nullable=True), TARGET),
        with_columns(replace(AGE, nullable=True), PLAN, TARGET),
        with_columns(replace(AGE, type="number"), PLAN, TARGET),
    ],
    ids=["algorithm", "feature gone", "optional feature", "no longer required", "wider type"],
)
def test_what_leaves_every_request_valid_is_minor(after):
    assert classify_change(RECIPE, after) == "minor"


@pytest.mark.parametrize(
    "after",
    [
        with_columns(AGE, PLAN, Column("city", "category"), TARGET),
        with_columns(AGE, replace(PLAN, nullable=False), TARGET),
        with_columns(replace(AGE, type="category"), PLAN, TARGET),
        with_columns(AGE, PLAN, replace(TARGET, name="left")),
        with_columns(AGE, PLAN, TARGET, classes=("false", "maybe", "true"), task="multiclass"),
        with_columns(AGE, PLAN, TARGET, classes=("no", "yes")),
    ],
    ids=["required feature", "now required", "type", "target", "task", "classes"],
)
def test_what_may_break_a_caller_is_major(after):
    assert classify_change(RECIPE, after) == "major"


def test_a_narrower_type_breaks_callers():
    before = with_columns(replace(AGE, type="number"), PLAN, TARGET)
    assert classify_change(before, RECIPE) == "major"


@pytest.mark.parametrize(
    ("after", "version"),
    [
        (RECIPE, "1.4.10"),
        (Recipe(SCHEMA, "random_forest"), "1.5.0"),
        (with_columns(AGE, PLAN, replace(TARGET, name="left")), "2.0.0"),
    ],
)
def test_the_number_that_grows_resets_those_behind_it(after, version):
    assert next_semantic_version("1.4.9", RECIPE, after) == version


@pytest.mark.parametrize(
    ("before", "after", "stricter"),
    [
        ({}, {}, False),
        ({}, {"minimum": 0.0}, True),
        ({"minimum": 0.0}, {"minimum": -1.0}, False),
        ({"minimum": 0.0}, {"minimum": 1.0}, True),
        ({"maximum": 9.0}, {"maximum": 8.0}, True),
        ({"maximum": 9.0}, {}, False),
        ({}, {"allowed": ("a",)}, True),
        ({"allowed": ("a",)}, {"allowed": ("a", "b")}, False),
        ({"allowed": ("a", "b")}, {"allowed": ("a",)}, True),
        ({}, {"nullable": False}, True),
        ({"nullable": False}, {"nullable": False}, False),
        ({}, {"minimum": 0.0, "severity": "warning"}, False),
        ({"minimum": 0.0, "severity": "warning"}, {"minimum": 0.0}, True),
        ({}, {"pattern": "a+", "unique": True, "max_null_share": 0.1}, False),
    ],
)
def test_a_rule_that_refuses_what_was_accepted_is_major(before, after, stricter):
    recipes = [with_rules(**rules) for rules in (before, after)]
    assert (classify_change(*recipes) == "major") == stricter
