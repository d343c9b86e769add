"""Runs that stop before they have read everything: the next one goes on, and together they are as one."""

import gzip
import json
import re
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.captures.records import CapturedRow
from millrace.layout import captures_key
from millrace.monitoring.monitor import write_outcome_metrics
from millrace.monitoring.segments import load_rows

from tests.unit.monitoring.served import MODEL, START, Served
from tests.unit.monitoring.test_monitor import report_of, state_of

NEVER = float("inf")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr("millrace.monitoring.new_captures._BATCH_ROWS", 70)
    monkeypatch.setattr("millrace.monitoring.monitor._BATCH_FEEDBACK", 90)


def put_rows(served, hour, name, rows):
    body = gzip.compress("\n".join(row.to_line() for row in rows).encode())
    served.data.put(captures_key(MODEL, START + timedelta(hours=hour), name), body)


def backlog(*, first=False, age_shift=1.0):
    """Rows and outcomes of some hours, with every fault that captures may have, after a run unless it is the first."""
    served = Served()
    if not first:
        served.capture(0, rows=100, feedback=True)
        served.monitor(1)
    rows = served.capture(1, rows=120, age_shift=age_shift, feedback=True)
    served.capture(2, rows=90, age_shift=age_shift, feedback=True)
    served.capture(2, rows=25, version=77, name="of-another-version")
    served.capture(3, rows=30, name="torn", torn=True)
    put_rows(served, 1, "twice", rows[:80])
    unanswered = {"label": None, "probabilities": None}
    unpredicted = [replace_row(row, f"u{n}", prediction=unanswered) for n, row in enumerate(rows[:40])]
    put_rows(served, 2, "unpredicted", unpredicted)
    put_rows(served, 3, "unpredicted-again", unpredicted)
    served.data.put(captures_key(MODEL, START + timedelta(hours=3), "lines"), gzip.compress(b"{\n[]\n\n"))
    served.report([row.prediction_id for row in rows[:50]], ["yes"] * 50, 3.2)
    served.report(["nobody-0", "nobody-1"], ["yes", "no"], 3.1)
    return served


def replace_row(row: CapturedRow, name: str, **changes) -> CapturedRow:
    fields = {field: getattr(row, field) for field in row.__struct_fields__}
    return CapturedRow(**fields | {"prediction_id": f"{name}-0"} | changes)


def run_to_the_end(served, cuts, hour=4):
    """Run the monitor until there is no more; ``cuts`` says after which batches the time is up."""
    verdicts, outcomes = iter(cuts), []
    while not outcomes or outcomes[-1].outcome == "more":
        outcomes.append(served.monitor(hour, remaining_seconds=lambda: 0.0 if next(verdicts, False) else NEVER))
    return outcomes


def result_of(served):
    """Everything that runs leave, without the names of what they wrote."""
    state = state_of(served)
    names = {segment.key: f"segment-{number}" for number, segment in enumerate(state.outcomes.segments)}
    names |= {record.key: f"window-{number}" for number, record in enumerate(state.traffic.windows)}
    names |= {record.key: f"total-{number}" for number, record in enumerate(state.traffic.totals)}
    text = json.dumps(json.loads(state.write()), sort_keys=True)
    for key, name in names.items():
        text = text.replace(key.removesuffix(".npz"), name.removesuffix(".npz"))
    text = re.sub(r"outcomes-run\d+", "outcomes", text)
    rows = [load_rows(served.data, segment) for segment in state.outcomes.segments]
    kept = (*state.traffic.windows, *state.traffic.totals)
    windows = [gzip.decompress(served.data.get(record.key)) for record in kept]
    return text, [part.prediction_ids.tolist() for part in rows], windows, report_of(served)


@cache
def whole(*, first=False):
    """Outcome and result of one run."""
    served = backlog(first=first)
    (outcome,) = run_to_the_end(served, [])
    return replace(outcome, report=""), result_of(served)


@settings(max_examples=12, deadline=None)
@example(cuts=[True] * 20, first=False)
@given(cuts=st.lists(st.booleans(), min_size=1, max_size=14), first=st.booleans())
def test_any_cuts_give_what_one_run_gives(cuts, first):
    served = backlog(first=first)
    outcome = run_to_the_end(served, cuts)[-1]
    assert (replace(outcome, report=""), result_of(served)) == whole(first=first)


def test_the_faults_of_the_backlog_are_counted():
    outcome, (_, segments, windows, report) = whole()
    assert (outcome.outcome, outcome.windows, outcome.rows) == ("judged", 2, 250)
    intake = report["intake"]
    assert (intake["unknown_versions"], intake["duplicates"], intake["unanswered"]) == ({"77": 25}, 120, 40)
    assert (intake["malformed_rows"], len(intake["unreadable_objects"])) == (3, 1)
    assert (intake["matched_feedback"], intake["unmatched_feedback"]) == (260, 2)
    assert len(segments) > 3
    assert len(windows) == 1 + 2, "a window, and the totals of two runs"


def test_a_run_that_stops_closes_nothing_and_says_so():
    served = backlog()
    before = state_of(served)
    outcome = served.monitor(4, remaining_seconds=lambda: 0.0)
    state = state_of(served)
    assert (outcome.outcome, outcome.windows, outcome.version) == ("more", 0, 1)
    assert 0 < outcome.rows <= 70
    assert (state.checked_at, state.traffic.windows) == (before.checked_at, before.traffic.windows)
    assert state.traffic.totals == before.traffic.totals, "part of the hours is no total of them"
    assert state.progress.lines == 70
    write_outcome_metrics(MODEL, outcome, START)


def test_a_run_reads_so_many_rows_at_most(monkeypatch):
    monkeypatch.setattr("millrace.monitoring.monitor._MAX_ROWS", 140)
    served = backlog()
    outcomes = []
    while not outcomes or outcomes[-1].outcome == "more":
        outcomes.append(served.monitor(4))
    assert [outcome.outcome for outcome in outcomes[:-1]] == ["more"] * (len(outcomes) - 1)
    assert len(outcomes) >= 4


def test_what_arrives_between_the_parts_of_a_run_counts_once():
    served = backlog(age_shift=0.0)
    assert served.monitor(4, remaining_seconds=lambda: 0.0).outcome == "more"
    late = served.capture(1, rows=66, name="aa-before-the-part-that-was-read")
    put_rows(served, 1, "zz", late[:10])
    assert served.monitor(4.2).rows == 250 + 66
    assert served.monitor(5).rows == 0
    assert state_of(served).traffic.windows[-1].rows == 350 + 66


def test_an_object_that_grew_between_the_parts_of_a_run_counts_once():
    served = Served()
    rows = served.capture(1, rows=200, name="part")
    assert served.monitor(2, remaining_seconds=lambda: 0.0).rows == 70
    more = served.capture(1.5, rows=30, name="unused")
    served.data.delete([captures_key(MODEL, START + timedelta(hours=1), "unused")])
    put_rows(served, 1, "part", [*rows, *more])
    assert served.monitor(2.1).rows == 230
    assert served.monitor(3).rows == 0


def test_a_first_run_that_takes_longer_than_the_hours_that_it_looks_back_loses_no_row():
    served = Served()
    for hour in range(3):
        served.capture(hour, rows=100)
    assert served.monitor(30, remaining_seconds=lambda: 0.0).outcome == "more"
    assert served.monitor(55).rows == 300


def test_memory_does_not_grow_with_the_backlog(monkeypatch):
    monkeypatch.setattr("millrace.monitoring.new_captures._BATCH_ROWS", 400)

    def peak(hours):
        served = Served()
        for hour in range(hours):
            served.capture(hour, rows=1_200)
        tracemalloc.start()
        assert served.monitor(hours).rows == 1_200 * hours
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(8) < 1.5 * peak(2)


def test_a_monitor_that_was_slower_saves_no_progress():
    served = backlog()
    original, rival = served.data.put_if_unchanged, []

    def race(key, *arguments):
        if not rival:
            rival.append(None)
            rival[0] = served.monitor(4, token="rival")
        return original(key, *arguments)

    served.data.put_if_unchanged = race
    assert served.monitor(4, remaining_seconds=lambda: 0.0).outcome == "superseded"
    served.data.put_if_unchanged = original
    assert state_of(served).progress is None
    assert report_of(served)["model"] == MODEL
