"""Verdicts: each stands in the spec, in the documentation and in one record."""

import ast
import re
from pathlib import Path

import pytest
from millrace.causes import CAUSE_OF_EVENT
from millrace.monitoring.rules import EVENT_LABELS, VERDICT_NAMES, VERDICTS, rows_needed
from millrace.spec.monitoring import BudgetRule, MonitoringSpec, MonitorRule, StalenessRule

DOCUMENTATION = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text(encoding="utf-8")


def test_every_rule_of_the_spec_is_a_verdict():
    rules = {
        name
        for name, field in MonitoringSpec.model_fields.items()
        if isinstance(field.default, MonitorRule | StalenessRule | BudgetRule)
    }
    assert rules == set(VERDICT_NAMES)


@pytest.mark.parametrize("name", VERDICT_NAMES)
def test_every_verdict_is_documented(name):
    assert re.search(rf"^\| `{name}` \|", DOCUMENTATION, re.MULTILINE)
    [events] = re.findall(rf"^\| `{VERDICTS[name].event}` \|.*$", DOCUMENTATION, re.MULTILINE)
    assert f"`{name}`" in events


def test_every_verdict_has_a_name_of_its_own():
    assert len({verdict.label for verdict in VERDICTS.values()}) == len(VERDICTS)
    assert len({verdict.problem for verdict in VERDICTS.values()}) == len(VERDICTS)
    assert {verdict.event for verdict in VERDICTS.values()} == set(EVENT_LABELS)


def test_every_retraining_cause_belongs_to_an_event():
    assert set(CAUSE_OF_EVENT) <= set(EVENT_LABELS)


def test_no_other_module_lists_verdicts():
    package = Path(__file__).parents[3] / "shared" / "millrace" / "monitoring"
    lists = {
        (path.name, ast.unparse(node)[:20])
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict) and len(names_in(node)) > 1
    }
    assert lists == {("rules.py", "{'data_quality': Ver")}  # the records themselves


def names_in(literal):
    elements = literal.keys if isinstance(literal, ast.Dict) else literal.elts
    return {one.value for one in elements if isinstance(one, ast.Constant)} & set(VERDICT_NAMES)


def test_a_window_holds_as_many_rows_as_its_most_demanding_verdict_needs():
    spec = MonitoringSpec.model_validate({"skew": {"min_rows": 700}, "calibration": {"min_rows": 300}})
    assert (rows_needed(spec), rows_needed(spec, "outcomes")) == (700, 300)
    off = MonitoringSpec.model_validate({"skew": {"min_rows": 700, "enabled": False}})
    assert (rows_needed(off), rows_needed(off, "outcomes")) == (200, 100)
