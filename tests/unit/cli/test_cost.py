"""`millrace cost`, on the documents that the route makes."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.cost.statement import read_month_name
from millrace.documents import to_plain
from millrace.management.stack_costs import describe_costs
from millrace.settings import CostSettings
from millrace.spec import ModelSpec
from millrace_cli import output
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry

NOW = datetime(2026, 11, 11, tzinfo=UTC)


@dataclass
class FakeTarget:
    region: str = "us-east-1"


def documents(*, pages=1, **options):
    """Return the responses for two models, one with a million requests on one morning, and a budget."""
    registry = MemoryRegistry()
    registry.put_spec("churn", ModelSpec.parse({"budget": 20}))
    registry.put_spec("quiet", ModelSpec())
    for number in range((pages - 1) * 50):
        registry.put_spec(f"z{number:03}", ModelSpec())
    counts = TrafficCounts(requests=1_000_000, rows=1_000_000, latency_us=5_000_000_000, cold_starts=4)
    hour = datetime(2026, 11, 2, 9, tzinfo=UTC)
    record_traffic(registry.store, TrafficHour(model="churn", hour=hour, versions={1: counts}))
    stores = {"data_store": MemoryObjectStore("data"), "model_store": MemoryObjectStore("models")}
    settings = CostSettings(alarms=11, dashboards=1, queues=1)
    found, after = [], ""
    while not found or after:
        month = read_month_name(None, NOW)
        page = describe_costs(month, registry=registry, settings=settings, after=after, **stores, **options)
        found.append((200, to_plain(page)))
        after = page["next"]
    return found


@pytest.fixture
def run(monkeypatch):
    def run_command(*arguments, width=80, answers=None, target=None):
        monkeypatch.setattr(output.out, "_width", width)
        api = FakeApi({"/cost": answers or documents()})
        answer_commands(monkeypatch, api, target or FakeTarget())
        result = CliRunner().invoke(app, ["cost", *arguments])
        result.requests = api.requests
        return result

    return run_command


def test_shows_the_stack_its_models_and_a_whole_month_within_80_columns(run):
    result = run()
    assert result.exit_code == 0, result.output
    usd = documents()[0][1]["models"][0]["usd"]
    lines = result.stdout.splitlines()
    assert max(map(len, (line.rstrip() for line in lines))) <= 80
    found = {line.split("  ")[0]: line.split() for line in lines if line}
    assert found["alarms"][1:] == ["11", "alarms", "0.10", "1.10"]
    assert found["dashboard"][1:] == ["1", "dashboards", "3.00", "3.00"]
    assert found["queue of captures: polls"][-5:] == ["requests", "0.40", "/", "million", "0.26"]
    assert found["churn"][1:] == ["1,000,000", "0", f"{usd:.2f}", f"{usd * 3:.2f}", "20.00"]
    assert found["quiet"][1:] == ["0", "0", "0.00", "0.00", "-"]
    assert float(found["sum"][1]) == pytest.approx(
        sum(
            float(found[name][-1])
            for name in ("at rest", "2 models without requests", "storage", "use, at the rate so far")
        ),
        abs=0.01,
    )
    assert "prices of us-east-1, 2026-11" in result.stdout
    assert "Not counted:" in result.stdout


def test_shows_one_model_line_by_line_within_80_columns(run):
    result = run("churn", "--month", "2026-11", answers=documents(model="churn"))
    assert dict(result.requests[0].url.params) == {"model": "churn", "month": "2026-11"}
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80
    assert "API requests" in result.stdout
    usd = documents()[0][1]["models"][0]["usd"]
    assert (
        f"{usd:.2f} USD for use so far; {usd * 3:.2f} USD in the whole month at the rate of 10.0 days" in result.stdout
    )
    assert f"{usd / 20:.0%} of the budget of 20.00 USD a month" in result.stdout
    assert "~720 read units" in result.stdout


def test_reads_every_page(run):
    result = run("--json", answers=documents(pages=3))
    document = json.loads(result.stdout)
    assert len(document["models"]) == 102
    assert [request.url.params.get("after") for request in result.requests] == [None, "z046", "z096"]
    assert document["at_rest"]["usd"] > 4


def test_other_prices_apply_to_every_line(run, tmp_path):
    file = tmp_path / "prices.json"
    file.write_text(
        json.dumps({"region": "eu-central-1", "date": "2026-12", "usd": {"api_request": 7.0, "alarm": 0.2}})
    )
    before = json.loads(run("--json").stdout)
    document = json.loads(run("--json", "--prices", str(file)).stdout)
    assert document["prices"]["region"] == "eu-central-1"
    assert document["at_rest"]["usd"] == pytest.approx(before["at_rest"]["usd"] + 1.1)
    assert document["models"][0]["usd"] == pytest.approx(before["models"][0]["usd"] + 3.5)
    assert document["models"][0]["forecast_usd"] == pytest.approx(before["models"][0]["forecast_usd"] + 10.5)
    assert "prices of eu-central-1, 2026-12" in run("--prices", str(file)).stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ('{"region": "x", "date": "y", "usd": {"api": 1}}', "usd.api: is no price; there are"),
    ],
)
def test_bad_prices_are_refused_before_anything_is_read(run, tmp_path, content, message):
    file = tmp_path / "prices.json"
    if content is not None:
        file.write_text(content)
    result = run("--prices", str(file))
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert result.requests == []


def test_the_region_that_is_assumed_is_stated_where_it_is_not_the_stacks(run):
    assert "the stack is in eu-west-1, and these are prices of us-east-1" in run(target=FakeTarget("eu-west-1")).stderr
    assert run().stderr == ""


def test_a_first_day_has_no_forecast(run):
    status, document = documents()[0]
    document["models"][0]["forecast_usd"] = None
    shown = run(answers=[(status, document | {"hours_seen": 3.0})]).stdout
    [row] = [line.split() for line in shown.splitlines() if line.startswith("churn")]
    assert row[4] == "-"
    assert "A whole month; use is of less than a day, too little for a forecast" in shown
