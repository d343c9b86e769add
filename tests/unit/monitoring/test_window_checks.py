"""Verdicts on windows: each sees its own fault, and nothing when nothing changed."""

import numpy as np
import pytest
from millrace.errors import InvalidInputError
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram, Traffic
from millrace.histograms.tables import count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.rules import evaluate_outcomes, evaluate_traffic
from millrace.spec import ModelSpec
from millrace.spec.monitoring import BiasRule, MonitoringSpec

from tests.unit.histograms.test_histograms import make_predictions
from tests.unit.monitoring.builders import CLASSES, make_columns, make_histogram, make_reference

REFERENCE = make_reference()
HOLDOUT = make_predictions(4_000, 55)
PROFILE = PredictionProfile(
    predictions=PredictionHistogram.count(HOLDOUT[0]),
    outcomes=OutcomeHistogram.count(*HOLDOUT),
    estimate_errors={"accuracy": {"age": 0.02}, "roc_auc": {"age": 0.02}},
)
SUBJECT = MonitoredVersion("binary", CLASSES, REFERENCE, PROFILE)
SPEC = MonitoringSpec()


def judge(background=None, rows=1_000, answers=None, **changes):
    traffic = Traffic(
        features=make_histogram(REFERENCE, rows, **changes),
        predictions=PredictionHistogram.count(answers or make_predictions(1_000, 8)[0]),
    )
    return evaluate_traffic(traffic, SUBJECT, SPEC, background or Baselines())


def breaches(findings):
    return {(finding.verdict, finding.subject) for finding in findings if finding.status == "breach"}


def test_nothing_is_said_about_unchanged_traffic():
    found = [judge(seed=seed, answers=make_predictions(1_000, 100 + seed)[0]) for seed in range(20)]
    assert set().union(*map(breaches, found)) == set()
    assert {finding.verdict for finding in found[0]} == {
        "data_quality", "skew", "feature_drift", "dependence", "prediction_drift", "estimated_quality", "bias",
    }  # fmt: skip


def test_a_moved_mean_is_drift_of_that_feature_alone():
    found = judge(age_shift=1.0, correlation=0.7)
    drifted = {subject for verdict, subject in breaches(found) if verdict == "feature_drift"}
    assert drifted == {"age"}
    message = next(f.message for f in found if f.subject == "age" and f.verdict == "feature_drift")
    assert "mean 39" in message or "mean 40" in message
    assert "beyond chance" in message


def test_another_mix_of_categories_is_drift():
    assert ("feature_drift", "city") in breaches(judge(cities=(0.2, 0.3, 0.5)))


def test_missing_values_are_data_quality_and_not_drift():
    assert breaches(judge(missing=0.2)) == {("data_quality", "age: missing")}


def test_a_column_that_vanished_is_named():
    columns = make_columns(1_000)
    del columns["income"]
    traffic = Traffic(features=count_in_bins(columns, 1_000, REFERENCE.bins, REFERENCE.plan))
    found = evaluate_traffic(traffic, SUBJECT, SPEC, Baselines())
    vanished = next(f for f in found if f.subject == "income: missing")
    assert vanished.status == "breach"
    assert "no longer have the column" in vanished.message
    assert next(f for f in found if f.subject == "income" and f.verdict == "feature_drift").status == "unknown"


def test_unknown_categories_are_data_quality():
    columns = make_columns(1_000)
    columns["city"][:150] = "Atlantis"
    traffic = Traffic(features=count_in_bins(columns, 1_000, REFERENCE.bins, REFERENCE.plan))
    found = evaluate_traffic(traffic, SUBJECT, SPEC, Baselines())
    assert ("data_quality", "city: unknown") in breaches(found)
    assert "'Atlantis'" in next(f.message for f in found if f.subject == "city: unknown")


def test_a_broken_correlation_is_seen_though_no_feature_moved():
    found = judge(correlation=0.0)
    assert breaches(found) == {("dependence", "age and income")}
    assert "0.69 in training → " in next(f.message for f in found if f.status == "breach")


def test_one_row_is_too_little_for_every_verdict():
    traffic = Traffic(
        features=make_histogram(REFERENCE, 1), predictions=PredictionHistogram.count(make_predictions(1)[0])
    )
    found = evaluate_traffic(traffic, SUBJECT, SPEC, Baselines(previous=traffic))
    assert {finding.status for finding in found} == {"unknown"}


def test_no_rows_are_too_little_too():
    traffic = Traffic(
        features=make_histogram(REFERENCE, 0), predictions=PredictionHistogram.count(make_predictions(0)[0])
    )
    assert breaches(evaluate_traffic(traffic, SUBJECT, SPEC, Baselines(previous=traffic))) == set()


def test_what_was_there_in_the_first_window_is_skew():
    first = judge(Baselines(first=True), age_shift=1.0)
    assert ("skew", "age") in breaches(first)
    assert not any(finding.verdict == "feature_drift" for finding in first)
    later = judge(Baselines(skewed=("age",)), age_shift=1.0)
    assert ("skew", "age") in breaches(later)
    assert ("feature_drift", "age") not in breaches(later)


def test_a_sudden_change_is_seen_against_the_window_before():
    before = Traffic(
        features=make_histogram(REFERENCE, 1_000, seed=4),
        predictions=PredictionHistogram.count(make_predictions(1_000, 9)[0]),
    )
    assert ("feature_change", "age") in breaches(judge(Baselines(previous=before), age_shift=1.0))


def test_other_answers_are_prediction_drift():
    answers = make_predictions(4_000, 8)[0]
    sure = answers.take(answers.probabilities[:, 1] > 0.5)
    found = judge(answers=sure)
    assert ("prediction_drift", "predicted label") in breaches(found)
    assert ("prediction_drift", "probability of 'yes'") in breaches(found)


def test_unsure_answers_are_expected_to_be_worse():
    answers = make_predictions(4_000, 8)[0]
    found = judge(answers=answers.take(answers.confidence < 0.7))
    assert ("estimated_quality", "quality") in breaches(found)
    assert "without any outcome" in next(f.message for f in found if f.verdict == "estimated_quality")


def test_flipped_labels_are_a_change_of_concept_when_the_inputs_hold():
    answers, outcomes = make_predictions(1_000, 8)
    flipped = np.where(np.random.default_rng(0).random(1_000) < 0.4, 1 - outcomes, outcomes)
    found = evaluate_outcomes(OutcomeHistogram.count(answers, flipped), 2_000, SUBJECT, SPEC, judge())
    assert {verdict for verdict, _ in breaches(found)} >= {"live_quality", "concept_drift", "calibration"}
    assert "50% of the predictions" in next(f.message for f in found if f.verdict == "live_quality")
    drifted = evaluate_outcomes(OutcomeHistogram.count(answers, flipped), 2_000, SUBJECT, SPEC, judge(age_shift=1.0))
    assert ("concept_drift", "relation to the outcome") not in breaches(drifted)
    unknown = evaluate_outcomes(OutcomeHistogram.count(answers, flipped), 2_000, SUBJECT, SPEC, [])
    assert next(f for f in unknown if f.verdict == "concept_drift").status == "unknown"


def test_outcomes_as_on_the_holdout_are_in_order():
    for seed in range(20):
        answers, outcomes = make_predictions(500, 200 + seed)
        assert (
            breaches(evaluate_outcomes(OutcomeHistogram.count(answers, outcomes), 500, SUBJECT, SPEC, judge())) == set()
        )


def test_few_outcomes_say_nothing():
    answers, outcomes = make_predictions(20, 8)
    found = evaluate_outcomes(OutcomeHistogram.count(answers, outcomes), 500, SUBJECT, SPEC, judge())
    assert {finding.status for finding in found} == {"unknown"}


def test_a_group_that_is_selected_less_than_on_the_holdout_is_bias():
    answers, _ = make_predictions(3_000, 8)
    decided = np.where(np.array(answers.groups["sex"]) == "f", 0, answers.decided)
    found = judge(answers=ClassPredictions(decided, answers.probabilities, answers.groups))
    assert ("bias", "sex: selection") in breaches(found)
    few = MonitoringSpec(bias=BiasRule(min_rows=5_000))
    traffic = Traffic(
        features=make_histogram(REFERENCE),
        predictions=PredictionHistogram.count(ClassPredictions(decided, answers.probabilities, answers.groups)),
    )
    silent = evaluate_traffic(traffic, SUBJECT, few, Baselines())
    assert next(f for f in silent if f.verdict == "bias").status == "unknown"


@pytest.mark.parametrize("name", ["data_quality", "dependence", "feature_drift", "prediction_drift", "bias"])
def test_a_verdict_can_be_switched_off(name):
    watch = getattr(SPEC, name).model_copy(update={"enabled": False})
    spec = SPEC.model_copy(update={name: watch})
    traffic = Traffic(
        features=make_histogram(REFERENCE, 1_000, age_shift=2.0),
        predictions=PredictionHistogram.count(make_predictions(500)[0]),
    )
    assert name not in {finding.verdict for finding in evaluate_traffic(traffic, SUBJECT, spec, Baselines())}


def test_a_spec_that_asks_for_the_impossible_is_refused():
    with pytest.raises(InvalidInputError, match="4 breaches cannot be among 3 windows"):
        ModelSpec.parse({"monitoring": {"feature_drift": {"breaches": 4}}})
    with pytest.raises(InvalidInputError, match="there is no such field"):
        ModelSpec.parse({"monitoring": {"featuredrift": {}}})
