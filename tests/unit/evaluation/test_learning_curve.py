"""Over- and underfitting are told apart, and the learning curve keeps to its time."""

from dataclasses import replace

import numpy as np
import pytest
from millrace.errors import TrainingFailedError
from millrace.evaluation.learning_curve import diagnose, learning_curve
from millrace.evaluation_results import LearningCurvePoint, SplitMetrics
from millrace.metrics.catalogue import LOG_LOSS, RMSE, ROC_AUC

from tests.prepared_data import make_dataset
from tests.registry_builders import make_trial
from tests.training_run import TickingClock


def of(name, train, validation, holdout):
    values = {"train": train, "validation": validation, "holdout": holdout}
    return {split: SplitMetrics(100, {name: value}) for split, value in values.items()}


@pytest.mark.parametrize(
    ("metric", "values", "baseline", "verdict"),
    [
        (ROC_AUC, (0.90, 0.88, 0.87), 0.5, "sound"),
        (ROC_AUC, (1.00, 0.80, 0.79), 0.5, "overfit"),
        (ROC_AUC, (0.54, 0.52, 0.53), 0.5, "underfit"),
        (ROC_AUC, (0.45, 0.52, 0.53), 0.5, "underfit"),
        (RMSE, (10.0, 11.0, 11.0), 20.0, "sound"),
        (RMSE, (2.0, 14.0, 15.0), 20.0, "overfit"),
        (RMSE, (19.5, 19.6, 19.7), 20.0, "underfit"),
    ],
)
def test_verdict_follows_from_what_survives(metric, values, baseline, verdict):
    fit = diagnose(metric, of(metric.name, *values), {metric.name: baseline})
    assert fit.verdict == verdict
    assert f"{values[0]:.4g} in training" in fit.explanation


def test_overfitting_says_how_much_is_lost():
    fit = diagnose(ROC_AUC, of("roc_auc", 1.0, 0.75, 0.75), {"roc_auc": 0.5})
    assert fit.lost_share == pytest.approx(0.5)
    assert "50% of its gain" in fit.explanation


@pytest.mark.parametrize(
    ("metric", "values", "baseline", "perfection"),
    [
        (RMSE, (0.0005, 0.0006, 0.00056), 180.0, {"r2": 0.9999}),
        (ROC_AUC, (1.0, 1.0, 1.0), 0.5, {"roc_auc": 1.0}),
        (LOG_LOSS, (0.001, 0.001, 0.001), 0.69, {"accuracy": 1.0}),
    ],
)
def test_a_nearly_perfect_model_is_not_called_sound(metric, values, baseline, perfection):
    splits = of(metric.name, *values)
    measured = splits["holdout"].metrics | perfection
    for rows, verdict in ((49, "sound"), (50, "nearly perfect")):
        holdout = {"holdout": SplitMetrics(rows, measured)}
        fit = diagnose(metric, splits | holdout, {metric.name: baseline})
        assert fit.verdict == verdict
        assert ("See the gate's check of leakage." in fit.explanation) == (verdict == "nearly perfect")


def test_a_factor_between_training_and_holdout_is_stated_though_the_fit_is_sound():
    fit = diagnose(RMSE, of("rmse", 0.465, 0.84, 0.853), {"rmse": 2.3})

    assert fit.verdict == "sound"
    assert "0.853 on the holdout, 1.8 times as much as on rows that it has seen" in fit.explanation
    assert "79% of its gain over the trivial baseline (2.3) in training holds on new rows" in fit.explanation
    alike = diagnose(RMSE, of("rmse", 25_000.0, 25_500.0, 25_870.0), {"rmse": 80_000.0})
    assert "times as much" not in alike.explanation
    assert "rmse is 25,000 in training, 25,500 in validation and 25,870 on the holdout" in alike.explanation


def test_without_a_number_nothing_is_concluded():
    assert diagnose(ROC_AUC, of("accuracy", 1.0, 1.0, 1.0), {"roc_auc": 0.5}).verdict == "unknown"
    assert diagnose(ROC_AUC, of("roc_auc", 1.0, 1.0, 1.0), {}).verdict == "unknown"


def curve(refit, seconds=60.0, duration=1.0, clock=None, train=None):
    dataset = make_dataset("binary", rows=2_000)
    return learning_curve(
        make_trial("t1", duration_seconds=duration),
        dataset.schema,
        train or dataset.splits["train"],
        dataset.splits["validation"],
        metric=ROC_AUC,
        whole=(0.95, 0.9),
        refit=refit,
        seconds=seconds,
        clock=clock or TickingClock(step=0.001),
    )


def by_rows(_trial, _schema, train, splits):
    assert len(np.unique(train.row_ids)) == len(train)
    return [{"roc_auc": 0.99}, {"roc_auc": 0.5 + len(train) / 10_000}] if len(splits) == 2 else []


def test_the_curve_goes_from_a_tenth_to_the_winner_itself():
    points = curve(by_rows).points
    assert points == tuple(
        LearningCurvePoint(*point)
        for point in ((100, 0.99, 0.51), (250, 0.99, 0.525), (500, 0.99, 0.55), (1_000, 0.95, 0.9))
    )


def test_a_refit_that_would_take_too_long_is_not_begun():
    slow = curve(by_rows, seconds=10.0, duration=30.0)
    assert [point.rows for point in slow.points] == [100, 250, 1_000]
    assert "longer than" in slow.note
    assert curve(by_rows, seconds=0.0).points == ()


def test_a_share_that_cannot_be_learnt_from_is_left_out():
    def fails_on_few(trial, schema, train, splits):
        if len(train) < 200:
            raise TrainingFailedError("a class is missing")
        return by_rows(trial, schema, train, splits)

    found = curve(fails_on_few)
    assert [point.rows for point in found.points] == [250, 500, 1_000]
    assert "could not be fitted" in found.note


def test_a_share_has_rows_of_every_class():
    dataset = make_dataset("binary", rows=2_000)
    train = dataset.splits["train"]
    rare = train.target.copy()
    rare[:] = 0
    rare[-3:] = 1  # three rows of one class among a thousand
    seen = []

    def fits_every_class(trial, schema, part, splits):
        seen.append(set(part.target.tolist()))
        return by_rows(trial, schema, part, splits)

    found = curve(fits_every_class, train=replace(train, target=rare))

    assert seen == [{0, 1}] * 3
    assert len(found.points) == 4
    assert found.note == ""
