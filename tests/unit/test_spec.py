"""What a user may say about a model, and how every mistake in it is named."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec


def _bad_fields(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        ModelSpec.parse(document)
    return {fault.field: fault.message for fault in caught.value.fields}


def test_nothing_needs_to_be_said() -> None:
    spec = ModelSpec.parse({})

    assert spec.columns == {}
    assert spec.split.by == "random"
    assert (spec.split.test_share, spec.split.validation_share) == (0.2, 0.2)
    assert spec.target_name is None
    assert spec.identifier_name is None


def test_a_spec_survives_its_own_document() -> None:
    spec = ModelSpec.parse(
        {
            "target": "churned",
            "columns": {
                "age": {"type": "integer", "minimum": 0, "maximum": 120, "nullable": False},
                "plan": {"allowed": ["basic", "plus", 3], "severity": "warning"},
                "email": {"pattern": r"[^@]+@[^@]+", "sensitive": True},
            },
            "checks": {"expressions": [{"name": "in order", "expression": "start <= end"}], "min_rows": 5},
            "read": {"decimal": ",", "thousands": ".", "null_values": ["-"]},
            "split": {"by": "time", "column": "joined", "test_share": 0.1},
            "id_column": "customer",
            "sensitive_groups": ["sex"],
        }
    )

    assert spec.columns["plan"].allowed == ("basic", "plus", "3")
    assert ModelSpec.parse(spec.model_dump(mode="json")) == spec


def test_every_bad_field_is_named_at_once() -> None:
    found = _bad_fields(
        {
            "columns": {
                "a": {"role": "predictor", "pattern": "(", "minimum": 3, "maximum": 1},
                "b": {"alowed": ["x"], "allowed": [True], "formats": ["dd/mm"]},
                "c": {"type": "number", "formats": ["%d/%m/%Y"], "max_null_share": 2},
            },
            "checks": {
                "max_age_days": 2,
                "min_rows": 9,
                "max_rows": 8,
                "expressions": [{"name": "x"}],
            },
            "read": {"delimiter": ";;", "encoding": "klingon", "decimal": ",", "thousands": ","},
            "split": {"by": "time"},
            "targt": "y",
        }
    )

    assert set(found) == {
        "columns.a.role",
        "columns.a.pattern",
        "columns.a.maximum",
        "columns.b.alowed",
        "columns.b.allowed.0",
        "columns.b.formats.0",
        "columns.c.formats",
        "columns.c.max_null_share",
        "checks.max_age_days",
        "checks.max_rows",
        "checks.expressions.0.expression",
        "read.delimiter",
        "read.encoding",
        "read.thousands",
        "split.column",
        "targt",
    }
    assert found["targt"] == "there is no such field"
    assert "quotes" in found["columns.b.allowed.0"]


@pytest.mark.parametrize("pattern", ["(?=a)", "(?<!a)b", r"(a)\1", "a++", "(?>a)", "(?P<x>a)(?P=x)"])
def test_a_pattern_that_could_run_for_ever_is_refused(pattern: str) -> None:
    assert "columns.a.pattern" in _bad_fields({"columns": {"a": {"pattern": pattern}}})


@pytest.mark.parametrize("pattern", [r"\d+\.\d{2}", "(?i:abc)", r"a\++", r"\\d", "[a-z]*?"])
def test_ordinary_patterns_are_taken(pattern: str) -> None:
    assert ModelSpec.parse({"columns": {"a": {"pattern": pattern}}}).columns["a"].pattern == pattern


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"target": "y", "columns": {"y": {"role": "feature"}}}, "columns.y.role"),
        ({"target": "y", "columns": {"z": {"role": "target"}}}, "columns.z.role"),
        ({"id_column": "k", "columns": {"z": {"role": "identifier"}}}, "columns.z.role"),
        ({"target": "y", "id_column": "y"}, "id_column"),
        ({"target": "y", "sensitive_groups": ["y"]}, "sensitive_groups"),
        ({"target": "y", "split": {"by": "group", "column": "y"}}, "split.column"),
        ({"split": {"by": "group"}}, "split.column"),
        ({"split": {"column": "week"}}, "split.column"),
        ({"split": {"test_share": 0.7, "validation_share": 0.3}}, "split.validation_share"),
        ({"split": {"test_share": 0.8}}, "split.validation_share"),
    ],
)
def test_what_contradicts_itself_is_refused(document: dict[str, Any], field: str) -> None:
    assert field in _bad_fields(document)


def test_roles_name_target_and_identifier_too() -> None:
    spec = ModelSpec.parse({"columns": {"y": {"role": "target"}, "k": {"role": "identifier"}}})

    assert (spec.target_name, spec.identifier_name) == ("y", "k")


def test_the_documented_spec_is_one() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "spec.md").read_text(encoding="utf-8")
    (document,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)

    spec = ModelSpec.parse(yaml.safe_load(document))

    assert spec.split.by == "time"
    assert set(yaml.safe_load(document)) <= set(ModelSpec.model_fields)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"evaluation": {"slices": [{}]}}, "evaluation.slices.0"),
        ({"evaluation": {"slices": [{"by": ["a"], "where": {"b": "x"}}]}}, "evaluation.slices.0"),
        ({"evaluation": {"slices": [{"by": ["a", "b", "c"]}]}}, "evaluation.slices.0.by"),
        ({"evaluation": {"slices": [{"by": ["a", "a"]}]}}, "evaluation.slices.0"),
        ({"evaluation": {"slices": [{"where": {"a": {"minimum": 2, "maximum": 1}}}]}}, "evaluation.slices.0.where.a"),
        ({"evaluation": {"slices": [{"where": {"a": {}}}]}}, "evaluation.slices.0.where.a"),
        ({"target": "y", "evaluation": {"slices": [{"by": ["y"]}]}}, "evaluation.slices"),
        ({"evaluation": {"costs": {"false_negative": 0}}}, "evaluation.costs.false_negative"),
        ({"gate": {"champion_rule": "best"}}, "gate.champion_rule"),
        ({"gate": {"max_row_milliseconds": 0}}, "gate.max_row_milliseconds"),
        ({"card": {"purpose": "x"}}, "card.purpose"),
    ],
)
def test_what_evaluation_cannot_do_is_refused_by_field(document, field):
    with pytest.raises(InvalidInputError) as refused:
        ModelSpec.parse(document)
    assert any(fault.field.startswith(field) for fault in refused.value.fields), refused.value.fields


def test_a_slice_takes_one_value_for_a_list_of_one_and_numbers_as_text():
    spec = ModelSpec.parse({"evaluation": {"slices": [{"where": {"plan": "a", "months": 12, "age": {"minimum": 3}}}]}})
    (declared,) = spec.evaluation.slices
    assert declared.where["plan"] == ("a",)
    assert declared.where["months"] == ("12",)
    assert declared.where["age"].minimum == 3.0


class TestBudget:
    def test_is_none_unless_it_is_given(self):
        assert ModelSpec().budget is None
        assert ModelSpec.parse({"budget": None}).budget is None

    def test_an_amount_alone_holds_back_nothing(self):
        for written in (20, 20.0, {"usd_a_month": 20}):
            budget = ModelSpec.parse({"budget": written}).budget
            assert (budget.usd_a_month, budget.hold_retraining) == (20.0, False)

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            (0, "budget.usd_a_month: Input should be greater than 0"),
            (-5, "budget.usd_a_month: Input should be greater than 0"),
            (float("nan"), "budget.usd_a_month: Input should be a finite number"),
            (1e7, "budget.usd_a_month: Input should be less than or equal to 1000000"),
            ("20 USD", "budget.usd_a_month: Input should be a valid number"),
            (True, "budget.usd_a_month: Input should be a valid number"),
            ([20], "budget.usd_a_month: Input should be a valid number"),
            ({}, "budget.usd_a_month: Field required"),
            ({"hold_retraining": True}, "budget.usd_a_month: Field required"),
            (
                {"usd_a_month": 20, "hold_retraining": "perhaps"},
                "budget.hold_retraining: Input should be a valid boolean",
            ),
            ({"usd_a_month": 20, "eur": 1}, "budget.eur: there is no such field"),
        ],
    )
    def test_a_bad_value_is_named(self, written, message):
        with pytest.raises(InvalidInputError) as caught:
            ModelSpec.parse({"budget": written})
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("release", "weights"),
    [
        ("canary", (0.05, 0.25, 0.5)),
        ({"strategy": "canary", "steps": [0.1, 99.9]}, (0.001, 0.999)),
        ({"strategy": "linear"}, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
        ({"strategy": "linear", "steps": {"start": 20, "by": 40}}, (0.2, 0.6)),
        ("blue_green", (0.0, 1.0)),
        ("shadow", (0.0,)),
        ({"strategy": "canary", "steps": [50], "shadow_first": "24h"}, (0.0, 0.5)),
        ({"strategy": "ab_test", "reward": "converted"}, (0.5,)),
        ({"strategy": "bandit", "reward": {"low": 0, "high": 9.5}, "versions": [7, 8]}, (0.75,)),
    ],
)
def test_steps_of_a_release_are_shares_and_survive_its_document(release, weights):
    spec = ModelSpec.parse({"release": release})
    assert spec.release.weights == pytest.approx(weights)
    assert ModelSpec.read_stored(yaml.safe_load(spec.model_dump_json())) == spec


def test_a_stage_may_last_no_time_at_all():
    release = ModelSpec.parse({"release": {"strategy": "canary", "bake": "0m"}}).release
    assert release.bake_time == timedelta()


@pytest.mark.parametrize(
    ("release", "field", "remedy"),
    [
        ("magic", "release.strategy", "'canary'"),
        ({"strategy": "canary", "steps": [5, 130]}, "release.steps", "more than 100 percent"),
        ({"strategy": "canary", "steps": [5, 100]}, "release.steps", "remove the 100"),
        ({"strategy": "canary", "steps": [25, 5, 5]}, "release.steps", r"write \[5, 25\]"),
        ({"strategy": "canary", "steps": [0.01]}, "release.steps", "smallest share"),
        ({"strategy": "canary", "steps": ["5%"]}, "release.steps", "number of percent"),
        ({"strategy": "canary", "steps": {"start": 5, "by": 5}}, "release", "strategy: linear"),
        ({"strategy": "linear", "steps": [5]}, "release", "strategy: canary"),
        ({"steps": [5]}, "release", "remove them, or write strategy: canary"),
        ({"strategy": "canary", "bake": "1 hour"}, "release.bake", "such as 30m, 1h or 14d"),
        ({"strategy": "canary", "bake": "1m"}, "release.bake", "from 5m"),
        ({"strategy": "canary", "guards": {"speed": {}}}, "release.guards", "choose from errors, slow"),
        ({"strategy": "canary", "guards": {"errors": {"over_ms": 5}}}, "release.guards", "remove it there"),
        ({"strategy": "canary", "guards": {"errors": {"ratio": 0.5}}}, "release.guards.errors.ratio", "1"),
        ({"strategy": "canary", "max_duration": "10m"}, "release.max_duration", "1h to 60d"),
        ({"strategy": "canary", "on_undecided": "cry"}, "release.on_undecided", "'hold'"),
        ({"strategy": "canary", "steps": [5, float("nan")]}, "release.steps", "number of percent"),
        ({"strategy": "canary", "steps": [float("inf")]}, "release.steps", "number of percent"),
        ({"strategy": "linear", "steps": {"start": float("nan")}}, "release.steps.LinearSteps", "finite"),
        ({"strategy": "blue_green", "steps": [5]}, "release", "has no steps"),
        ({"shadow_first": "1d"}, "release", "write strategy: shadow"),
        ({"strategy": "canary", "shadow_first": "1m"}, "release.shadow_first", "from 1h to 60d"),
        (
            {"strategy": "canary", "guards": {"quality": {"drop": 0.1}}},
            "release.guards",
            "belongs to the guard estimate",
        ),
        ({"strategy": "canary", "guards": {"quality": {"ratio": 2}}}, "release.guards", "errors and slow"),
        ({"strategy": "canary", "guards": {"quality": {"metric": "roc_auc"}}}, "release.guards", "row by row"),
        ({"strategy": "shadow", "guards": {"quality": None}}, "release", "do not switch quality off"),
        ({"strategy": "bandit", "reward": "accuracy"}, "release.reward", "a sixth of the labels"),
        ({"strategy": "ab_test"}, "release", "needs a reward"),
        ({"strategy": "canary", "reward": "converted"}, "release", "strategy: ab_test"),
        ({"strategy": "ab_test", "reward": {"low": 3}}, "release.reward", "both bounds"),
        ({"strategy": "ab_test", "reward": "yes", "steps": [5, 10]}, "release", r"\[50\]"),
        ({"strategy": "bandit", "reward": "yes", "versions": [7, 7]}, "release.versions", r"write \[7\]"),
        ({"strategy": "bandit", "reward": "yes", "versions": [7, 8], "floor": 40}, "release", "25 at most"),
        ({"strategy": "canary", "versions": [7]}, "release", "strategy: bandit"),
    ],
)
def test_a_release_that_cannot_be_is_refused_with_a_remedy(release, field, remedy):
    (found,) = [message for name, message in _bad_fields({"release": release}).items() if name.startswith(field)]
    assert re.search(remedy, found), found
