"""Totals of traffic stay in the order of time, whatever comes late, twice in an hour, or before a clock went back."""

import gzip
from datetime import timedelta
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.histograms.predictions import Traffic
from millrace.monitoring.monitor import MonitoringOutcome
from millrace.monitoring.rules import VERDICTS
from millrace.monitoring.state import MAX_TOTALS
from millrace.spec import ModelSpec

from tests.unit.monitoring.served import START, Served
from tests.unit.monitoring.test_monitor import state_of

#: Hours in which 30 rows are served before a run, and the hour of the run.
Steps = list[tuple[tuple[float, ...], float]]
ONLY_LATE: Steps = [((0, 1), 2), ((2,), 3), ((3,), 4), ((1.2,), 4.1), ((0.5, 1.7), 4.5), ((4,), 5), ((5,), 6)]
BACK: Steps = [((0, 1), 2), ((2,), 3), ((3,), 4), ((0.3,), 1), ((4,), 5)]
OFTEN: Steps = [((hour / 6,), (hour + 1) / 6) for hour in range(20)]
#: Windows close with thirty rows.
SPEC = ModelSpec.parse(
    {
        "monitoring": {
            name: {"min_rows": 30} for name, one in VERDICTS.items() if one.check_traffic or one.check_outcomes
        }
    }
)
hour = st.floats(0.0, 8.0).map(lambda value: round(value, 1))


def serve(steps: Steps) -> tuple[Served, list[MonitoringOutcome]]:
    served, outcomes = Served(SPEC), []
    for number, (hours, run) in enumerate(steps):
        for index, when in enumerate(hours):
            served.capture(when, rows=30, name=f"part-{number}-{index}")
        outcomes.append(served.monitor(run))
    return served, outcomes


def total_of(served, total) -> Traffic:
    return Traffic.read(gzip.decompress(served.data.get(total.key)))


@settings(max_examples=12, deadline=None)
@example(steps=ONLY_LATE)
@example(steps=BACK)
@example(steps=OFTEN)
@given(steps=st.lists(st.tuples(st.lists(hour, max_size=3).map(tuple), hour), min_size=2, max_size=7))
def test_totals_ascend_and_hold_every_row_once(steps):
    served, outcomes = serve(steps)
    history = state_of(served).traffic
    for before, after in pairwise(history.totals):
        assert before.end < after.end
        assert total_of(served, before).features.rows < total_of(served, after).features.rows
    assert all(total.begin <= total.end for total in history.totals)
    if history.totals:
        assert total_of(served, history.totals[-1]).features.rows == sum(one.rows for one in outcomes)
        assert history.begun_at <= history.totals[0].end


def test_rows_of_which_all_came_late_are_one_piece_with_those_before():
    served, _ = serve(ONLY_LATE)
    ends = [total.end - START for total in state_of(served).traffic.totals]
    assert len(ends) == 5
    assert ends[2] > timedelta(hours=3.9)


def test_a_few_late_rows_leave_the_hours_apart():
    served, _ = serve([((0, 1), 2), ((2,), 3)])
    served.capture(3, rows=95)
    served.capture(0.4, rows=5, name="late")
    served.monitor(4)
    assert state_of(served).traffic.totals[-1].begin == START + timedelta(hours=3)


def test_runs_every_ten_minutes_keep_totals_of_half_hours():
    """What is kept has to cover weeks, whatever a model's own schedule is."""
    served, _ = serve(OFTEN)
    ends = [total.end - START for total in state_of(served).traffic.totals]
    assert len(ends) <= 20 / 3 + 2
    assert timedelta(minutes=30) * MAX_TOTALS > timedelta(days=28)
