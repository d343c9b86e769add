import pytest
from millrace.errors import ServiceUnavailableError
from millrace.retry import retry


def test_an_attempt_is_repeated_until_it_gives_a_result():
    results, pauses = iter([None, None, "done", "never"]), []
    assert retry(lambda: next(results), "busy", first_pause_seconds=1, sleep=pauses.append) == "done"
    assert len(pauses) == 2
    assert 0.5 <= pauses[0] <= 1.5
    assert 1 <= pauses[1] <= 3


def test_no_attempt_follows_the_last():
    attempts, pauses = [], []
    with pytest.raises(ServiceUnavailableError, match="busy"):
        retry(lambda: attempts.append(1), "busy", attempts=3, sleep=pauses.append)
    assert (len(attempts), len(pauses)) == (3, 2)


def test_results_that_are_false_are_results():
    assert retry(lambda: False, "busy") is False
    assert retry(list, "busy") == []
