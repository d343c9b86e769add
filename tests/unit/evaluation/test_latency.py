"""Latency is that of the quietest block, so that a busy neighbour does not change a verdict."""

import numpy as np
import pytest
from millrace.evaluation.holdout import BLOCKS, CALLS_OF_A_ROW, WARM_UP_CALLS, measure_latency

from tests.prepared_data import make_features

#: Milliseconds within which a block ends the measurement.
LIMITS = {"row": 1.5, "batch": 1.5}


class SleepyModel:
    """Takes a millisecond a call, and on a busy clock much longer, but for one block."""

    def __init__(self, quiet_block: int) -> None:
        self.now, self.calls, self.quiet_block = 0.0, 0, quiet_block
        self.rows: list[int] = []

    def run(self, features) -> None:
        block = (self.calls - WARM_UP_CALLS) // CALLS_OF_A_ROW
        self.rows.append(len(features))
        self.now += 0.001 if block == self.quiet_block else 0.005 * (1 + self.calls % 7)
        self.calls += 1

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize("quiet_block", range(BLOCKS))
def test_one_quiet_block_is_enough(quiet_block):
    model = SleepyModel(quiet_block)
    taken = measure_latency(model, make_features(100, "both"), model.clock, LIMITS)
    assert taken["row"].p95_milliseconds == pytest.approx(1.0)
    assert taken["row"].p50_milliseconds == pytest.approx(1.0)
    assert taken["row"].rows == 1


def test_one_slow_call_in_ten_is_what_the_limit_sees():
    model = SleepyModel(-1)

    def run(_features) -> None:
        model.calls += 1
        model.now += 0.010 if model.calls % 10 == 0 else 0.001

    model.run = run
    taken = measure_latency(model, make_features(100, "both"), model.clock, LIMITS)["row"]
    assert (taken.p50_milliseconds, taken.p95_milliseconds) == (pytest.approx(1.0), pytest.approx(10.0))


def test_few_rows_are_repeated_to_fill_a_batch():
    model = SleepyModel(0)
    taken = measure_latency(model, make_features(3, "both"), model.clock, LIMITS)
    assert taken["batch"].rows == 1_000
    assert set(model.rows) == {1, 1_000}


def test_a_very_slow_model_is_not_asked_for_ever():
    model = SleepyModel(-1)
    model.run = lambda _features: setattr(model, "now", model.now + 10.0)
    taken = measure_latency(model, make_features(3, "both"), model.clock, LIMITS)
    assert taken["row"].calls == CALLS_OF_A_ROW
    assert taken["row"].p95_milliseconds == pytest.approx(10_000.0)
    assert np.isfinite(taken["batch"].p95_milliseconds)


def test_a_model_within_its_limit_is_not_timed_for_long():
    model = SleepyModel(-1)
    model.run = lambda _features: setattr(model, "now", model.now + 0.02)
    features = make_features(3, "both")

    within = measure_latency(model, features, model.clock, {"row": 25.0, "batch": None})
    beyond = measure_latency(model, features, model.clock, {"row": 15.0, "batch": None})

    assert within["row"].calls == CALLS_OF_A_ROW
    assert beyond["row"].calls == BLOCKS * CALLS_OF_A_ROW
    assert within["batch"].calls == beyond["batch"].calls
