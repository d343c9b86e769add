"""Estimates without ground truth: the interval has the model's error, and beyond training there is none."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.evaluation.analysis import profile_predictions
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram, Traffic
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.quality import measure_outcomes
from millrace.monitoring.rules import evaluate_traffic
from millrace.monitoring.support import MAX_BEYOND, measure_support
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec
from msgspec import structs

from tests.unit.monitoring.builders import CLASSES, SCHEMA, make_columns, make_histogram, make_reference

REFERENCE = make_reference()
SPEC = MonitoringSpec()


def draw(rows, seed, *, wrong=0.0, **changes):
    """Columns, predictions and outcomes; in Rome the share ``wrong`` of the outcomes is flipped."""
    columns = make_columns(rows, seed, **changes)
    chance = 1.0 / (1.0 + np.exp(-(columns["age"] - 40.0) / 5.0))
    truth = chance + wrong * (columns["city"] == "Rome") * (1.0 - 2.0 * chance)
    outcomes = (np.random.default_rng(seed + 1).random(rows) < truth).astype(np.int64)
    return columns, np.column_stack([1.0 - chance, chance]), outcomes


@cache
def make_version(wrong=0.0, rows=4_000, **changes):
    columns, probabilities, outcomes = draw(rows, 5, wrong=wrong)
    profile = profile_predictions(
        SCHEMA,
        probabilities,
        outcomes,
        train_target=outcomes,
        threshold=None,
        groups={},
        columns=columns | {"city": columns["city"].astype(np.str_)},
        **changes,
    )
    return MonitoredVersion("binary", CLASSES, REFERENCE, PredictionProfile.read(profile.write()), "accuracy")


def classify(probabilities):
    return ClassPredictions(probabilities.argmax(axis=1).astype(np.int64), probabilities)


def estimate(version, columns, probabilities):
    rows = len(probabilities)
    features = count_in_bins(columns, rows, REFERENCE.bins, REFERENCE.plan)
    traffic = Traffic(features=features, predictions=PredictionHistogram.count(classify(probabilities)))
    found = evaluate_traffic(traffic, version, SPEC, Baselines())
    return next(finding for finding in found if finding.verdict == "estimated_quality")


class TestErrors:
    def test_a_model_that_is_calibrated_in_every_part_has_hardly_an_error(self):
        errors = make_version().profile.estimate_errors
        assert set(errors) == {"accuracy", "roc_auc", "f1", "log_loss", "brier"}
        assert max(errors["accuracy"].values()) < 0.03

    def test_a_model_that_is_wrong_in_parts_has_the_error_of_its_parts(self):
        calibrated, wrong = make_version().profile.estimate_errors, make_version(wrong=0.15).profile.estimate_errors
        for name in ("log_loss", "brier", "accuracy"):
            assert wrong[name]["city"] > 3 * max(0.005, calibrated[name]["city"]), name
            assert wrong[name]["city"] > wrong[name]["income"] >= min(wrong[name].values())

    def test_a_small_holdout_has_no_parts(self):
        assert make_version(rows=50).profile.estimate_errors is None

    @pytest.mark.parametrize("city", ["Bern", "Oslo", "Rome"])
    def test_the_interval_holds_the_truth_of_a_part(self, city):
        version = make_version(wrong=0.15)
        columns, probabilities, outcomes = draw(9_000, 21, wrong=0.15)
        own = columns["city"] == city
        finding = estimate(version, {name: values[own] for name, values in columns.items()}, probabilities[own])
        low, high = finding.details["low"], finding.details["high"]
        truth = measure_outcomes(OutcomeHistogram.count(classify(probabilities[own]), outcomes[own]))["accuracy"].value
        assert low <= truth <= high
        assert 0.3 < finding.details["distance"] < 0.9


class TestSupport:
    @pytest.mark.parametrize("seed", range(5))
    def test_unchanged_rows_are_within_it(self, seed):
        support = measure_support(REFERENCE, make_histogram(REFERENCE, 250, seed=seed), ())
        assert support.reason == ""
        assert support.distance < 0.1

    def test_another_mix_is_at_its_distance(self):
        mixed = make_histogram(REFERENCE, 4_000, cities=(0.2, 0.3, 0.5))
        assert measure_support(REFERENCE, mixed, ()).distance == pytest.approx(0.3, abs=0.05)
        assert measure_support(REFERENCE, mixed, ()).reason == ""

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"age_shift": 8.0}, "values of 'age' beyond those of training"),
            ({"missing": 0.2}, "no value of 'age', which training always had"),
        ],
    )
    def test_values_that_training_did_not_have_are_beyond_it(self, change, reason):
        assert reason in measure_support(REFERENCE, make_histogram(REFERENCE, **change), ()).reason

    @pytest.mark.parametrize(("share", "beyond"), [(MAX_BEYOND / 2, False), (2 * MAX_BEYOND, True)])
    def test_few_unseen_categories_do_not_matter(self, share, beyond):
        columns = make_columns(2_000)
        columns["city"][: int(share * 2_000)] = "Ulm"
        window = count_in_bins(columns, 2_000, REFERENCE.bins, REFERENCE.plan)
        reason = measure_support(REFERENCE, window, ()).reason
        assert ("did not have, for example 'Ulm'" in reason) is beyond
        assert measure_support(REFERENCE, window, ["city"]).reason == ""

    def test_a_pair_of_values_that_training_did_not_combine_is_beyond_it(self):
        def columns_of(rows, seed, *, together):
            columns = make_columns(rows, seed)
            if not together:
                columns["member"][columns["city"] == "Rome"] = 0.0
            return columns

        training = columns_of(5_000, 1, together=False)
        training["city"] = training["city"].astype(np.str_)
        reference = Reference.build(describe_reference(SCHEMA, training, np.arange(5_000) % 2), SCHEMA)
        for together in (False, True):
            window = count_in_bins(columns_of(1_000, 2, together=together), 1_000, reference.bins, reference.plan)
            reason = measure_support(reference, window, ()).reason
            assert ("which training did not combine" in reason) is together
            assert ("Rome" in reason and "member" in reason) is together

    def test_means_that_no_part_of_training_could_have_are_beyond_it(self):
        """Age and income correlate in training: old and poor at once are beyond, old alone are not."""
        columns = make_columns(60_000, 3, correlation=0.0)
        old, poor = columns["age"] > 52.0, columns["income"] < 300.0
        for mask, beyond in ((old, False), (old & poor, True)):
            own = {name: values[mask] for name, values in columns.items()}
            strict = make_reference(correlation=0.995)
            window = count_in_bins(own, int(mask.sum()), strict.bins, strict.plan)
            assert ("as these are on average" in measure_support(strict, window, ()).reason) is beyond


class TestFindings:
    def test_outside_of_training_it_is_not_known_and_the_reason_is_said(self):
        columns, probabilities, _ = draw(1_000, 3, age_shift=8.0)
        finding = estimate(make_version(), columns, probabilities)
        assert finding.status == "unknown"
        assert finding.message.startswith("not known: ")
        assert "values of 'age' beyond those of training" in finding.message
        assert (finding.value, finding.details) == (None, {})

    def test_so_far_from_training_that_its_error_exceeds_the_threshold_it_is_not_known(self):
        version = make_version()
        errors = {**version.profile.estimate_errors, "accuracy": {"city": 0.2}}
        unsure = replace(version, profile=structs.replace(version.profile, estimate_errors=errors))
        columns, probabilities, _ = draw(1_000, 3, cities=(0.1, 0.2, 0.7))
        assert estimate(version, columns, probabilities).status == "ok"
        finding = estimate(unsure, columns, probabilities)
        assert (finding.status, finding.details["metric"]) == ("unknown", "accuracy")
        assert "may be off by" in finding.message

    def test_a_profile_of_an_earlier_release_has_no_measured_error(self):
        version = make_version()
        stored = version.profile.write().replace(b'"estimate_errors"', b'"left_out"')
        old = MonitoredVersion("binary", CLASSES, REFERENCE, PredictionProfile.read(stored), "accuracy")
        columns, probabilities, _ = draw(1_000, 3)
        finding = estimate(old, columns, probabilities)
        assert (finding.status, "was not measured" in finding.message) == ("unknown", True)

    def test_an_incident_of_an_estimate_that_is_withdrawn_ends(self):
        begin, history = datetime(2026, 5, 3, tzinfo=UTC), IncidentHistory()
        breach = WindowFinding("estimated_quality", "quality", "breach", "rmse grew")
        withdrawn = WindowFinding("estimated_quality", "quality", "unknown", "-", details={"withdrawn": True})
        told = []
        for hour, finding in enumerate([breach, breach, withdrawn]):
            window = (begin + timedelta(hours=hour), begin + timedelta(hours=hour + 1))
            history, steps = advance(
                history, [finding], SPEC, model="churn", version=1, window=window, repeat_after=timedelta(days=1)
            )
            told += [step.step for step in steps]
        assert told == ["opened", "resolved"]
