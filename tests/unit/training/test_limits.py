"""A trial that reaches its limit stops itself and says so; one that does not is left alone."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from millrace.training import fitting
from millrace.training.limits import LimitGuard, TrialLimits, TrialStoppedError, peak_memory_mb, resident_mb

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


def work(seconds: float) -> None:
    """Loops in Python, as fitting does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)


def work_watched(limits: TrialLimits, memory: Callable[[], float | None] | None = None) -> None:
    with LimitGuard(limits, memory):
        work(60.0)


def test_a_trial_that_takes_too_long_is_stopped():
    with pytest.raises(TrialStoppedError, match=r"stopped after \d+ s, shortly before the function's time limit"):
        work_watched(TrialLimits(seconds=0.1))


def test_a_trial_that_needs_too_much_memory_is_stopped():
    with pytest.raises(TrialStoppedError, match="stopped at 2,900 MB of memory, shortly before"):
        work_watched(TrialLimits(memory_mb=2_800), memory=lambda: 2_900.0)


def test_a_library_that_swallows_the_stop_is_stopped_again():
    stops: list[str] = []

    def work_stubbornly() -> None:
        for _ in range(2):
            try:
                work(60.0)
            except TrialStoppedError as stop:
                stops.append(str(stop))
        raise TrialStoppedError("in the end")

    with pytest.raises(TrialStoppedError), LimitGuard(TrialLimits(seconds=0.0)):
        work_stubbornly()

    assert len(stops) == 2


def test_it_stops_its_own_thread_and_no_other():
    finished: list[bool] = []
    other = threading.Thread(target=lambda: finished.append(work(1.0) is None))
    other.start()

    with pytest.raises(TrialStoppedError):
        work_watched(TrialLimits(seconds=0.1))
    other.join()

    assert finished == [True]


def test_within_its_limits_nothing_happens():
    looked = threading.Event()

    with LimitGuard(TrialLimits(seconds=600.0), memory=lambda: looked.set() or 1.0):
        assert looked.wait(60)


def test_nothing_comes_after_the_trial_also_when_its_guard_is_just_looking():
    looking, ended, looked = threading.Event(), threading.Event(), threading.Event()

    def memory() -> float:
        looking.set()
        assert ended.wait(60)
        looked.set()
        return 2_900.0

    with LimitGuard(TrialLimits(memory_mb=2_800), memory):
        assert looking.wait(60)
    ended.set()
    assert looked.wait(60)
    work(0.2)


def test_other_errors_pass_unchanged():
    with pytest.raises(KeyError, match="a"), LimitGuard(TrialLimits(seconds=60.0)):
        raise KeyError("a")


@pytest.mark.parametrize(("remaining", "seconds"), [(900_000, 880.0), (30_000, 15.0)])
def test_a_function_keeps_a_reserve(remaining: int, seconds: float):
    context = SimpleNamespace(memory_limit_in_mb="3008", get_remaining_time_in_millis=lambda: remaining)

    limits = TrialLimits.of_function(context)

    assert limits.seconds == seconds
    assert limits.memory_mb == pytest.approx(3008 * 0.94)


def test_memory_is_measured():
    held = resident_mb()
    peak = peak_memory_mb()

    assert held is not None
    assert peak is not None
    assert 20 < held <= peak + 1


def test_the_trial_is_recorded_as_failed_and_its_neighbours_go_on(monkeypatch):
    world = TrainingRun.prepared(make_dataset("binary"))
    plan = world.plan()
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "fit_pipeline", lambda *_: work(60.0))
        outcome = world.train(plan.trials[0], TrialLimits(seconds=0.1))

    assert outcome.outcome == "failed"
    assert outcome.reason.startswith("stopped after ")
    trial = world.registry.get_trial(MODEL, RUN_ID, plan.trials[0].trial_id)
    assert (trial.status, trial.reason) == ("failed", outcome.reason)
    assert world.train(plan.trials[1], TrialLimits(seconds=60.0)).outcome == "succeeded"
