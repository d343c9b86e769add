"""The console's tour in headless Chromium: every page, the actions, hostile names, three hundred models."""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from millrace.batch.job_records import change_job, claim_job
from millrace.entities import BatchRecord
from millrace.registry.ledger import AuditContext
from millrace.releases.control import start_release
from millrace_cli.console import action_pages
from werkzeug.serving import make_server

from tests.console_world import DIFFERENCE, ConsoleWorld
from tests.registry_builders import MODEL, make_cause, make_dataset, make_entry, make_run
from tests.release_world import CANARY, ReleaseWorld

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = PROJECT / ".millrace" / "tools" / "browser" / "bin" / "python"
SCRIPT = Path(__file__).parent / "scripts" / "tour_console.py"
DATASET, OTHER = "ab" * 32, "cd" * 32
JOB = "b-20260503T141500-bcdf5f8494e5"
LONG = "m-" + "x" * 58
FIRST_RUN = ReleaseWorld().first_run_id
PAGES = {
    "home": "/",
    "more-models": f"/?after={LONG}",
    "operations": "/operations",
    "upload": "/upload",
    "model": f"/models/{MODEL}",
    "long-name": f"/models/{LONG}",
    "runs": f"/models/{MODEL}/runs",
    "run": f"/models/{MODEL}/runs/{FIRST_RUN}",
    "versions": f"/models/{MODEL}/versions",
    "version": f"/models/{MODEL}/versions/2",
    "try": f"/models/{MODEL}/versions/1/try",
    "comparison": f"/models/{MODEL}/compare?left=1&right=2",
    "datasets": f"/models/{MODEL}/data",
    "dataset": f"/models/{MODEL}/data/{DATASET}",
    "difference": f"/models/{MODEL}/data/{DATASET}?other={OTHER}",
    "monitoring": f"/models/{MODEL}/monitoring",
    "protocol": f"/models/{MODEL}/incidents/1032fa24",
    "releases": f"/models/{MODEL}/releases",
    "release": f"/models/{MODEL}/releases/active",
    "batches": f"/models/{MODEL}/batches",
    "batch": f"/models/{MODEL}/batches/{JOB}",
    "ledger": f"/models/{MODEL}/ledger",
    "maturity": f"/models/{MODEL}/maturity",
    "action": f"/models/{MODEL}/actions/promote?version=3",
    "fault": "/models/nobody",
}
#: Of a stack that has no model yet.
EMPTY = {"empty-home": "/", "empty-operations": "/operations", "empty-upload": "/upload"}
RUN = f"/models/{MODEL}/runs/{FIRST_RUN}"
#: By name, in this order: the address of the page whose button is pressed.
ACTIONS = {
    "pause-release": f"/models/{MODEL}/actions/pause-release",
    "resume-release": f"/models/{MODEL}/actions/resume-release",
    "abort-release": f"/models/{MODEL}/actions/abort-release",
    "promote": f"/models/{MODEL}/actions/promote?version=3",
    "rollback": f"/models/{MODEL}/actions/rollback",
    "release": f"/models/{MODEL}/actions/release?version=2",
    "promote-release": f"/models/{MODEL}/actions/promote-release",
    "retire": f"/models/{MODEL}/actions/retire?version=3",
    "monitor": f"/models/{MODEL}/actions/monitor",
    "train": f"/models/{MODEL}/actions/train",
    "approve": f"/models/{MODEL}/actions/approve?run={FIRST_RUN}",
    "reject": f"/models/{MODEL}/actions/reject?run={FIRST_RUN}",
    "cancel-batch": f"/models/{MODEL}/actions/cancel-batch?job=b-1",
    "retry-batch": f"/models/{MODEL}/actions/retry-batch?job=b-1",
}
#: Of other functions, or about what this world does not have: the browser's part is what is tried.
ANSWERS = (
    f"POST /models/{MODEL}/runs",
    f"POST {RUN}/approval",
    f"POST /models/{MODEL}/batches/b-1/cancel",
    f"POST /models/{MODEL}/batches/b-1/retry",
)
#: An expected error of one page, which the browser's console repeats.
NOT_FOUND = "the server responded with a status of 404"


@pytest.fixture(scope="module")
def world() -> ConsoleWorld:
    world = ConsoleWorld(allows_actions=True)
    start_release(
        MODEL,
        2,
        CANARY,
        AuditContext("ann", "<script>document.title = 'hacked'</script>", world.now),
        registry=world.registry,
        model_store=world.models,
    )
    world.answers |= {answer: {} for answer in ANSWERS}
    world.answers[f"/models/{MODEL}/versions/1/invocations"] = {
        "predictions": [{"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "decision": "yes"}]
    }
    job = BatchRecord(MODEL, JOB, "cause", "upload", "score/churn/<b>a.csv", 1, "scored/churn/b-1/", world.now, "ann")
    claim_job(job, world.registry.store)
    change_job(job, world.registry.store, status="scoring", started_at=world.now, parts=4)
    world.registry.put_dataset(make_dataset(OTHER))
    world.answers[f"/models/{MODEL}/datasets/{OTHER}/diff/{DATASET}"] = DIFFERENCE
    for model in [LONG, *(f"model-{number:03d}" for number in range(298))]:
        cause = make_cause("a.csv", model)
        world.registry.claim_cause(cause, make_run(cause), make_entry(cause.cause_id, model))
    return world


@contextmanager
def serve(world: ConsoleWorld) -> Iterator[str]:
    """Serve a console; yields the address that opens it."""
    server = make_server("127.0.0.1", 0, world.app, threaded=True)
    world.guard.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield world.guard.make_address()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def addresses(world: ConsoleWorld) -> Iterator[tuple[str, str]]:
    empty = ConsoleWorld()
    empty.clear()
    with serve(world) as address, serve(empty) as address_of_empty:
        yield address, address_of_empty


@pytest.fixture(scope="module")
def tour(addresses: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("there is no Chromium: apt-get install chromium")
    if not PYTHON.exists():
        pytest.skip("there is no driver of the browser: make tools")
    file = tmp_path_factory.mktemp("tour") / "tour.json"
    address, address_of_empty = addresses
    empty = {"address": address_of_empty, "pages": EMPTY}
    given = {"address": address, "pages": PAGES, "actions": ACTIONS, "empty": empty}
    file.write_text(json.dumps(given), encoding="utf-8")
    ran = subprocess.run([PYTHON, SCRIPT, file, "-"], capture_output=True, text=True, check=False, timeout=500)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("name", [*PAGES, *EMPTY])
def test_a_page_loads_fits_every_screen_and_is_accessible(tour, name):
    page = (tour["empty"] if name in EMPTY else tour["pages"])[name]
    assert page["status"] == (404 if name == "fault" else 200)
    assert [fault for fault in page["faults"] if NOT_FOUND not in fault or name != "fault"] == []
    assert page["wide"] == []
    assert page["violations"] == []
    assert "hacked" not in page["title"]


def test_the_keyboard_goes_to_the_content_first(tour):
    first, second, *rest = tour["keyboard"]
    assert first == "Skip to the content"
    assert second == "Millrace"
    assert rest[:3] == ["Models", "Operations", "Upload"]


def test_every_action_is_taken_and_said(tour, world):
    assert tour["actions"].keys() == action_pages.ACTIONS.keys()
    for name, done in tour["actions"].items():
        assert done["url"].startswith(f"/models/{MODEL}?done="), (name, done)
        assert "done" in done["notice"], name
    assert world.release is None
    entries = [entry for entry in world.registry.list_ledger(MODEL) if entry.reason == "from the tour"]
    assert {entry.action for entry in entries} >= {
        "release_paused",
        "release_resumed",
        "release_aborted",
        "model_promoted",
        "model_rolled_back",
        "model_retired",
    }
    assert world.aliases["champion"] == 2


def test_a_table_is_uploaded_in_the_browser_with_its_progress(tour, world):
    assert tour["upload"]["url"].startswith("/models/fresh/runs?done=")
    assert tour["upload"]["sent"] == 1.0
    assert len(world.uploads) == 1


def test_a_row_is_tried_in_the_browser(tour):
    assert "75.0 %" in tour["tried"]
