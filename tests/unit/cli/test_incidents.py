"""`millrace incidents` and `millrace maturity`: the protocol of an incident, and where a model stands."""

from datetime import datetime, timedelta

import pytest
from millrace_cli.incident_protocol import find_incident, list_incidents, write_protocol
from millrace_cli.main import app
from millrace_cli.maturity import LEVELS, rate_model
from typer.testing import CliRunner

from tests.console_world import ConsoleWorld
from tests.fakes.fake_api import FakeApi, answer_commands
from tests.registry_builders import MODEL

INCIDENT = "1032fa24f418569a60e0e71c38181b6a"


@pytest.fixture(scope="module")
def overview():
    return ConsoleWorld().document(f"/models/{MODEL}/overview")


@pytest.fixture
def api(overview, monkeypatch):
    api = FakeApi(
        {
            f"/models/{MODEL}/overview": [(200, overview)],
            f"/models/{MODEL}/spec": [(200, {"model": MODEL, "spec": {}})],
            f"/models/{MODEL}/feedback": [(200, {"coverage": 0.0})],
        }
    )
    answer_commands(monkeypatch, api)
    return api


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def test_incidents_are_listed_with_what_they_are_about(api):
    result = run("incidents", MODEL)
    assert result.exit_code == 0, result.output
    assert INCIDENT[:12] in result.output
    assert "DriftDetected" in result.output
    assert "monthly_charge" in result.output


def test_a_protocol_is_written_for_an_incident_named_by_its_beginning(api, tmp_path):
    file = tmp_path / "outage.md"
    assert run("incidents", MODEL, INCIDENT[:8], "--protocol", str(file)).exit_code == 0
    assert file.read_text(encoding="utf-8").startswith(f"# {MODEL}: DriftDetected, 2026-11-30")


def test_an_incident_that_is_not_there_is_refused_with_the_way_to_the_others(api):
    result = run("incidents", MODEL, "ffff")
    assert result.exit_code == 2
    assert "has no incident ffff" in result.output
    assert f"millrace incidents {MODEL}" in result.output


def test_a_protocol_of_no_incident_is_refused(api, tmp_path):
    result = run("incidents", MODEL, "--protocol", str(tmp_path / "x.md"))
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


def test_the_protocol_has_effect_timeline_and_possible_causes(overview):
    [incident] = list_incidents(overview)
    begin = datetime.fromisoformat(incident["since"])

    def at(hours: float) -> str:
        return (begin + timedelta(hours=hours)).isoformat()

    hour = {"requests": 100, "errors": 7, "refused": 2, "rows": 120, "versions": {"1": 60, "2": 40}}
    entry = {"actor": "ann|bob", "reason": "a new\ntariff", "details": {}}
    document = overview | {
        "hours": [hour | {"hour": at(0.1)}, hour | {"hour": at(0.2)}, hour | {"hour": at(-30)}],
        "entries": [
            entry | {"action": "model_promoted", "occurred_at": at(-2)},
            entry | {"action": "spec_changed", "occurred_at": at(-40)},
        ],
    }
    text = write_protocol(document, incident, begin + timedelta(hours=3))
    assert "200 requests with 240 rows in 2 hours: 14 failed, 4 refused." in text
    assert "Answered by version 1 (120), version 2 (80)." in text
    assert "model promoted: a new tariff | ann\\|bob |" in text
    assert "spec changed" not in text
    assert "lasted 3 h" in text
    quiet = write_protocol(document | {"entries": [], "hours": []}, incident, begin + timedelta(hours=3))
    assert "Neither champion, release nor spec changed" in quiet
    assert "No requests are recorded" in quiet


def test_the_beginning_of_two_incidents_names_neither(overview):
    [incident] = overview["report"]["incidents"]
    other = incident | {"incident_id": f"{INCIDENT[:8]}{'0' * 24}"}
    both = overview | {"report": overview["report"] | {"incidents": [incident, other]}}
    assert find_incident(both, INCIDENT[:8]) is None
    assert find_incident(both, INCIDENT) == incident


def test_a_model_is_as_mature_as_its_lowest_missing_practice(overview):
    state = overview["state"] | {"latest_version": 3}
    bare = overview | {"state": state, "runs": [], "releases": [], "entries": []}
    assert rate_model(bare, {"spec": {}}, {}).level == "manual"
    described = bare | {"entries": [{"action": "spec_changed"}]}
    assert rate_model(described, {"spec": {}}, {}).level == "pipelines"
    automated = described | {"runs": [{"kind": "schedule"}]}
    canary = {"spec": {"release": {"strategy": "canary"}}}
    assert rate_model(automated, canary, {"coverage": 0.2}).level == "automated"
    closed = described | {"runs": [{"kind": "drift"}]}
    with_budget = {"spec": canary["spec"] | {"budget": {"usd_a_month": 20}}}
    whole = rate_model(closed, with_budget, {"coverage": 0.2})
    assert (whole.level, whole.next_steps) == (LEVELS[-1], ())
    assert rate_model(closed, with_budget, {}).level == "pipelines"


def test_the_maturity_of_a_model_is_shown_with_its_next_steps(api):
    result = run("maturity", MODEL)
    assert result.exit_code == 0, result.output
    assert "next steps:" in result.output
    assert f"millrace feedback {MODEL}" in result.output
