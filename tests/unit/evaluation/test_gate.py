"""The gate's rules, one by one."""

import re
from dataclasses import replace

import pytest
import yaml
from millrace.documents import to_plain
from millrace.errors import InvalidInputError
from millrace.evaluation.gate import GateEvidence, SliceEvidence, decide
from millrace.evaluation_results import ChampionComparison
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.catalogue import get_metric
from millrace.spec.training import GateSpec
from millrace.training.trial_record import ParityReport

EVIDENCE = GateEvidence(
    task="binary",
    primary_metric=get_metric("binary", None),
    metrics={"roc_auc": 0.9, "log_loss": 0.3},
    baseline_gain=ConfidenceInterval(0.3, 0.45),
    champion=None,
    model_bytes=1000,
    parity=ParityReport(1e-7, 0, 100, passed=True),
)


def test_amounts_of_money_in_reasons_can_be_read():
    evidence = replace(
        EVIDENCE,
        task="regression",
        primary_metric=get_metric("regression", None),
        metrics={"rmse": 25_870.4},
        baseline_gain=ConfidenceInterval(51_060.4, 60_123.4),
    )
    result = decide(evidence, GateSpec(floors={"rmse": 20_000.0}))

    assert result.reasons == ("rmse is 25,870 and must be at most 20,000",)
    assert any("its gain in rmse is 51,060 to 60,123" in check.explanation for check in result.checks)


def test_first_model_needs_only_the_floors_and_the_baseline():
    result = decide(EVIDENCE, GateSpec())

    assert result.decision == "promote"
    assert [check.name for check in result.checks] == ["answers", "baseline", "model_size", "parity", "leakage"]
    assert result.reasons == ("this is the model's first version; it beats the trivial baseline and meets every floor",)


@pytest.mark.parametrize(
    ("floors", "decision"),
    [
        ({"roc_auc": 0.9}, "promote"),
        ({"roc_auc": 0.91}, "reject"),
        ({"log_loss": 0.3}, "promote"),
        ({"log_loss": 0.29}, "reject"),
        ({"roc_auc": 0.8, "log_loss": 0.1}, "reject"),
    ],
)
def test_floor_is_a_least_value_or_a_greatest_one_for_losses(floors, decision):
    assert decide(EVIDENCE, GateSpec(floors=floors)).decision == decision


def test_floor_of_a_metric_that_is_not_defined_is_missed():
    result = decide(EVIDENCE, GateSpec(floors={"pr_auc": 0.1}))

    assert result.decision == "reject"
    assert result.reasons == ("pr_auc is not defined on the holdout",)


def test_floor_of_an_unknown_metric_is_the_specs_fault():
    with pytest.raises(InvalidInputError, match="unknown metric 'rmse'"):
        decide(EVIDENCE, GateSpec(floors={"rmse": 1.0}))


@pytest.mark.parametrize("gain", [ConfidenceInterval(0.0, 0.4), ConfidenceInterval(-0.1, 0.2), None])
def test_gain_over_the_baseline_must_exclude_nothing(gain):
    result = decide(replace(EVIDENCE, baseline_gain=gain), GateSpec())

    assert result.decision == "reject"
    assert not next(check for check in result.checks if check.name == "baseline").passed


@pytest.mark.parametrize(
    "changes", [{"model_bytes": 1001}, {"parity": ParityReport(0.2, 0, 100, passed=False)}], ids=["size", "parity"]
)
def test_large_or_differing_model_is_rejected(changes):
    assert decide(EVIDENCE, GateSpec(max_model_bytes=1000)).decision == "promote"
    assert decide(replace(EVIDENCE, **changes), GateSpec(max_model_bytes=1000)).decision == "reject"


@pytest.mark.parametrize(
    ("gain", "decision"),
    [
        (ConfidenceInterval(0.01, 0.03), "promote"),
        (ConfidenceInterval(-0.01, 0.02), "keep"),
        (ConfidenceInterval(0.0, 0.0), "keep"),
        (ConfidenceInterval(-0.05, -0.01), "keep"),
    ],
)
def test_champion_is_replaced_without_a_reason_only_by_what_is_clearly_better(gain, decision):
    result = decide(replace(EVIDENCE, champion=ChampionComparison(4, gain)), GateSpec())

    assert result.decision == decision
    assert "version 4" in result.reasons[0]


def test_missed_floor_rejects_what_would_else_be_kept():
    evidence = replace(EVIDENCE, champion=ChampionComparison(4, ConfidenceInterval(-0.2, -0.1)))

    assert decide(evidence, GateSpec(floors={"roc_auc": 0.99})).decision == "reject"
    assert decide(evidence, GateSpec()).decision == "keep"


def test_missed_floor_outweighs_a_beaten_champion():
    evidence = replace(EVIDENCE, champion=ChampionComparison(4, ConfidenceInterval(0.1, 0.2)))

    assert decide(evidence, GateSpec(floors={"roc_auc": 0.99})).decision == "reject"


@pytest.mark.parametrize(("schema_changed", "decision"), [(True, "promote"), (False, "keep")])
def test_champion_that_cannot_be_compared(schema_changed, decision):
    champion = ChampionComparison(
        4, not_compared="its features are not the present ones: age", schema_changed=schema_changed
    )

    result = decide(replace(EVIDENCE, champion=champion), GateSpec())

    assert result.decision == decision
    assert result.reasons == (
        "version 4 could not be compared on this holdout: its features are not the present ones: age",
    )


def test_checks_are_plain_json():
    assert to_plain(decide(EVIDENCE, GateSpec()).checks[2]) == {
        "name": "model_size",
        "passed": True,
        "value": 1000.0,
        "threshold": 100_000_000.0,
        "explanation": "the ONNX file has 1,000 bytes; the limit is 100,000,000",
    }


@pytest.mark.parametrize(
    ("gain", "rule", "decision"),
    [
        (ConfidenceInterval(-0.017, 0.01), "not_worse", "promote"),
        (ConfidenceInterval(-0.018, 0.01), "not_worse", "keep"),
        (ConfidenceInterval(-0.02, -0.01), "not_worse", "keep"),
        (ConfidenceInterval(0.01, 0.02), "not_worse", "promote"),
        (ConfidenceInterval(-0.02, 0.01), "better", "keep"),
        (ConfidenceInterval(0.0, 0.01), "better", "keep"),
        (ConfidenceInterval(0.01, 0.02), "better", "promote"),
    ],
)
def test_the_rule_says_what_replaces_a_champion(gain, rule, decision):
    evidence = replace(EVIDENCE, champion=ChampionComparison(3, gain, reasons=("its data is newer",)))
    assert decide(evidence, GateSpec(champion_rule=rule)).decision == decision


@pytest.mark.parametrize(
    ("latency", "decision"), [({"row": 99.0, "batch": 4_000.0}, "promote"), ({"row": 101.0, "batch": 1.0}, "reject")]
)
def test_latency_is_limited_and_its_numbers_are_kept(latency, decision):
    result = decide(replace(EVIDENCE, latency=latency), GateSpec())
    assert result.decision == decision
    checks = {check.name: (check.value, check.threshold) for check in result.checks}
    assert checks["latency:row"] == (latency["row"], 100.0)
    assert checks["latency:batch"] == (latency["batch"], 5_000.0)


def test_without_a_limit_latency_is_told_only():
    spec = GateSpec(max_row_milliseconds=None, max_batch_milliseconds=None)
    result = decide(replace(EVIDENCE, latency={"row": 1e9, "batch": 1e9}), spec)
    assert result.decision == "promote"
    assert "there is no limit" in next(check.explanation for check in result.checks if check.name == "latency:row")


def test_every_declared_slice_has_every_floor_and_its_own():
    slices = [
        SliceEvidence("good", 100, {"accuracy": 0.9, "roc_auc": 0.9}),
        SliceEvidence("bad", 100, {"accuracy": 0.5, "roc_auc": 0.9}, {"roc_auc": 0.95}),
    ]
    result = decide(replace(EVIDENCE, slices=slices), GateSpec(slice_floors={"accuracy": 0.8}))
    assert result.decision == "reject"
    failed = {check.name for check in result.checks if not check.passed}
    assert failed == {"slice:accuracy:bad", "slice:roc_auc:bad"}
    assert "in the slice 'bad' (100 rows), accuracy is 0.5 and must be at least 0.8" in result.reasons


def test_a_slices_own_floor_comes_before_that_of_every_slice():
    part = SliceEvidence("plan", 100, {"accuracy": 0.7}, {"accuracy": 0.6})
    assert decide(replace(EVIDENCE, slices=[part]), GateSpec(slice_floors={"accuracy": 0.8})).decision == "promote"


@pytest.mark.parametrize(("metrics", "reason"), [(None, "too few to evaluate"), ({}, "is not defined")])
def test_a_slice_that_cannot_be_judged_is_said_and_let_pass(metrics, reason):
    result = decide(replace(EVIDENCE, slices=[SliceEvidence("x", 3, metrics)]), GateSpec(slice_floors={"roc_auc": 0.9}))
    (check,) = [check for check in result.checks if check.name.startswith("slice:")]
    assert (result.decision, check.passed) == ("promote", True)
    assert reason in check.explanation


def test_answers_that_are_no_numbers_are_rejected_before_anything_else():
    result = decide(replace(EVIDENCE, non_finite_rows=2, metrics={}, baseline_gain=None), GateSpec())
    assert result.decision == "reject"
    assert result.reasons[0] == "the model's prediction is not a number for 2 rows of the holdout"


def test_a_note_about_the_champion_is_part_of_the_reason():
    champion = ChampionComparison(3, ConfidenceInterval(-0.2, -0.1), note="it may have seen these rows")
    result = decide(replace(EVIDENCE, champion=champion), GateSpec())
    assert result.decision == "keep"
    assert result.reasons[0].endswith("(it may have seen these rows)")


LEAK = "a feature, 'refund', gives the target away by its presence"


@pytest.mark.parametrize(
    ("task", "metric", "rows"), [("binary", "roc_auc", 50), ("multiclass", "accuracy", 500), ("regression", "r2", 90)]
)
@pytest.mark.parametrize(("mode", "decision"), [("warn", "promote"), ("refuse", "reject")])
def test_a_nearly_perfect_holdout_is_a_warning_or_refused(task, metric, rows, mode, decision):
    perfect = replace(EVIDENCE, task=task, metrics={metric: 0.9995}, rows=rows)
    result = decide(perfect, GateSpec(leakage=mode))
    assert result.decision == decision
    assert any("nearly perfect" in reason for reason in result.reasons)
    for clean in (replace(perfect, rows=49), replace(perfect, metrics={metric: 0.99}), replace(perfect, metrics={})):
        assert decide(clean, GateSpec(leakage="refuse")).decision == "promote"


@pytest.mark.parametrize("feature", ["alive", "no", "a: b", 'with "quotes"', "ünter strich", "1", "null"])
def test_a_nearly_perfect_holdout_names_the_line_that_leaves_the_feature_out(feature):
    result = decide(replace(EVIDENCE, metrics={"roc_auc": 1.0}, rows=200, decisive=feature), GateSpec())
    line = re.search(r"write (columns: .*) in the spec", result.reasons[-1])

    assert yaml.safe_load(line.group(1)) == {"columns": {feature: {"role": "ignored"}}}


@pytest.mark.parametrize(("mode", "decision"), [("warn", "promote"), ("refuse", "reject")])
def test_features_that_give_the_target_away_are_a_warning_or_refused(mode, decision):
    result = decide(replace(EVIDENCE, leaks=[LEAK] * 5), GateSpec(leakage=mode))
    assert result.decision == decision
    (check,) = [check for check in result.checks if check.name == "leakage"]
    assert LEAK in check.explanation
    assert "and 2 more" in check.explanation
    assert check.warning == (mode == "warn")
    assert (f"warning: {check.explanation}" if check.warning else check.explanation) in result.reasons


def test_the_warning_stands_beside_the_comparison_with_the_champion():
    champion = ChampionComparison(1, ConfidenceInterval(-0.5, -0.1))
    result = decide(replace(EVIDENCE, champion=champion, leaks=[LEAK]), GateSpec())
    assert result.decision == "keep"
    assert "clearly worse" in result.reasons[0]
    assert LEAK in result.reasons[1]


def test_leakage_is_warned_of_unless_the_spec_refuses_it():
    assert GateSpec().leakage == "warn"
