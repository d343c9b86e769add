"""Loops of tests that end, also when what they test does not."""

import time
from collections.abc import Callable, Iterator

import pytest


def at_most(rounds: int) -> Iterator[int]:
    """Yield the number of each round, from 1; fail the test when it does not break off in time."""
    yield from range(1, rounds + 1)
    pytest.fail(f"no end after {rounds} rounds")


def within(seconds: float, pause: float = 0.0, describe: Callable[[], object] = str) -> Iterator[None]:
    """Yield again and again; fail the test when it does not break off in time, with what was reached then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(pause)
    pytest.fail(f"no end after {seconds:g} s: {describe()}")
