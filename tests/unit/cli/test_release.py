"""Requests and output of `millrace release`."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from millrace.releases.driver import TICK
from millrace_cli import release_progress
from millrace_cli.main import app
from millrace_cli.release_progress import EVALUATION_TIME, ReleaseProgress, draw_release
from rich.console import Console
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.unit.reports.documents import full_release

RELEASE = {
    "model": "churn",
    "release_id": "r-20261130T030000-0a1b2c3d",
    "status": "running",
    "baseline": 6,
    "candidate": 7,
    "weight": 0.05,
    "steps": [0.05, 0.25, 0.5],
    "stages": ["serve", "serve", "serve"],
    "stage": 0,
    "stage_since": "2026-11-30T03:00:00+00:00",
    "started_at": "2026-11-30T03:00:00+00:00",
    "started_by": "ada",
    "reason": "new tariff",
    "bake_until": "2026-11-30T04:00:00+00:00",
    "ended_at": None,
    "policy": {"strategy": "canary", "min_requests": 200, "guards": {}},
    "decision": "held at 5 %",
    "is_begun": True,
    "alpha": 0.05,
    "log_e_limit": 4.382,
    "slow_over_ms": 12.5,
    "stage_requests": {"champion": 950, "candidate": 50},
    "guards": [
        {
            "guard": "errors",
            "log_e": 1.2,
            "windows": 5,
            "champion_bad": 3,
            "champion_requests": 950,
            "candidate_bad": 1,
            "candidate_requests": 50,
        }
    ],
}


@pytest.fixture
def run(monkeypatch):
    def run_command(arguments, answers):
        listed = {path: answer if isinstance(answer, list) else [answer] for path, answer in answers.items()}
        api = FakeApi({path: [(200, one) for one in answers] for path, answers in listed.items()})
        answer_commands(monkeypatch, api, SimpleNamespace(poll_seconds=0.0))
        result = CliRunner().invoke(app, ["release", *arguments], env={"COLUMNS": "160"})
        return result, [json.loads(request.content) for request in api.requests if request.method == "POST"]

    return run_command


def test_start_sends_the_steps_and_says_who_serves(run):
    answer = {"outcome": "started", "release": RELEASE}
    arguments = ["start", "churn", "7", "--steps", "5,25,50", "--bake", "2h", "--reason", "new tariff"]
    result, bodies = run(arguments, {"/models/churn/releases": answer})
    assert bodies == [{"version": 7, "reason": "new tariff", "steps": [5, 25, 50], "bake": "2h"}]
    assert "started; version 7 at 5 %, the rest by version 6" in " ".join(result.stdout.split())


def test_start_sends_further_candidates_and_says_what_a_reward_needs(run):
    release = {**RELEASE, "decision": "begun with 67 % of the requests; compares outcomes"}
    arguments = ["start", "churn", "7", "--strategy", "bandit", "--reward", "converted", "--versions", "8,9"]
    result, bodies = run(
        [*arguments, "--reason", "x"], {"/models/churn/releases": {"outcome": "started", "release": release}}
    )
    (body,) = bodies
    assert (body["strategy"], body["reward"], body["versions"]) == ("bandit", "converted", [8, 9])
    assert "compares outcomes" in " ".join(result.stdout.split())
    result, bodies = run(["start", "churn", "7", "--versions", "latest", "--reason", "x"], {})
    assert (result.exit_code, bodies) == (2, [])


def test_steps_that_are_no_numbers_are_refused_with_an_example(run):
    result, bodies = run(["start", "churn", "7", "--steps", "a few", "--reason", "x"], {})
    assert (result.exit_code, bodies) == (2, [])
    assert "--steps 5,25,50" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("action", ["pause", "resume", "promote", "abort"])
def test_a_change_is_one_of_the_active_release(run, action):
    path = f"/models/churn/releases/active/{action}"
    ended = {**RELEASE, "status": "aborted", "decision": "aborted: complaints"}
    result, bodies = run([action, "churn", "--reason", "complaints"], {path: {"outcome": "aborted", "release": ended}})
    assert bodies == [{"reason": "complaints"}]
    assert " ".join(result.stdout.split()).endswith("aborted: complaints")
    assert result.stdout.count("aborted") == 1


def test_show_lists_releases_and_the_evidence_of_the_active_one(run):
    document = {"model": "churn", "releases": [RELEASE], "pending_candidate": {"version": 8, "champion": 6}}
    result, _ = run(["show", "churn"], {"/models/churn/releases": document})
    for part in ("6 -> 7", "errors", "1 of 50", "3 of 950", "version 8 waits"):
        assert part in result.stdout


def test_show_of_a_model_without_releases(run):
    document = {"model": "churn", "releases": [], "pending_candidate": None}
    result, _ = run(["show", "churn"], {"/models/churn/releases": document})
    assert "churn has had no release" in result.stdout


def test_show_of_one_release(run):
    result, _ = run(
        ["show", "churn", RELEASE["release_id"]], {f"/models/churn/releases/{RELEASE['release_id']}": RELEASE}
    )
    assert "● 5 %  ○ 25 %" in result.stdout


NOW = datetime(2026, 11, 30, 3, 26, tzinfo=UTC)
PATH = f"/models/churn/releases/{RELEASE['release_id']}"
COMPLETED = {**RELEASE, "status": "completed", "weight": 1.0, "stage": 2, "ended_at": "2026-11-30T09:00:00+00:00"}


def drawn(release, **terminal):
    console = Console(width=150, **terminal)
    with console.capture() as capture:
        console.print(draw_release(release, NOW))
    return capture.get()


def test_an_active_release_is_drawn_with_what_is_left_of_its_stage():
    text = drawn(RELEASE)
    assert "█░░░░░░░░░░░░░░░░░░░░░░░ 5 % by version 7" in text
    assert "● 5 %  ○ 25 %  ○ 50 %  ○ 100 %" in text
    assert "34 min of its bake left" in text
    assert "██████░░░░░░░░░░░░░░░░░░ 50 of 200 by the candidate, 950 by the champion" in text
    assert "in about 4 min" in text
    assert "███████░░░░░░░░░░░░░░░░░ 1.20 of 4.38" in text


def test_the_time_to_the_next_evaluation_is_that_of_the_schedule():
    assert f"rate({EVALUATION_TIME.total_seconds() / 60:.0f} minutes)" == TICK


def test_a_comparison_of_rewards_is_drawn_with_its_arms():
    release = full_release()
    text = drawn({**RELEASE, **{name: release[name] for name in ("arms", "sampled_keys", "rewards", "replay")}})
    for shown in (
        "4,000 captured rows, 700 with ground truth, the same decision on 91 %, accuracy: gain -0.02 (-0.05 to 0.01)",
        "champion 50 %, candidate 50 %",
        "no stage passes",
        "candidate  41        -",
        "2.50 of 3.69",
    ):
        assert shown in text


def test_a_completed_release_serves_every_request():
    text = drawn(COMPLETED)
    assert f"{'█' * 24} 100 % by version 7" in text
    assert "✓ 5 %  ✓ 25 %  ✓ 50 %  ✓ 100 %" in text
    assert "bake" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "over 12.5 ms"),
        ({"slow_over_ms": None, "is_begun": False}, "the first evaluation sets it"),
        ({"slow_over_ms": None}, "none: the champion had fewer than 100 requests"),
        ({"policy": {**RELEASE["policy"], "guards": {"slow": None}}, "slow_over_ms": None}, "the guard is off"),
    ],
)
def test_a_latency_that_is_not_known_is_said_in_words(changes, said):
    text = drawn({**RELEASE, **changes})
    assert said in text
    assert "- ms" not in text


def test_watch_prints_a_line_a_change_and_ends_with_the_release(run):
    advanced = {**RELEASE, "stage": 1, "weight": 0.25, "decision": "advanced to 25 %"}
    result, bodies = run(
        ["watch", "churn"],
        {"/models/churn/releases": {"releases": [RELEASE]}, PATH: [RELEASE, advanced, advanced, COMPLETED]},
    )
    assert (result.exit_code, bodies) == (0, [])
    first, second, third = result.stdout.splitlines()
    assert "running at 5 %; stage 1 of 3" in first
    assert "guard errors at 1.20 of 4.38; held at 5 %" in first
    assert "advanced to 25 %" in second
    assert "completed at 100 %" in third


def test_watch_of_a_release_that_is_rolled_back_fails(run):
    ended = {**RELEASE, "status": "rolled_back", "weight": 0.0, "ended_at": "2026-11-30T09:00:00+00:00"}
    result, _ = run(["watch", "churn", RELEASE["release_id"], "--json"], {PATH: [RELEASE, RELEASE, ended]})
    assert result.exit_code == 2
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["running", "rolled_back"]


def test_an_interrupted_watch_leaves_the_release_alone(run, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(release_progress.follow_release, "__defaults__", (interrupt,))
    result, bodies = run(["watch", "churn"], {"/models/churn/releases": {"releases": [RELEASE]}})
    assert (result.exit_code, bodies) == (130, [])
    assert "goes on; watch it again: millrace release watch churn" in result.stderr


def test_watch_of_a_model_without_releases_says_how_to_start_one(run):
    result, _ = run(["watch", "churn"], {"/models/churn/releases": {"releases": []}})
    assert result.exit_code == 2
    assert "churn has had no release" in result.stderr


def test_off_a_terminal_a_line_a_minute_shows_that_the_command_is_alive():
    times = [NOW, NOW, NOW.replace(second=30), NOW.replace(minute=28)]
    console = Console(width=200)
    with console.capture() as capture, ReleaseProgress(console, clock=lambda: times.pop(0)) as progress:
        for _ in range(3):
            progress.show(RELEASE)
    assert len(capture.get().splitlines()) == 2


def test_a_terminal_keeps_the_release_that_ended():
    console = Console(width=150, force_terminal=True, color_system=None)
    with console.capture() as capture, ReleaseProgress(console, clock=lambda: NOW) as progress:
        progress.show(RELEASE)
        progress.show(COMPLETED)
    assert "100 % by version 7" in capture.get()


PAGE = {
    **COMPLETED,
    "history": [],
    "changes": [
        {"action": "release_started", "at": RELEASE["started_at"], "actor": "ada", "reason": "x", "weight": None}
    ],
    "changes_complete": True,
}


def test_the_page_of_the_newest_release_is_saved_where_asked(run, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    file = tmp_path / "release.html"
    answers = {"/models/churn/releases": {"releases": [COMPLETED]}, PATH: PAGE}
    result, _ = run(["show", "churn", "--report", str(file)], answers)
    assert (result.exit_code, result.stdout, opened) == (0, "", [])
    assert "release started" in file.read_text()
    result, _ = run(["show", "churn", "--report", str(file), "--browser"], answers)
    assert opened == [file.as_uri()]


def test_a_page_that_cannot_be_written_is_one_sentence(run, tmp_path):
    file = tmp_path / "missing" / "release.html"
    result, _ = run(["show", "churn", RELEASE["release_id"], "--report", str(file)], {PATH: PAGE})
    assert result.exit_code == 2
    assert "cannot be written: No such file or directory" in " ".join(result.stderr.split())
