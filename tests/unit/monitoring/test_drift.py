"""Drift needs both: a change that matters, and more than chance."""

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.drift import ColumnDrift, compare_column, find_changed_correlations, find_drift
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import DependenceRule, DriftRule
from millrace.stats.distances import Distance

from tests.unit.monitoring.builders import make_histogram, make_reference

WATCH = DriftRule()


def judge(*distances, rows=1_000, watch=WATCH):
    drifts = [
        ColumnDrift(f"c{place}", {"psi": distance}, rows, {"mean": 1.0}, {"mean": 2.0})
        for place, distance in enumerate(distances)
    ]
    found = find_drift("feature_drift", drifts, watch, rate=0.001, baseline="in training")
    return [finding.status for finding in found]


def test_what_is_large_and_sure_is_drift():
    assert judge(Distance(0.3, 0.2, 1e-9)) == ["breach"]


def test_what_is_sure_and_small_is_none():
    assert judge(Distance(0.05, 0.04, 1e-30)) == ["ok"]


def test_what_is_large_and_may_be_chance_is_none():
    assert judge(Distance(0.3, 0.2, 0.01)) == ["ok"]


def test_among_many_features_one_has_to_be_surer():
    once = Distance(0.3, 0.2, 0.0005)
    assert judge(once) == ["breach"]
    assert judge(once, *[Distance(0.0, 0.0, 0.5)] * 50)[0] == "ok"


def test_few_rows_say_nothing():
    assert judge(Distance(0.3, 0.2, 1e-9), rows=199) == ["unknown"]


def test_a_tiny_shift_of_very_many_rows_is_no_drift():
    reference = make_reference()
    present = make_histogram(reference, 60_000, age_shift=0.1)
    drift = compare_column("age", reference.bins["age"], reference.training.columns["age"], present.columns["age"])
    assert drift.distances["psi"].p_value < 0.001
    assert find_drift("feature_drift", [drift], WATCH, rate=0.001, baseline="in training")[0].status == "ok"


@pytest.mark.parametrize("measure", ["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"])
@pytest.mark.parametrize("column", ["age", "city"])
def test_every_measure_sees_a_large_change_of_numbers_and_of_words(measure, column):
    reference = make_reference()
    watch = DriftRule(measure=measure)
    for changes, expected in (({}, "ok"), ({"age_shift": 1.0, "cities": (0.1, 0.2, 0.7)}, "breach")):
        present = make_histogram(reference, 1_000, **changes)
        drift = compare_column(
            column, reference.bins[column], reference.training.columns[column], present.columns[column]
        )
        [found] = find_drift("feature_drift", [drift], watch, rate=0.001, baseline="in training")
        assert found.status == expected, found.message


@pytest.mark.parametrize(("share", "status"), [(0.03, "unknown"), (0.2, "breach")])
def test_a_flag_that_is_rare_has_no_correlation_that_a_window_could_show(share, status):
    """A holiday of a week is one day's weather."""
    draw = np.random.default_rng(0)
    columns = {name: draw.normal(size=4_000) for name in ("age", "income")}
    columns["age"] = (draw.random(4_000) < share).astype(np.float64)
    features = (Column("age", "integer"), Column("income", "number"))
    target = Column("target", "category", role="target", categories=("no", "yes"))
    schema = TableSchema(columns=(*features, target), task="binary", classes=("no", "yes"))
    reference = Reference.build(describe_reference(schema, columns, np.arange(4_000) % 2), schema)
    flags = (np.arange(400) < 400 * share).astype(np.float64)
    now = count_in_bins(
        {"age": flags, "income": draw.normal(size=400) + 9.0 * flags}, 400, reference.bins, reference.plan
    )
    found = find_changed_correlations(reference, reference.training, now, DependenceRule(), 0.001)
    assert found[0].status == status
