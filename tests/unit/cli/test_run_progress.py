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
