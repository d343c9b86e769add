import pytest
from millrace_cli.errors import CliError
from millrace_cli.run_progress import Snapshot, follow_causes

from tests.fakes.fake_api import FakeApi

RUN = "20260503T141500-0f3a9c2b7d1e"


def cause(status, run_id=None, reason=""):
    return (200, {"cause_id": "c", "model": "churn", "status": status, "run_id": run_id, "reason": reason})


def run(status, stage, reasons=()):
    document = {"run_id": RUN, "status": status, "stage": stage, "reasons": list(reasons)}
    return (200, {"run": document, "trials": [], "evaluation": None})


NOT_SEEN = (404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such cause"})


def follow(api, **arguments):
    settings = {"poll_seconds": 1.0, "timeout_seconds": 100.0, "sleep": lambda _: None} | arguments
    return [shown[0] for shown in follow_causes(api.client(), {"churn": "c"}, **settings)]


def test_a_cause_is_followed_from_unseen_to_the_end_of_its_run():
    api = FakeApi(
        {
            "/models/churn/causes/c": [NOT_SEEN, cause("pending"), cause("started", RUN)],
            f"/models/churn/runs/{RUN}": [run("running", "training"), run("succeeded", "finished")],
        }
    )

    snapshots = follow(api)

    assert [snapshot.cause_status for snapshot in snapshots] == ["unseen", "pending", "started", "started"]
    assert [snapshot.status for snapshot in snapshots] == ["", "", "running", "succeeded"]
    assert snapshots[-1].exit_code == 0


@pytest.mark.parametrize(("status", "exit_code"), [("succeeded", 0), ("failed", 1), ("rejected", 2)])
def test_a_script_sees_how_the_run_ended(status, exit_code):
    assert Snapshot("churn", "started", run={"status": status}).exit_code == exit_code


def test_a_skipped_cause_is_final_and_refused():
    (snapshot,) = follow(FakeApi({"/models/churn/causes/c": [cause("skipped", reason="not a table")]}))

    assert snapshot.is_final
    assert snapshot.exit_code == 2
    assert snapshot.reason == "not a table"


def test_an_upload_that_nobody_notices_says_so():
    times = iter([0.0, 50.0, 101.0])

    with pytest.raises(CliError, match="did not receive the upload within 100 seconds"):
        follow(FakeApi({"/models/churn/causes/c": [NOT_SEEN]}), clock=lambda: next(times))


def test_a_finished_run_is_not_polled_while_another_goes_on():
    paths = {
        "/models/a/causes/1": [cause("started", RUN)],
        f"/models/a/runs/{RUN}": [run("succeeded", "finished")],
        "/models/b/causes/2": [NOT_SEEN, NOT_SEEN, cause("started", RUN)],
        f"/models/b/runs/{RUN}": [run("failed", "finished", ["died"])],
    }
    api = FakeApi(paths)

    *_, last = follow_causes(
        api.client(), {"a": "1", "b": "2"}, poll_seconds=1, timeout_seconds=100, sleep=lambda _: None
    )

    assert [snapshot.status for snapshot in last] == ["succeeded", "failed"]
    assert [request.url.path for request in api.requests].count("/models/a/causes/1") == 1


class Clock:
    """Shows a later time after each sleep."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += seconds


class Dropping:
    """Stack that drops the events of the first uploads, as S3 does in the minutes after a deployment."""

    def __init__(self, dropped):
        self.dropped = dropped
        self.sent = ["upload-0"]
        self.clock = Clock()
        self.times = []

    def upload_again(self, model, seconds):
        self.times.append((self.clock(), seconds))
        self.sent.append(f"upload-{len(self.sent)}")
        return self.sent[-1]

    def follow(self, **arguments):
        api = FakeApi({f"/models/churn/runs/{RUN}": [run("succeeded", "finished")]})
        for number in range(self.dropped, 10):
            api.answers[f"/models/churn/causes/upload-{number}"] = [NOT_SEEN, cause("pending"), cause("started", RUN)]
        settings = {"poll_seconds": 2.0, "timeout_seconds": 3600.0, "upload_again": self.upload_again} | arguments
        causes = {"churn": self.sent[0]}
        return [
            shown[0]
            for shown in follow_causes(api.client(), causes, sleep=self.clock.sleep, clock=self.clock, **settings)
        ]


@pytest.mark.parametrize(("dropped", "times"), [(0, []), (1, [60]), (2, [60, 180]), (3, [60, 180, 420])])
def test_an_upload_whose_event_is_lost_is_repeated_until_the_stack_sees_it(dropped, times):
    stack = Dropping(dropped)

    snapshots = stack.follow()

    assert snapshots[-1].status == "succeeded"
    assert [sent for sent, _ in stack.times] == times
    assert [seconds for _, seconds in stack.times] == [60, 120, 240][: len(times)]


def test_an_upload_that_is_never_seen_is_repeated_a_few_times_only():
    stack = Dropping(9)

    with pytest.raises(CliError, match="did not receive the upload"):
        stack.follow()

    assert len(stack.times) == 3


def test_an_upload_is_repeated_only_while_the_stack_has_not_seen_it():
    stack = Dropping(0)

    stack.follow(poll_seconds=100.0)  # pending for 100 seconds, after one that was unseen

    assert len(stack.times) == 0


def test_an_event_that_comes_late_is_followed_and_not_its_repetition():
    api = FakeApi(
        {
            "/models/churn/causes/first": [NOT_SEEN, NOT_SEEN, cause("started", RUN)],
            "/models/churn/causes/second": [NOT_SEEN, cause("pending")],
            f"/models/churn/runs/{RUN}": [run("running", "training"), run("succeeded", "finished")],
        }
    )
    clock = Clock()

    snapshots = [
        shown[0]
        for shown in follow_causes(
            api.client(),
            {"churn": "first"},
            poll_seconds=60.0,
            timeout_seconds=3600.0,
            upload_again=lambda *_: "second",
            sleep=clock.sleep,
            clock=clock,
        )
    ]

    assert [snapshot.cause_status for snapshot in snapshots] == ["unseen", "unseen", "started", "started"]
    assert snapshots[-1].status == "succeeded"
