"""Calls on several threads: in order, a few at a time, whatever any of them does."""

import threading
import time
from functools import partial
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.blocks import in_order

WAIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def _two_processors():
    with mock.patch("os.cpu_count", return_value=2):
        yield


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(0, 0.002), max_size=30))
def test_results_are_in_order_however_long_each_takes(seconds):
    def call(position):
        threading.Event().wait(seconds[position])
        return position

    assert list(in_order(partial(call, position) for position in range(len(seconds)))) == list(range(len(seconds)))


def test_another_call_is_taken_when_any_has_ended_not_only_the_oldest():
    fifth_began, taken = threading.Event(), []

    def call(position):
        if position == 0:
            # Ends only if others are made meanwhile.
            assert fifth_began.wait(WAIT_SECONDS)
        if position == 4:
            fifth_began.set()
        return position

    def calls():
        for position in range(8):
            taken.append(position)
            yield partial(call, position)

    assert list(in_order(calls())) == list(range(8))


def test_little_is_taken_ahead_of_what_has_ended():
    go_on, taken = threading.Event(), []

    def calls():
        for position in range(20):
            taken.append(position)
            # The first ends late, while more could be taken; the others when they are told to.
            yield partial(time.sleep, 0.1) if position == 0 else partial(go_on.wait, WAIT_SECONDS)

    results = in_order(calls())
    next(results)
    # Two were made, and one waited.
    assert len(taken) == 3
    go_on.set()
    assert list(results) == [True] * 19


def test_what_is_early_waits_for_its_turn_but_not_in_any_number():
    many, taken = threading.Event(), []

    def call(position):
        if position == 0:
            assert many.wait(WAIT_SECONDS)
            time.sleep(0.05)  # in which more would be taken
        return position, len(taken)

    def calls():
        for position in range(100):
            taken.append(position)
            if position == 4:
                many.set()
            yield partial(call, position)

    results = list(in_order(calls()))
    assert [position for position, _ in results] == list(range(100))
    assert results[0][1] == 5


def test_a_fault_is_raised_in_its_turn_and_few_calls_after_it_are_made():
    made = []

    def call(position):
        made.append(position)
        if position == 3:
            raise ValueError("the fourth")
        return position

    seen = []
    with pytest.raises(ValueError, match="the fourth"):
        seen.extend(in_order(partial(call, position) for position in range(1_000)))
    assert seen == [0, 1, 2]
    assert len(made) < 20


def test_a_fault_of_whoever_makes_the_calls_is_raised():
    def calls():
        yield lambda: 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(in_order(calls()))


def test_whoever_stops_early_leaves_no_thread_behind():
    results = in_order(partial(int, 1) for _ in range(1_000))
    assert next(results) == 1
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
