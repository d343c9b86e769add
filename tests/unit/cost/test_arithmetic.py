"""The arithmetic of costs, against tables computed by hand."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from millrace.captures.traffic import TrafficCounts
from millrace.cost.arithmetic import (
    BillingMonth,
    TrafficUsage,
    TrainingUsage,
    add_usage,
    calculate_idle_model,
    calculate_stack,
    calculate_storage,
    calculate_traffic,
    calculate_training,
)
from millrace.cost.prices import DATE, REGION, US_EAST_1, read_prices
from millrace.errors import InvalidInputError
from millrace.settings import CostSettings

from tests.registry_builders import NOW, make_cause, make_run, make_trial

ROOT = Path(__file__).parents[3]
SETTINGS = CostSettings()


def counts(requests):
    """Return an hour of requests of one row and 5 ms, one of which started an environment."""
    return TrafficCounts(requests=requests, rows=requests, latency_us=requests * 5_000, cold_starts=1)


def usd_by_name(calculation):
    assert calculation.usd == pytest.approx(sum(line.usd for line in calculation.lines))
    assert all(line.usd == pytest.approx(line.quantity / line.per * line.price_usd) for line in calculation.lines)
    return {line.name: round(line.usd, 4) for line in calculation.lines}


class TestPrices:
    def test_every_price_names_its_region_and_date(self):
        assert {(price.region, price.date) for price in US_EAST_1.values()} == {(REGION, DATE)}
        assert US_EAST_1["api_request"].cost(2_000_000) == pytest.approx(7.0)

    def test_another_region_replaces_what_it_gives(self):
        prices = read_prices({"region": "eu-central-1", "date": "2026-12", "usd": {"api_request": 3.7}})
        assert (prices["api_request"].usd, prices["api_request"].region) == (3.7, "eu-central-1")
        assert prices["alarm"] is US_EAST_1["alarm"]
        assert prices.keys() == US_EAST_1.keys()

    @pytest.mark.parametrize(
        ("document", "fault"),
        [
            (None, "a document of prices is"),
            ([], "a document of prices is"),
            ({"usd": 3}, "a document of prices is"),
            ({"region": "x", "date": "y", "usd": {"api": 1}}, "usd.api: is no price; there are api_request"),
            ({"region": "x", "date": "y", "usd": {"alarm": -1}}, "usd.alarm: is no price in USD"),
            ({"region": "x", "date": "y", "usd": {"alarm": True}}, "usd.alarm: is no price in USD"),
            ({"region": "x", "date": "y", "usd": {"alarm": float("nan")}}, "usd.alarm: is no price in USD"),
            ({"region": "x", "date": "y", "usd": {"alarm": "0.1"}}, "usd.alarm: is no price in USD"),
            ({"region": "", "usd": {}}, "region: is missing, or is no text; date: is missing"),
            ({"region": "x", "date": "y", "usd": {}, "prices": {}}, "prices: there is no such field"),
        ],
    )
    def test_a_bad_document_is_refused_by_field(self, document, fault):
        with pytest.raises(InvalidInputError, match="price") as caught:
            read_prices(document)
        assert fault in str(caught.value)


class TestTraffic:
    def test_an_hour_of_a_million_requests(self):
        """3.50 and 0.20 a million; 5 ms at half a GB; 0.28 GB and 0.21 GB of logs at 0.50; 166,666 forwards."""
        usage = TrafficUsage.of_hour(counts(1_000_000))
        assert usd_by_name(calculate_traffic(usage, SETTINGS, US_EAST_1)) == {
            "API requests": 3.5,
            "predict: invocations": 0.2,
            "predict: duration": 0.0417,
            "predict: cold starts": 0.0,
            "alias pointer": 0.0001,
            "log of requests": 0.14,
            "captured rows, in the log": 0.105,
            "delivery: forwarding": 0.0333,
            "delivery: forwarding time": 0.0104,
            "delivery: queue": 0.08,
            "delivery: time": 0.0002,
            "delivery: S3 writes": 0.0001,
            "delivery: S3 reads": 0.0,
            "delivery: counts": 0.0,
        }

    def test_settings_decide_on_captures_traces_and_memory(self):
        usage = TrafficUsage.of_hour(counts(1_000_000))
        settings = replace(SETTINGS, capture_predictions=False, request_tracing="Active", predict_memory_size=1_024)
        lines = usd_by_name(calculate_traffic(usage, settings, US_EAST_1))
        assert "captured rows, in the log" not in lines
        assert lines["traces"] == 5.0
        assert lines["predict: duration"] == 0.0833

    def test_an_hour_without_requests_costs_nothing(self):
        assert TrafficUsage.of_hour(TrafficCounts()) == TrafficUsage()
        assert calculate_traffic(TrafficUsage(), SETTINGS, US_EAST_1).lines == ()

    def test_further_rows_of_a_request_take_fewer_bytes(self):
        """Ten requests of a hundred rows: ten first rows, and 990 others."""
        many = TrafficUsage.of_hour(TrafficCounts(requests=10, rows=1_000))
        assert many.captured_bytes == 10 * 210 + 990 * 90
        refused = TrafficUsage.of_hour(TrafficCounts(requests=10, rows=4))
        assert refused.captured_bytes == 4 * 210

    def test_few_requests_are_forwarded_one_by_one_and_delivered_by_window(self):
        slow, fast = TrafficUsage.of_hour(counts(60)), TrafficUsage.of_hour(counts(100_000), sampling_rate=0.5)
        assert (slow.forwards, slow.deliveries) == (60, 24)
        assert (fast.forwards, fast.deliveries) == (16_666, 24)
        assert add_usage(TrafficUsage(), [slow, fast]) == TrafficUsage(
            100_060, 50_060 * 210, 500_300.0, 2, 2, 16_726, 48
        )


class TestTraining:
    def test_a_run_of_ten_trials(self):
        """120 s, and beside them 9 of 10 lanes of 10 trials of 20 s: 300 s of 3,008 MB."""
        run = make_run(
            make_cause(),
            started_at=NOW,
            summary={"search": {"lanes": 10, "rounds": [500], "memory_mb": 3_008}},
        )
        trials = [make_trial(f"t{number}", duration_seconds=20.0) for number in range(10)]
        usage = TrainingUsage.of_run(run, trials, NOW + timedelta(seconds=120), 1_024)
        assert usage == TrainingUsage(1, 10, pytest.approx(300 * 3_008 / 1_024), 16, 31)
        assert usd_by_name(calculate_training(usage, US_EAST_1)) == {
            "training: time": 0.0147,
            "training: invocations": 0.0,
            "training: transitions": 0.0008,
            "training: S3 writes": 0.0004,
            "training: registry": 0.0001,
        }

    def test_rounds_count_every_fit(self):
        earlier = [{"round": 1, "duration_seconds": 5.0}]
        trials = [
            make_trial("a", duration_seconds=10.0, earlier_rounds=earlier),
            make_trial("b", duration_seconds=4.0),
            make_trial("c"),
        ]
        summary = {"search": {"lanes": 2, "rounds": [100, 300], "memory_mb": 1_024}}
        run = make_run(make_cause(), started_at=NOW, summary=summary)
        usage = TrainingUsage.of_run(run, trials, NOW + timedelta(seconds=60), 1_024)
        assert (usage.fits, usage.gb_seconds) == (3, pytest.approx(60 + 19 / 2))

    def test_a_run_that_was_rejected_before_its_plan_is_one_function(self):
        usage = TrainingUsage.of_run(make_run(make_cause(), started_at=NOW), [], NOW + timedelta(seconds=8), 3_008)
        assert usage == TrainingUsage(1, 0, pytest.approx(8 * 3_008 / 1_024), 3, 6)

    @pytest.mark.parametrize(("lanes", "fits"), [(1, 1), (10, 10), (4, 18)])
    def test_transitions_are_the_states_of_the_machine(self, lanes, fits):
        machine = json.loads((ROOT / "statemachines" / "training.asl.json").read_text(encoding="utf-8"))
        state, entered = machine["StartAt"], 0
        promoting = {
            "IsDatasetAccepted": "PlanTraining",
            "IsSearchOver": "EvaluateCandidates",
            "IsModelGoodEnough": "RegisterModel",
            "IsApprovalNeeded": "FinishRun",
        }
        while state:
            entered += 1 + (lanes + fits if state == "TrainCandidates" else 0)
            state = promoting.get(state) or machine["States"][state].get("Next")
        summary = {"search": {"lanes": lanes, "rounds": [500]}}
        trials = [make_trial(f"t{number}", duration_seconds=1.0) for number in range(fits)]
        usage = TrainingUsage.of_run(make_run(make_cause(), summary=summary), trials, NOW, 1_024)
        assert usage.transitions == entered


class TestAtRest:
    def test_the_fixed_part_of_a_stack(self):
        """730 hours of two seconds of 256 MB; 5 pollers x 3 polls x 60 minutes."""
        lines = usd_by_name(calculate_stack(replace(SETTINGS, alarms=11, dashboards=1, queues=1), US_EAST_1))
        assert lines == {
            "alarms": 1.1,
            "dashboard": 3.0,
            "metrics": 0.6,
            "hourly check: schedule": 0.0007,
            "hourly check: invocations": 0.0001,
            "hourly check: time": 0.0061,
            "hourly check: registry": 0.0005,
            "queue of captures: polls": 0.2628,
        }

    def test_an_idle_model_costs_at_most_three_cents(self):
        assert 0 < calculate_idle_model(US_EAST_1).usd <= 0.03

    def test_storage_says_where_its_listing_ended(self):
        whole = calculate_storage(10**12, 5, US_EAST_1, is_complete=True)
        assert whole.usd == pytest.approx(23.0)
        assert "at least" not in whole.lines[0].note
        assert "at least: 20,000 objects" in calculate_storage(1, 20_000, US_EAST_1, is_complete=False).lines[0].note


class TestMonth:
    def test_names_and_ends(self):
        month = BillingMonth.at(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
        assert (month.name, month.end) == ("2026-12", datetime(2027, 1, 1, tzinfo=UTC))
        assert BillingMonth.of(2026, 10, NOW).until == datetime(2026, 10, 1, tzinfo=UTC)

    def test_a_month_that_is_over_is_its_own_forecast(self):
        assert BillingMonth.of(2026, 4, NOW).forecast(12.0) == 12.0

    def test_the_rest_of_a_month_goes_on_as_before(self):
        ten_days = BillingMonth.at(datetime(2026, 11, 11, tzinfo=UTC))
        assert ten_days.forecast(5.0) == pytest.approx(15.0)
        since = datetime(2026, 11, 6, tzinfo=UTC)  # five days seen, twenty to come
        assert ten_days.forecast(5.0, since) == pytest.approx(25.0)
        assert ten_days.forecast(5.0, datetime(2026, 10, 1, tzinfo=UTC)) == pytest.approx(15.0)

    def test_a_day_is_the_least_that_is_extrapolated(self):
        assert BillingMonth.at(datetime(2026, 11, 1, 23, tzinfo=UTC)).forecast(1.0) is None
        assert BillingMonth.of(2026, 12, NOW).forecast(0.0) is None
