"""Statements of a month, from records of traffic and runs."""

from datetime import UTC, datetime, timedelta

import pytest
from millrace.batch.job_records import claim_job
from millrace.captures.traffic import UNKNOWN_MODEL, TrafficCounts, TrafficHour, record_traffic
from millrace.cost.arithmetic import BatchUsage, BillingMonth, calculate_batch
from millrace.cost.prices import US_EAST_1
from millrace.cost.statement import find_budget_refusal, read_model_month, read_month_name
from millrace.documents import to_plain
from millrace.entities import BatchRecord
from millrace.errors import InvalidInputError
from millrace.management.stack_costs import describe_costs
from millrace.names import make_cause_id, make_job_id
from millrace.settings import CostSettings
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, make_cause, make_entry, make_run, make_trial, make_version

MONTH = datetime(2026, 11, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 11, tzinfo=UTC)
SETTINGS = CostSettings(alarms=11, dashboards=1)


def spend(registry, requests, at=MONTH, model=MODEL):
    counts = TrafficCounts(requests=requests, rows=requests, latency_us=requests * 5_000)
    record_traffic(registry.store, TrafficHour(model=model, hour=at, versions={1: counts}))


def claim(registry, name, at, **changes):
    cause = make_cause(name, at=at)
    run = make_run(cause, at=at, started_at=at, **changes)
    registry.claim_cause(cause, run, make_entry(name, at=at))
    return run


def new_batch(at, summary):
    cause_id = make_cause_id("score", at.isoformat())
    ids = make_job_id(cause_id, at), cause_id
    return BatchRecord(MODEL, *ids, "upload", "score/churn/a.csv", 1, "scored/churn/", at, "s3", summary=summary)


@pytest.fixture
def registry():
    return MemoryRegistry()


def month_of(registry, now=NOW):
    return read_model_month(MODEL, BillingMonth.at(now), registry=registry, settings=SETTINGS)


def describe(registry, data=None, **options):
    return describe_costs(
        BillingMonth.at(NOW),
        registry=registry,
        data_store=data or MemoryObjectStore("data"),
        model_store=MemoryObjectStore("models"),
        settings=SETTINGS,
        **options,
    )


class TestMonthOfAModel:
    def test_sums_the_hours_of_the_month_alone(self, registry):
        registry.put_spec(MODEL, ModelSpec())
        spend(registry, 400_000, MONTH)
        spend(registry, 600_000, MONTH + timedelta(days=5))
        spend(registry, 7, MONTH - timedelta(hours=1))
        spend(registry, 7, datetime(2026, 12, 1, tzinfo=UTC))
        month = month_of(registry)
        assert month.requests == 1_000_000
        assert [line.usd for line in month.traffic.lines if line.name == "API requests"] == [pytest.approx(3.5)]
        assert month.usd == pytest.approx(month.traffic.usd + month.monitoring.usd)
        assert month.monitoring.lines[0].quantity == 2 * 4.0  # two hours with requests, four seconds of one GB each

    def test_captured_rows_follow_the_sampling_rate(self, registry):
        registry.put_spec(MODEL, ModelSpec.parse({"capture": {"sampling_rate": 0.1}}))
        spend(registry, 1_000_000)
        [line] = [line for line in month_of(registry).traffic.lines if line.name.startswith("captured rows")]
        assert line.usd == pytest.approx(0.0105)

    def test_batch_jobs_of_the_month_are_added_line_by_line(self, registry):
        registry.put_spec(MODEL, ModelSpec())
        cost = calculate_batch(BatchUsage.of(parts=4, lanes=2, seconds=100.0, memory_mb=1_024), US_EAST_1)
        for day, summary in ((1, {"cost": to_plain(cost)}), (3, {"cost": to_plain(cost)}), (5, {})):
            at = MONTH + timedelta(days=day)
            claim_job(new_batch(at, summary), registry.store)
        claim_job(new_batch(MONTH - timedelta(days=1), {"cost": to_plain(cost)}), registry.store)
        month = month_of(registry)
        assert month.scoring.usd == pytest.approx(2 * cost.usd) == month.usd
        assert [line.quantity for line in month.scoring.lines] == [2 * line.quantity for line in cost.lines]

    def test_runs_count_from_their_start_to_their_version(self, registry):
        at = MONTH + timedelta(days=1)
        summary = {"search": {"lanes": 1, "rounds": [500], "memory_mb": 1_024}}
        run = claim(registry, "a", at, summary=summary)
        registry.put_trials([make_trial("t1", run.run_id, duration_seconds=30.0)])
        registry.update_run(MODEL, run.run_id, finished_at=at + timedelta(days=3))  # after an approval
        version = make_version(1, run_id=run.run_id)
        registry.put_version(
            type(version)(
                **{name: getattr(version, name) for name in version.__slots__}
                | {"created_at": at + timedelta(minutes=2)}
            ),
            make_entry("v1"),
        )
        month = month_of(registry)
        assert month.runs == 1
        assert month.training.lines[0].quantity == pytest.approx(120.0)

    def test_runs_of_other_months_do_not_count(self, registry):
        claim(registry, "a", MONTH - timedelta(days=1))
        assert (month_of(registry).runs, month_of(registry).usd) == (0, 0.0)

    def test_the_forecast_goes_on_as_since_the_model_was_created(self, registry):
        claim(registry, "a", NOW - timedelta(days=5))
        spend(registry, 1_000_000, NOW - timedelta(days=2))
        month = month_of(registry)
        assert month.days_seen == pytest.approx(5.0)
        assert month.forecast_usd == pytest.approx(month.usd * 5)


class TestStack:
    def test_has_the_fixed_part_every_model_and_storage(self, registry):
        registry.put_spec(MODEL, ModelSpec.parse({"budget": 20}))
        registry.put_spec("quiet", ModelSpec())
        spend(registry, 1_000)
        data = MemoryObjectStore("data")
        data.put("captures/churn/x", b"0" * 1_000)
        document = describe(registry, data)
        assert document["prices"]["region"] == "us-east-1"
        assert [(one["model"], one["requests"], one["budget_usd"]) for one in document["models"]] == [
            (MODEL, 1_000, 20.0),
            ("quiet", 0, None),
        ]
        assert document["at_rest"]["usd"] > 4.10
        assert document["storage"]["lines"][0]["quantity"] == pytest.approx(1e-6)
        assert document["next"] is None

    def test_requests_of_unknown_models_are_stated(self, registry):
        spend(registry, 1_000, model=UNKNOWN_MODEL)
        assert [one["model"] for one in describe(registry)["models"]] == [UNKNOWN_MODEL]

    def test_many_models_come_in_pages(self, registry):
        for number in range(70):
            registry.put_spec(f"Model-{number:02}", ModelSpec())
        first = describe(registry)
        second = describe(registry, after=first["next"])
        assert "at_rest" not in second
        assert (len(first["models"]), len(second["models"]), second["next"]) == (50, 20, None)

    def test_one_model_has_its_own_objects(self, registry):
        registry.put_spec(MODEL, ModelSpec())
        data = MemoryObjectStore("data")
        data.put("captures/churn/x", b"0" * 1_000)
        data.put("captures/churned/x", b"0" * 5_000)
        document = describe(registry, data, model=MODEL)
        assert document["storage"]["lines"][0]["quantity"] == pytest.approx(1e-6)
        assert "at_rest" not in document

    def test_a_month_before_the_records_says_so(self, registry):
        month = read_month_name("2024-02", NOW)
        stores = {"data_store": MemoryObjectStore("data"), "model_store": MemoryObjectStore("models")}
        document = describe_costs(month, registry=registry, settings=SETTINGS, **stores)
        assert "requests before 2025-10-07" in document["not_counted"][-1]


@pytest.mark.parametrize(
    "text", ["", "2026-13", "2026-1", "november", "2026-11-01", "2026-00", "1999-01", "20\u0662\u0666-10"]
)
def test_a_month_has_one_form(text):
    with pytest.raises(InvalidInputError, match="is no month; write 2026-11"):
        read_month_name(text, NOW)


def test_a_month_to_come_has_no_cost():
    with pytest.raises(InvalidInputError, match="2026-12 has not begun"):
        read_month_name("2026-12", NOW)
    assert read_month_name(None, NOW) == read_month_name("2026-11", NOW)


class TestBudget:
    def test_holds_back_once_it_is_spent_if_it_is_to(self, registry):
        spend(registry, 1_000_000)
        spent = month_of(registry).usd

        def refusal(**budget):
            spec = ModelSpec.parse({"budget": budget})
            return find_budget_refusal(MODEL, spec.budget, NOW, registry, SETTINGS)

        assert refusal(usd_a_month=spent * 0.99) is None
        assert refusal(usd_a_month=spent * 1.01, hold_retraining=True) is None
        held = refusal(usd_a_month=spent * 0.99, hold_retraining=True)
        assert f"has cost {spent:.2f} USD in 2026-11" in held
        assert "until 2026-12-01" in held

    def test_a_new_month_begins_with_the_whole_budget(self, registry):
        spend(registry, 1_000_000)
        spec = ModelSpec.parse({"budget": {"usd_a_month": 1.0, "hold_retraining": True}})
        december = datetime(2026, 12, 1, tzinfo=UTC)
        assert find_budget_refusal(MODEL, spec.budget, december - timedelta(seconds=1), registry, SETTINGS)
        assert find_budget_refusal(MODEL, spec.budget, december, registry, SETTINGS) is None
