"""Requests and output of `millrace promote | rollback | retire | approve | reject | gc | history --at`."""

import json
import subprocess
import sys

import pytest
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

RUN_ID = "20260503T141500-0f3a9c2b7d1e"
CHANGE = {"model": "churn", "outcome": "promoted", "from_version": 1, "to_version": 3, "passed_over": []}
ANSWER = {
    "model": "churn",
    "run_id": RUN_ID,
    "version": 4,
    "outcome": "approved",
    "decided_by": "ann",
    "decided_at": "2026-05-03T14:15:00+00:00",
}
VERSION = {
    "version": 3,
    "semantic_version": "1.1.0",
    "candidate": "ridge",
    "run_id": RUN_ID,
    "dataset_ids": ["d1", "d2"],
    "metrics": {"roc_auc": 0.91},
}


@pytest.fixture
def run(monkeypatch):
    """Run a command against canned answers; returns the result and the bodies that were posted."""

    def run_command(arguments, answers):
        listed = {
            path: answer if isinstance(answer, list) else [answer if isinstance(answer, tuple) else (200, answer)]
            for path, answer in answers.items()
        }
        api = FakeApi(listed)
        answer_commands(monkeypatch, api)
        result = CliRunner().invoke(app, arguments)
        return result, [json.loads(request.content) for request in api.requests if request.method == "POST"]

    return run_command


def test_a_promotion_says_what_served_before(run):
    result, bodies = run(["promote", "churn", "3", "--reason", "better"], {"/models/churn/promote": CHANGE})
    assert bodies == [{"version": 3, "reason": "better", "expected_champion": None}]
    assert result.stdout == "churn: promoted version 3; before: 1\n"


def test_a_promotion_may_name_the_champion_that_was_seen(run):
    arguments = ["promote", "churn", "3", "--reason", "better", "--expected", "1"]
    assert run(arguments, {"/models/churn/promote": CHANGE})[1][0]["expected_champion"] == 1


def test_a_promotion_that_changes_nothing_says_so(run):
    answers = {"/models/churn/promote": {**CHANGE, "outcome": "already"}}
    result, _ = run(["promote", "churn", "3", "--reason", "x"], answers)
    assert "is the champion already" in result.stdout


def test_a_conflict_shows_the_message_of_the_api(run):
    refusal = {"error_code": "RESOURCE_CONFLICT", "message": "the champion of 'churn' is version 4 now"}
    result, _ = run(["promote", "churn", "3", "--reason", "x"], {"/models/churn/promote": (409, refusal)})
    assert result.exit_code == 1
    assert "is version 4 now" in result.stderr


def test_nobody_changes_anything_without_a_reason(run):
    for arguments in (["promote", "churn", "3"], ["rollback", "churn"], ["retire", "churn", "1"]):
        result, bodies = run(arguments, {})
        assert (result.exit_code, bodies) == (2, [])


def test_a_rollback_names_the_champion_it_goes_back_from(run):
    answers = {
        "/models/churn": {"model": "churn", "aliases": {"champion": 3}},
        "/models/churn/rollback": {**CHANGE, "outcome": "rolled_back", "to_version": 1, "from_version": 3}
        | {"passed_over": ["version 2 of 'churn' is retired"]},
    }
    result, bodies = run(["rollback", "churn", "--reason", "complaints"], answers)
    assert bodies == [{"to": None, "reason": "complaints", "expected_champion": 3}]
    assert result.stdout == ("churn: rolled back to version 1; before: 3\n  skipped: version 2 of 'churn' is retired\n")


def test_a_version_is_retired(run):
    answers = {"/models/churn/retire": {"model": "churn", "version": 1, "outcome": "retired"}}
    result, bodies = run(["retire", "churn", "1", "--reason", "old"], answers)
    assert bodies == [{"version": 1, "reason": "old"}]
    assert result.stdout == "churn: version 1 is retired\n"


@pytest.mark.parametrize(("command", "decision"), [("approve", "approve"), ("reject", "reject")])
def test_a_decision_is_sent(run, command, decision):
    path = f"/models/churn/runs/{RUN_ID}/approval"
    result, bodies = run([command, "churn", RUN_ID, "--reason", "card read"], {path: ANSWER})
    assert (bodies[0]["decision"], bodies[0]["reason"]) == (decision, "card read")
    assert "churn: version 4 is approved, by ann, 2026-05-03" in result.stdout


def test_a_repeated_decision_names_the_first_decider(run):
    path = f"/models/churn/runs/{RUN_ID}/approval"
    result, _ = run(["approve", "churn", RUN_ID, "--reason", "x"], {path: {**ANSWER, "outcome": "already"}})
    assert "already has this decision, by ann" in result.stdout


def test_what_served_at_a_time_is_shown_with_who_let_it_in(run):
    move = {"occurred_at": "2026-05-03T14:15:00+00:00", "actor": "ann", "reason": "better"}
    document = {"model": "churn", "alias": "champion", "at": "2026-05-04T00:00:00+00:00", "version": VERSION}
    result, _ = run(["history", "churn", "--at", "2026-05-04"], {"/models/churn/history": {**document, "move": move}})
    for words in ("champion at 2026-05-04", "3 (1.1.0)", "ann", "better", RUN_ID, "d1", "roc_auc 0.91"):
        assert words in result.stdout


def test_before_the_first_champion_nothing_served(run):
    document = {"model": "churn", "alias": "champion", "at": "2020-01-01T00:00:00+00:00", "version": None, "move": None}
    result, _ = run(["history", "churn", "--at", "2020-01-01"], {"/models/churn/history": document})
    assert result.stdout.strip() == "churn, champion at 2020-01-01T00:00:00+00:00: none"


def test_json_output_is_the_response(run):
    result, _ = run(["promote", "churn", "3", "--reason", "x", "--json"], {"/models/churn/promote": CHANGE})
    assert json.loads(result.stdout) == CHANGE


COLLECTION = {
    "model": "churn",
    "dry_run": False,
    "versions": [1],
    "runs": ["r1"],
    "objects": 5,
    "size": 2_000_000,
    "is_complete": True,
}


def test_garbage_is_collected_until_nothing_is_left(run):
    first = {**COLLECTION, "versions": [1, 2], "runs": [], "is_complete": False}
    answers = {"/models/churn/gc": [(200, first), (200, COLLECTION)]}
    result, bodies = run(["gc", "churn"], answers)
    assert bodies == [{"dry_run": False, "reason": "requested by hand"}] * 2
    assert result.stdout == "churn: deleted 10 objects, 4.0 MB\n  versions: 1, 2\n  runs: r1\n"


def test_a_dry_run_sends_one_request(run):
    dry = {**COLLECTION, "dry_run": True, "is_complete": False}
    result, bodies = run(["gc", "churn", "--dry-run"], {"/models/churn/gc": dry})
    assert [body["dry_run"] for body in bodies] == [True]
    assert "would delete at least 5 objects" in result.stdout


_INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "botocore":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["millrace", "models"]
from millrace_cli.entry import run
run()
"""


def test_ctrl_c_while_the_program_is_being_loaded_is_no_traceback():
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IMPORT], capture_output=True, text=True, check=False, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")


VERIFIED = {"model": "churn", "entries": 12, "before_the_chain": 0, "faults": [], "is_intact": True}


def test_history_verifies_the_ledger(run):
    result, _ = run(["history", "churn", "--verify"], {"/models/churn/ledger/verification": VERIFIED})
    assert (result.exit_code, result.stdout) == (0, "churn: the ledger is intact\n  entries in the chain: 12\n")


def test_a_ledger_that_is_not_intact_is_a_failure_and_names_the_entry(run):
    fault = {"kind": "changed", "message": "model_promoted of 2026-05-03 14:15:00 UTC is not what was written"}
    document = {**VERIFIED, "before_the_chain": 3, "is_intact": False, "faults": [fault]}
    result, _ = run(["history", "churn", "--verify"], {"/models/churn/ledger/verification": document})
    assert result.exit_code == 1
    assert "not intact" in result.stdout
    assert "changed: model_promoted of 2026-05-03 14:15:00 UTC is not what was written" in result.stdout
    assert "not verified: 3" in result.stdout


def test_without_a_model_every_ledger_is_verified(run):
    answers = {
        "/models": {"models": [{"model": "churn"}]},
        "/models/churn/ledger/verification": VERIFIED,
        "/uploads/refused/verification": {**VERIFIED, "model": "_refused", "entries": 2},
        "/keys/verification": {**VERIFIED, "model": "_keys", "entries": 0},
        "/aliases/verification": {**VERIFIED, "model": "_mlflow", "entries": 0},
    }
    result, _ = run(["history", "--verify"], answers)
    assert result.exit_code == 0
    for name in ("churn", "refused uploads", "API keys"):
        assert f"{name}: the ledger is intact" in result.stdout

    fault = {"kind": "missing", "message": "entry 2 of the chain is missing"}
    broken = {**answers["/uploads/refused/verification"], "is_intact": False, "faults": [fault]}
    result, _ = run(["history", "--verify", "--json"], {**answers, "/uploads/refused/verification": broken})
    assert (result.exit_code, json.loads(result.stdout)["is_intact"]) == (1, False)


def test_history_names_a_model_or_verifies(run):
    result, _ = run(["history"], {})
    assert (result.exit_code, "name a model" in result.stderr) == (2, True)
