"""`millrace dora`, on the documents that the routes make."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from millrace.documents import to_plain
from millrace.entities import LedgerEntry
from millrace.management import deployments
from millrace.management.deployments import describe_dora
from millrace.spec import ModelSpec
from millrace_cli import output
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.fakes.memory_registry import MemoryRegistry

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SINCE = NOW - timedelta(days=28)


def add(registry, model, days_ago, action, **details):
    at = NOW - timedelta(days=days_ago)
    registry.append_ledger(LedgerEntry(model, f"{action}-{days_ago}", at, "ada", action, "better", details))


@pytest.fixture
def registry():
    """Two models that were deployed, of which one was rolled back, and one without changes."""
    found = MemoryRegistry()
    for model in ("churn", "ltv", "quiet"):
        found.put_spec(model, ModelSpec())
    champion = {"alias": "champion"}
    add(found, "churn", 10, "model_promoted", **champion, from_version=None, to_version=1)
    add(found, "ltv", 9, "model_promoted", **champion, from_version=1, to_version=2)
    add(found, "ltv", 8, "model_rolled_back", **champion, from_version=2, to_version=1)
    return found


def describe(registry, **options):
    return to_plain(describe_dora(SINCE, NOW, registry=registry, **options))


@pytest.fixture
def run(monkeypatch):
    def run_command(*arguments, answers):
        api = FakeApi({path: [(200, one) for one in listed] for path, listed in answers.items()})
        answer_commands(monkeypatch, api)
        monkeypatch.setattr(output.out, "_width", 160)
        result = CliRunner().invoke(app, ["dora", *arguments])
        return result, [dict(request.url.params) for request in api.requests]

    return run_command


def test_all_models_are_measured_together_and_each_alone(run, registry):
    result, asked = run("--since", "28d", answers={"/dora": [describe(registry)]})
    assert asked == [{"since": "28d"}]
    for shown in (
        "2 deployments in 28 days: 0.5 a week",
        "1 of 2 changes failed: 50 %, so few that the rate may be anything from 9 % to 91 %",
        "median 1 d, of 1",
        "churn  1            0.25    -          0 of 1",
        "ltv    1            0.25    -          1 of 1          1 d",
        "1 of 3 models had no change",
    ):
        assert shown in result.stdout


def test_pages_are_measured_as_one(run, registry, monkeypatch):
    whole = describe(registry)
    monkeypatch.setattr(deployments, "MODELS_A_PAGE", 2)
    first = describe(registry)
    assert (first["next"], len(first["models"])) == ("ltv", 2)
    pages = [first, describe(registry, after=first["next"])]
    assert pages[1]["next"] is None
    result, asked = run("--json", answers={"/dora": pages})
    assert asked == [{}, {"after": "ltv"}]
    assert json.loads(result.stdout) == whole


def test_one_model_shows_its_changes(run, registry):
    result, _ = run("ltv", answers={"/models/ltv/dora": [describe(registry, model="ltv")]})
    assert "1 of 1 change failed: 100 %" in result.stdout
    assert "rolled back  1 d" in result.stdout
    assert "churn" not in result.stdout


def test_what_is_left_out_of_a_long_ledger_is_said(run, registry, monkeypatch):
    monkeypatch.setattr(deployments, "MAX_ENTRIES", 2)
    for day in range(1, 4):
        add(registry, "ltv", day, "trigger_skipped")
    document = describe(registry, model="ltv")
    (own,) = document["models"]
    assert (own["changes"], own["complete_since"]) == (0, "2026-11-27T00:00:00+00:00")
    result, _ = run("ltv", answers={"/models/ltv/dora": [document]})
    assert "ltv: only its entries since 2026-11-27" in result.stdout
