"""Regression: bias between groups, and what can be expected of errors before there are outcomes."""

import json

import numpy as np
import pytest
from millrace.data.reference import describe_column
from millrace.evaluation.analysis import profile_predictions
from millrace.histograms.outcomes import ErrorSums, PredictionProfile
from millrace.histograms.predictions import Traffic, ValueHistogram
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.rules import evaluate_outcomes, evaluate_traffic
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import MonitoringSpec

from tests.unit.monitoring.builders import make_reference

SCHEMA = TableSchema((Column("price", "number", "target"),), "regression")
TOWNS = ("Bern", "Oslo")
FEATURES = make_reference()


def draw(rows, seed, *, dear=0.0, offset=0.0, bias=0.0, spread=0.0):
    """Prices whose error grows with them; ``bias`` overrates Oslo, ``offset`` makes its answers higher."""
    generator = np.random.default_rng(seed)
    towns = generator.choice(TOWNS, size=rows)
    oslo = towns == "Oslo"
    truth = 100.0 * np.exp(0.5 * generator.normal(size=rows) + dear) + offset * oslo
    errors = 0.1 * truth * generator.normal(size=rows) * (1.0 + spread * oslo)
    return truth + errors + bias * oslo, truth, towns


def make_subject(*, groups=True):
    values, truth, towns = draw(4_000, 1)
    profile = profile_predictions(
        SCHEMA, values, truth, train_target=truth, threshold=None, groups={"town": towns} if groups else {}
    )
    assert profile is not None
    target = describe_column(SCHEMA.target, truth).make_bins()
    reference = Reference(FEATURES.bins, FEATURES.plan, FEATURES.training, target)
    return MonitoredVersion("regression", (), reference, PredictionProfile.read(profile.write()))


SUBJECT = make_subject()


def judge_answers(subject=SUBJECT, rows=1_000, **changes):
    values, _, towns = draw(rows, 2, **changes)
    bins = subject.reference.target
    answers = ValueHistogram.count(values, bins, {"town": towns.tolist()})
    nothing = count_in_bins({}, 0, subject.reference.bins, subject.reference.plan)
    found = evaluate_traffic(Traffic(features=nothing, predictions=answers), subject, MonitoringSpec(), Baselines())
    return {finding.key: finding for finding in found}


def judge_errors(subject=SUBJECT, rows=1_000, **changes):
    values, truth, towns = draw(rows, 3, **changes)
    sketch = ErrorSums.measure(values, truth, {"town": towns.tolist()}, subject.reference.target.center)
    found = evaluate_outcomes(sketch, rows, subject, MonitoringSpec(), [])
    return {finding.key: finding for finding in found}


def test_nothing_is_said_about_groups_that_are_as_on_the_holdout():
    found = [*judge_answers().values(), *judge_errors().values()]
    told = {finding.subject: finding.status for finding in found if finding.verdict == "bias"}
    assert told == dict.fromkeys(("town: prediction", "town: error", "town: absolute error"), "ok")


def test_a_group_whose_answers_rise_is_told_without_any_outcome():
    finding = judge_answers(offset=40.0)["bias:town: prediction"]
    assert finding.status == "breach"
    assert finding.value == pytest.approx(40.0 / SUBJECT.reference.target.scale, abs=0.15)
    assert "deviations" in finding.message


def test_a_group_that_is_overrated_is_told():
    found = judge_errors(bias=10.0)
    assert found["bias:town: error"].status == "breach"
    assert "'Oslo' +" in found["bias:town: error"].message


def test_a_group_whose_errors_grow_to_either_side_is_told():
    found = judge_errors(spread=1.5)
    assert found["bias:town: error"].status == "ok"
    assert found["bias:town: absolute error"].status == "breach"


def test_few_rows_of_a_group_say_nothing():
    assert judge_errors(rows=150)["bias:town: error"].status == "unknown"


def test_a_holdout_whose_groups_were_not_kept_says_so():
    assert judge_answers(make_subject(groups=False))["bias:town: prediction"].status == "unknown"


@pytest.mark.parametrize("dear", [0.0, 0.5])
def test_errors_are_not_estimated_without_ground_truth_and_it_is_said(dear):
    finding = judge_answers(dear=dear)["estimated_quality:quality"]
    assert finding.status == "unknown"
    assert "cannot be estimated without ground truth" in finding.message
    assert finding.value is None


def test_a_profile_of_an_older_release_is_read_and_says_what_it_cannot():
    document = json.loads(SUBJECT.profile.write())
    del document["format_version"]
    del document["errors_by_value"]
    del document["answers"]["groups"]
    groups = document["outcomes"]["groups"]["town"]
    document["outcomes"]["groups"]["town"] = {town: sums[:3] for town, sums in groups.items()}
    old = MonitoredVersion("regression", (), SUBJECT.reference, PredictionProfile.read(document))
    found = judge_answers(old)
    assert found["estimated_quality:quality"].status == "unknown"
    assert found["bias:town: prediction"].status == "unknown"
    assert judge_errors(old)["bias:town: error"].status == "ok"
    assert judge_errors(old, bias=20.0)["bias:town: error"].status == "breach"


def test_answers_by_group_add_up_and_survive_json():
    values, _, towns = draw(1_000, 4)
    bins = SUBJECT.reference.target
    whole = ValueHistogram.count(values, bins, {"town": towns.tolist()})
    parts = ValueHistogram.count(values[:300], bins, {"town": towns[:300].tolist()})
    parts += ValueHistogram.count(values[300:], bins, {"town": towns[300:].tolist()})
    nothing = count_in_bins({}, 0, SUBJECT.reference.bins, SUBJECT.reference.plan)
    again = Traffic.read(Traffic(features=nothing, predictions=parts).write()).predictions
    np.testing.assert_array_equal(again.counts, whole.counts)
    for town in TOWNS:
        np.testing.assert_allclose(again.groups["town"][town], whole.groups["town"][town])
