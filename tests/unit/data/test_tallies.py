"""What is counted of failures, and which are looked up to be shown."""

import numpy as np
from millrace.data.batch_checks import FailureCount, look_up_rows
from millrace.data.findings import MAX_EXAMPLES


def failure(count, looked_up, first_line=10):
    found = FailureCount()
    lines, positions = np.arange(first_line, first_line + count), np.arange(count)
    found.add(count, look_up_rows(lines, positions, lambda row: looked_up.append(row) or f"v{row}", masked=False))
    return found


def test_failures_are_looked_up_only_where_they_are_shown():
    looked_up = []
    whole = FailureCount()
    for start in (10, 20, 30):
        whole.merge(failure(3, looked_up, start))
    assert whole.count == 9
    assert whole.rows() == [(10, "v0"), (11, "v1"), (12, "v2"), (20, "v0"), (21, "v1")]
    assert looked_up == [0, 1, 2, 0, 1]
    assert len(whole.rows()) == MAX_EXAMPLES


def test_asking_for_fewer_rows_loses_none():
    found = failure(4, [])
    assert found.rows(2) == [(10, "v0"), (11, "v1")]
    assert len(found.rows()) == 4
    finding = found.finding("warning", "range", "too low", "x", 8)
    assert (finding.count, finding.share, finding.examples) == (4, 0.5, ("v0", "v1", "v2", "v3"))


def test_a_masked_value_is_not_even_looked_at():
    found = FailureCount()
    found.add(1, look_up_rows(np.array([7]), np.array([0]), lambda _: 1 / 0, masked=True))
    assert found.rows() == [(7, "***")]
