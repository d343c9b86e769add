"""The README's tables of costs are those that the arithmetic gives."""

import re
from pathlib import Path

import pytest
from millrace.captures.traffic import TrafficCounts
from millrace.cost.arithmetic import (
    ASSUMED,
    HOURS_A_MONTH,
    TrafficUsage,
    TrainingUsage,
    add_usage,
    calculate_idle_model,
    calculate_monitoring,
    calculate_stack,
    calculate_traffic,
    calculate_training,
)
from millrace.cost.prices import DATE, REGION, US_EAST_1
from millrace.settings import CostSettings

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it costs")[2].partition("\n## ")[0]
#: The stack as it is deployed by default.
SETTINGS = CostSettings(alarms=12, dashboards=1, queues=1)
MILLION = 1_000_000
LATENCY_MS = 5
#: Rows of the table of a million predictions, and the lines that each sums up.
ROWS = {
    "API Gateway, REST": ("API requests",),
    "Lambda requests": ("predict: invocations",),
    "Lambda duration, starts included": ("predict: duration", "predict: cold starts"),
    "the request's line in the log": ("log of requests",),
    "captured rows, in the log": ("captured rows, in the log",),
    "captures, forwarded to a queue": ("delivery: forwarding", "delivery: forwarding time", "delivery: queue"),
    "captures and counts, delivered": (
        "delivery: time",
        "delivery: S3 writes",
        "delivery: S3 reads",
        "delivery: counts",
    ),
    "alias pointer": ("alias pointer",),
}


def million(hours):
    """Calculate a million requests of one row in so many hours of a month, with one cold start in each."""
    usages = []
    for hour in range(hours):
        requests = MILLION // hours + (hour < MILLION % hours)
        counts = TrafficCounts(
            requests=requests, rows=requests, latency_us=requests * LATENCY_MS * 1_000, cold_starts=1
        )
        usages.append(TrafficUsage.of_hour(counts))
    usage = add_usage(TrafficUsage(), usages)
    assert usage.requests == MILLION
    return calculate_traffic(usage, SETTINGS, US_EAST_1)


BURSTS, SPREAD = million(10), million(HOURS_A_MONTH)


def row_of(label):
    [row] = [line for line in README.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip(" *") for cell in row.split("|")[1:-1]]


@pytest.mark.parametrize("label", ROWS)
def test_a_million_predictions(label):
    for calculation, written in zip((BURSTS, SPREAD), row_of(label)[-2:], strict=True):
        usd = sum(line.usd for line in calculation.lines if line.name in ROWS[label])
        assert written == f"{usd:.2f}"


def test_the_sum_of_a_million_predictions_and_its_limit():
    assert sorted(name for names in ROWS.values() for name in names) == sorted(line.name for line in SPREAD.lines)
    assert row_of("**sum**")[-2:] == [f"{BURSTS.usd:.2f}", f"{SPREAD.usd:.2f}"]
    assert max(BURSTS.usd, SPREAD.usd) <= 3.50 + 6.00  # of API Gateway, and of everything else


def test_the_stack_at_rest():
    stack = calculate_stack(SETTINGS, US_EAST_1)
    sums = {name: sum(line.usd for line in stack.lines if line.name.startswith(name)) for name in AT_REST.values()}
    assert sum(sums.values()) == pytest.approx(stack.usd)
    assert {label: row_of(label)[-1] for label in AT_REST} == {
        label: f"{sums[name]:.2f}" for label, name in AT_REST.items()
    }
    assert row_of("**the stack, a month**")[-1] == f"{stack.usd:.2f}"


AT_REST = {
    "alarms": "alarms",
    "dashboard": "dashboard",
    "metrics": "metrics",
    "hourly check for due models": "hourly check",
    "queue of captures": "queue of captures",
}


def test_an_idle_model():
    idle = calculate_idle_model(US_EAST_1).usd
    assert idle <= 0.03
    assert "half a\ncent a month for each model" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"{idle:.3f}" == "0.005"
    assert row_of("each model without requests, a month")[-1] == f"{idle:.4f}"


def test_a_monitoring_run_and_a_month_of_them():
    one = calculate_monitoring(1, US_EAST_1).usd
    [sentence] = re.findall(r"a monitoring run costs ([\d.]+) USD, a month of hourly ones (\d+\.\d+)", README)
    assert sentence == (f"{one:.4f}", f"{one * HOURS_A_MONTH:.2f}")


def test_a_training_run():
    """Ten trials of ten seconds in ten lanes, within two minutes: 120 s + 9/10 of 100 s of 3,008 MB."""
    usage = TrainingUsage(1, 10, (120 + 90) * 3_008 / 1_024, 16, 31)
    [written] = re.findall(r"\*\*A training run\*\*.*?([\d.]+) USD", README, re.DOTALL)
    assert written == f"{calculate_training(usage, US_EAST_1).usd:.3f}"


def test_prices_and_their_date():
    [unit_prices] = re.findall(r"S3 costs ([\d.]+) USD a GB-month; DynamoDB ([\d.]+), and ([\d.]+) for", README)
    names = ("s3_gb_month", "dynamodb_gb_month", "dynamodb_backup_gb_month")
    assert [float(written) for written in unit_prices] == [US_EAST_1[name].usd for name in names]
    assert (REGION, DATE) == ("us-east-1", "2026-11")
    assert "List prices of us-east-1, November 2026" in README


def test_the_latency_and_the_bytes_that_are_assumed_are_stated():
    assert f"{LATENCY_MS} ms" in README
    assert f"{ASSUMED.log_bytes_a_request} bytes" in README
    assert f"{ASSUMED.log_bytes_a_row} bytes" in README
