"""Slices: the truly bad ones are found, chance ones are not called clear, declared ones are measured."""

import numpy as np
import pytest
from millrace.evaluation.slices import declared_slices, find_worst, measure_slices
from millrace.metrics.catalogue import RMSE
from millrace.schema import Column, TableSchema
from millrace.spec.training import SliceSpec

SCHEMA = TableSchema(
    (
        Column("plan", "category"),
        Column("age", "number"),
        Column("autopay", "boolean", true_values=("yes",), false_values=("no",)),
        Column("email", "category", sensitive=True),
        Column("y", "number", "target"),
    ),
    "regression",
)


def sample(rows: int = 2_000, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Columns, target and predictions; twice the error where the plan is b and the age above the median."""
    rng = np.random.default_rng(seed)
    columns = {
        "plan": rng.choice(["a", "b", "c"], rows),
        "age": rng.normal(50, 10, rows).astype(np.float32),
        "autopay": rng.integers(0, 2, rows).astype(np.float32),
        "email": rng.choice(["me@x", "you@x"], rows),
    }
    bad = (columns["plan"] == "b") & (columns["age"] > 50)
    target = rng.normal(size=rows)
    return columns, target, target + rng.normal(size=rows) * np.where(bad, 2.0, 1.0)


def losses(target: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    return RMSE.row_loss(target, predictions)


def measured(slices, columns, target, predictions, min_rows=30):
    return measure_slices(
        slices,
        columns,
        schema=SCHEMA,
        target=target,
        predictions=predictions,
        losses=losses(target, predictions),
        min_rows=min_rows,
        confidence=0.95,
        seed=0,
    )


def test_the_bad_corner_is_found_on_one_sample_and_confirmed_on_another():
    columns, target, predictions = sample(seed=1)
    found = find_worst(columns, losses(target, predictions), SCHEMA, min_rows=30)
    corner = [part for part in found if part.name.startswith("plan is b and age")]
    assert corner

    worst = measured(corner, *sample(seed=2))[0]
    assert worst.clearly_worse
    assert worst.excess_low > 0
    assert worst.metrics["rmse"].value == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_a_slice_is_worse_only_by_an_excess_that_is_material(scale):
    """The same shape of errors: of a model that is nearly perfect beside the trivial baseline, no slice is worse."""
    columns, target, predictions = sample(seed=1)
    nearly = target + scale * (predictions - target)
    baseline_loss = float(np.var(target))
    found = find_worst(columns, losses(target, nearly), SCHEMA, min_rows=30, baseline_loss=baseline_loss)
    declared = declared_slices([SliceSpec(by=("plan",))], columns, SCHEMA)
    results = [
        part
        for part in measure_slices(
            [*found, *declared],
            columns,
            schema=SCHEMA,
            target=target,
            predictions=nearly,
            losses=losses(target, nearly),
            min_rows=30,
            confidence=0.95,
            seed=0,
            baseline_loss=baseline_loss,
        )
        if part.clearly_worse
    ]

    assert bool(found) == bool(results) == (scale == 1.0)


def test_a_slice_that_is_a_little_worse_for_sure_is_not_worse():
    """Two hundred thousand rows make five per cent of excess certain; it is still not material."""
    rng = np.random.default_rng(0)
    rows = 200_000
    columns = {"plan": rng.choice(["a", "b"], rows)}
    target = np.zeros(rows)
    predictions = rng.normal(size=rows) * np.where(columns["plan"] == "b", np.sqrt(1.05), 1.0)
    (a, b) = measured(declared_slices([SliceSpec(by=("plan",))], columns, SCHEMA), columns, target, predictions)

    assert b.excess_low > 0
    assert not b.clearly_worse
    assert not a.clearly_worse


def test_chance_is_rarely_called_clearly_worse():
    """Over forty tables without a bad slice, searched and confirmed, few may be called clear: 5 % at most a table."""
    rng = np.random.default_rng(3)
    clear = 0
    for _ in range(40):
        columns, target, _ = sample(600, int(rng.integers(1_000_000)))
        noise = target + rng.normal(size=600)
        found = find_worst(columns, losses(target, noise), SCHEMA, min_rows=30)
        other, other_target, _ = sample(600, int(rng.integers(1_000_000)))
        confirmed = measured(found, other, other_target, other_target + rng.normal(size=600))
        clear += any(part.clearly_worse for part in confirmed)
    assert clear <= 5


def test_intervals_of_several_slices_hold_for_all_of_them_together():
    columns, target, predictions = sample()
    (one,) = declared_slices([SliceSpec(where={"plan": ["b"]})], columns, SCHEMA)
    (alone,) = measured([one], columns, target, predictions)
    beside = measured([one] * 5, columns, target, predictions)[0]
    wider = (beside.excess_high - beside.excess_low) / (alone.excess_high - alone.excess_low)
    # Standard errors of 99 % and 95 %, two-sided.
    assert wider == pytest.approx(2.575829 / 1.959964, rel=1e-5)


def test_a_handful_of_bad_rows_is_no_slice():
    columns, target, _ = sample()
    columns["plan"][:29] = "r"
    wrong = target + np.where(columns["plan"] == "r", 50.0, np.random.default_rng(0).normal(size=len(target)))
    assert not any("plan is r" in part.name for part in find_worst(columns, losses(target, wrong), SCHEMA, min_rows=30))
    found = find_worst(columns, losses(target, wrong), SCHEMA, min_rows=29)
    assert found[0].name == "plan is r"


def test_a_part_as_bad_as_its_whole_says_nothing_new():
    columns, target, _ = sample()
    wrong = target + np.random.default_rng(0).normal(size=len(target)) * np.where(columns["plan"] == "b", 3.0, 1.0)
    found = [part.name for part in find_worst(columns, losses(target, wrong), SCHEMA, min_rows=30)]
    assert found[0] == "plan is b"
    assert "plan is b and autopay is yes" not in found
    assert "plan is b and autopay is no" not in found


def test_sensitive_values_name_no_found_slice():
    columns, target, _ = sample()
    spread = np.where(columns["email"] == "me@x", 3.0, 1.0)
    wrong = target + np.random.default_rng(0).normal(size=len(target)) * spread
    found = find_worst(columns, losses(target, wrong), SCHEMA, min_rows=30)
    assert not any("email" in part.name or "me@x" in part.name for part in found)


def test_slices_by_columns_are_all_their_values_and_pairs():
    columns, _, _ = sample()
    by_one = declared_slices([SliceSpec(by=("plan",))], columns, SCHEMA)
    by_two = declared_slices([SliceSpec(by=("plan", "autopay"))], columns, SCHEMA)
    assert [part.name for part in by_one] == ["plan is a", "plan is b", "plan is c"]
    assert len(by_two) == 6
    assert by_two[0].name == "plan is a and autopay is no"


def test_a_slice_by_a_sensitive_column_names_no_value():
    columns, _, _ = sample()
    told = [part.name for part in declared_slices([SliceSpec(by=("email",))], columns, SCHEMA)]
    assert told == ["email is value 1", "email is value 2"]
    (where,) = declared_slices([SliceSpec(where={"email": "me@x"})], columns, SCHEMA)
    assert where.name == "email is ***"
    assert where.mask(columns, 2_000).sum() == (columns["email"] == "me@x").sum()


@pytest.mark.parametrize("word", ["yes", "true", "1", "YES"])
def test_a_boolean_may_be_said_in_any_of_its_words(word):
    columns, _, _ = sample()
    (part,) = declared_slices([SliceSpec(where={"autopay": word})], columns, SCHEMA)
    np.testing.assert_array_equal(part.mask(columns, 2_000), columns["autopay"] == 1)


def test_where_takes_values_and_ranges_and_a_name():
    columns, target, predictions = sample()
    spec = SliceSpec(where={"plan": ["a", "b"], "age": {"minimum": 60}}, name="seniors", floors={"mae": 1.0})
    (part,) = declared_slices([spec], columns, SCHEMA)
    (one,) = measured([part], columns, target, predictions)
    assert (one.name, part.floors) == ("seniors", {"mae": 1.0})
    assert one.rows == int((np.isin(columns["plan"], ["a", "b"]) & (columns["age"] >= 60)).sum())


def test_too_few_rows_are_not_judged():
    columns, target, predictions = sample(200)
    (part,) = declared_slices([SliceSpec(where={"age": {"minimum": 70}})], columns, SCHEMA)
    (one,) = measured([part], columns, target, predictions)
    assert one.metrics is None
    assert not one.clearly_worse


def test_a_slice_of_every_row_has_nothing_to_be_compared_with():
    columns, target, predictions = sample(200)
    (part,) = declared_slices([SliceSpec(where={"age": {"minimum": -1000}})], columns, SCHEMA)
    (one,) = measured([part], columns, target, predictions)
    assert one.rows == 200
    assert one.excess_loss is None
    assert one.excess_low is None


def test_a_declared_slice_of_no_column_is_empty_and_said():
    columns, target, predictions = sample(200)
    assert declared_slices([SliceSpec(by=("absent",))], columns, SCHEMA) == []
    (part,) = declared_slices([SliceSpec(where={"absent": "x"})], columns, SCHEMA)
    (one,) = measured([part], columns, target, predictions)
    assert one.rows == 0


def test_constant_losses_have_no_worst_slice():
    columns, _, _ = sample(300)
    assert find_worst(columns, np.ones(300), SCHEMA, min_rows=30) == []
