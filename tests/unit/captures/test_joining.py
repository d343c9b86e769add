from datetime import timedelta
from itertools import permutations

import numpy as np
import pytest
from millrace.captures.joining import join_feedback, join_window
from millrace.captures.window import read_window

from tests.captured_rows import MODEL, NOON, make_feedback, make_row, store_feedback, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def window_of(*rows):
    store = MemoryObjectStore("data")
    store_rows(store, rows)
    return read_window(store, MODEL, NOON, NOON + HOUR)


def test_outcomes_stand_beside_their_predictions():
    window = window_of(*(make_row(number) for number in range(4)))
    joined = join_feedback(window, [make_feedback(1, outcome="no"), make_feedback(3)])
    assert joined.outcomes.tolist() == [None, "no", None, "yes"]
    assert joined.labelled.tolist() == [False, True, False, True]
    assert joined.coverage == 0.5
    assert joined.observed_at[3] == np.datetime64("2026-05-04T12:00:03", "us")
    assert np.isnat(joined.received_at).tolist() == [True, False, True, False]


def test_the_bare_id_of_a_request_names_its_row_only_where_it_has_one():
    window = window_of(make_row(0), make_row(1, request_rows=2), make_row(2, prediction_id="p1-1", request_rows=2))
    feedback = [make_feedback(0, prediction_id="p0"), make_feedback(1, prediction_id="p1")]
    joined = join_feedback(window, feedback)
    assert joined.outcomes.tolist() == ["yes", None, None]
    assert (joined.report.matched, joined.report.unmatched) == (1, 1)


@pytest.mark.parametrize("turned", [False, True])
def test_what_was_observed_last_holds_and_then_what_was_received_last(turned):
    first = make_feedback(0, outcome="no", observed_at=NOON + DAY, received_at=NOON + 9 * DAY)
    correction = make_feedback(0, outcome="yes", observed_at=NOON + 2 * DAY, received_at=NOON + 3 * DAY)
    repeated = make_feedback(0, outcome="yes", observed_at=NOON + 2 * DAY, received_at=NOON + 4 * DAY)
    records = [first, correction, repeated]
    joined = join_feedback(window_of(make_row(0)), records[::-1] if turned else records)
    assert joined.outcomes.tolist() == ["yes"]
    assert joined.received_at[0] == np.datetime64("2026-05-07T12:00:00", "us")
    assert (joined.report.matched, joined.report.superseded) == (3, 2)


def test_reports_at_the_same_time_have_one_order_however_they_are_read():
    records = [
        make_feedback(0, feedback_id=name, outcome=outcome, position=position)
        for name, outcome, position in (("c", "no", 0), ("a", "yes", 1), ("b", "no", 1), ("d", "yes", 0))
    ]
    window = window_of(make_row(0))
    found = {tuple(join_feedback(window, order).outcomes.tolist()) for order in permutations(records)}
    assert found == {("no",)}


def test_by_row_id_it_counts_for_predictions_made_before_it_was_observed():
    rows = [make_row(number, row_id="k", predicted_at=NOON + timedelta(minutes=20 * number)) for number in range(3)]
    record = make_feedback(0, prediction_id=None, row_id="k", observed_at=NOON + timedelta(minutes=21))
    joined = join_feedback(window_of(*rows), [record])
    assert joined.labelled.tolist() == [True, True, False]


def test_clocks_may_lie_a_little_apart():
    early = make_feedback(0, prediction_id=None, row_id="1000", observed_at=NOON - timedelta(minutes=4))
    too_early = make_feedback(1, prediction_id=None, row_id="1001", observed_at=NOON - timedelta(minutes=6))
    joined = join_feedback(window_of(make_row(0), make_row(1)), [early, too_early])
    assert joined.labelled.tolist() == [True, False]


def test_an_outcome_known_before_its_prediction_is_joined_and_counted():
    joined = join_feedback(window_of(make_row(0)), [make_feedback(0, observed_at=NOON - HOUR)])
    assert joined.labelled.tolist() == [True]
    assert joined.report.observed_before_prediction == 1


def test_numbers_stay_numbers():
    joined = join_feedback(window_of(make_row(0, prediction={"value": 2.0})), [make_feedback(0, outcome=2.5)])
    assert joined.outcomes.tolist() == [2.5]


def test_feedback_is_read_from_the_windows_start_to_now():
    store = MemoryObjectStore("data")
    store_rows(store, [make_row(number) for number in range(3)])
    late = make_feedback(0, received_at=NOON + 40 * DAY)
    not_yet = make_feedback(1, received_at=NOON + 60 * DAY)
    store_feedback(store, [late, not_yet, make_feedback(9)])
    store.put(f"feedback/{MODEL}/2026/05/05/torn.jsonl", b'{"format":1,"feedb')
    window = read_window(store, MODEL, NOON, NOON + HOUR)
    joined = join_window(store, window, NOON + 50 * DAY)
    assert joined.labelled.tolist() == [True, False, False]
    assert (joined.report.records, joined.report.unmatched) == (2, 1)
    assert joined.report.read.malformed_rows == 1


def test_without_predictions_there_is_no_coverage():
    joined = join_feedback(window_of(), [make_feedback(0)])
    assert np.isnan(joined.coverage)
    assert joined.report.unmatched == 1
