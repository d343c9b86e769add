import errno
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from millrace.triggers.trigger_events import parse_event
from millrace_cli.api import ApiClient
from millrace_cli.aws_session import key_session
from millrace_cli.commands.local import end_interrupted_runs
from millrace_cli.errors import CliError
from millrace_cli.local import deploy, ministack, process, stack
from millrace_cli.local.deploy import fingerprint, stack_name
from millrace_cli.local.kept import KeptState
from millrace_cli.local.ministack import choose_port, clean_environment
from millrace_cli.local.process import LOCAL_DIR_VARIABLE, is_running, start_time, stop_processes
from millrace_cli.local.project import LocalState, Project, read_state, state_path, write_state
from millrace_cli.local.stack import down, live_state, up
from millrace_cli.local.tls import make_certificates
from millrace_cli.main import app
from millrace_cli.target import Target, local_api_url, resolve_target
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi
from tests.limits import within

STATE = LocalState(pid=1, started="x", port=4566, stack="millrace-local", authority="/ca.pem", secret_access_key="s")


def test_the_state_survives_and_is_private(tmp_path):
    write_state(tmp_path, STATE)

    assert read_state(tmp_path) == STATE
    assert stat.S_IMODE(state_path(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"unknown": 1}'])
def test_a_state_that_cannot_be_read_counts_as_none(tmp_path, text):
    state_path(tmp_path).write_text(text, encoding="utf-8")

    assert read_state(tmp_path) is None


def test_the_fingerprint_follows_names_and_contents_but_not_leftovers(tmp_path):
    (tmp_path / "functions").mkdir()
    source = tmp_path / "functions" / "app.py"
    source.write_text("a", encoding="utf-8")
    first = fingerprint(tmp_path)

    (tmp_path / "functions" / "__pycache__").mkdir()
    (tmp_path / "functions" / "__pycache__" / "app.pyc").write_bytes(b"x")
    assert fingerprint(tmp_path) == first

    source.write_text("b", encoding="utf-8")
    changed = fingerprint(tmp_path)
    source.rename(source.with_name("other.py"))
    assert len({first, changed, fingerprint(tmp_path), fingerprint(tmp_path, ("functions",), "python3.12")}) == 4


def test_a_port_that_is_taken_is_named_and_another_is_found():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]

        with pytest.raises(CliError, match=f"port {port} on 127.0.0.1 is in use"):
            choose_port(port)
        assert choose_port(None) != port


def test_nothing_of_the_users_account_reaches_the_local_stack():
    environment = clean_environment(
        {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "A", "PYTHONPATH": "x", "PATH": "/bin"}
    )

    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environment["PATH"] == "/bin"
    assert not {"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "PYTHONPATH"} & set(environment)


def test_only_processes_with_our_mark_are_ended(tmp_path):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(sleeper, env={**os.environ, LOCAL_DIR_VARIABLE: str(tmp_path)}) as ours,
        subprocess.Popen(sleeper, env={**os.environ, LOCAL_DIR_VARIABLE: f"{tmp_path}-other"}) as other,
    ):
        started = start_time(ours.pid)
        assert is_running(ours.pid, started)
        assert not is_running(ours.pid, "another time")

        assert stop_processes(tmp_path) == 1

        assert not is_running(ours.pid, started)
        assert other.poll() is None
        other.kill()


def test_a_process_that_has_lost_its_environment_is_waited_for_until_it_has_ended(tmp_path, monkeypatch):
    # So does a process look while it exits: it has no environment any more, and has not yet ended.
    exits_slowly = "import signal, time; signal.signal(15, lambda *_: (time.sleep(0.2), exit())); print(flush=True)"
    command = [sys.executable, "-c", f"{exits_slowly}; time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as ours:
        assert ours.stdout is not None
        ours.stdout.readline()
        started = start_time(ours.pid)
        listed = iter([[ours.pid]])
        monkeypatch.setattr(process, "list_processes", lambda _: next(listed, []))

        assert stop_processes(tmp_path) == 1

        assert not is_running(ours.pid, started)


def test_a_server_with_the_certificates_is_trusted_strictly(tmp_path):
    paths = make_certificates(tmp_path, datetime.now(UTC))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(paths.certificate, paths.key)
    client = ssl.create_default_context(cafile=paths.authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server_side = server.wrap_bio(to_server, to_client, server_side=True)

    for _ in range(4):
        for side in (client_side, server_side):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue

    assert client_side.version() is not None
    assert stat.S_IMODE(paths.key.stat().st_mode) == 0o600


def test_the_local_api_is_the_aws_address_behind_the_endpoint():
    url = local_api_url("https://abc123.execute-api.us-east-1.amazonaws.com/v1", "https://127.0.0.1:4566")

    assert url == "https://127.0.0.1:4566/_aws/execute-api/abc123/v1"


@pytest.mark.parametrize("url", ["", "https://example.com/v1", "https://abc.execute-api.us-east-1.amazonaws.com/"])
def test_an_output_that_is_no_api_is_refused(url):
    with pytest.raises(CliError, match="not the URL of a REST API"):
        local_api_url(url, "https://127.0.0.1:4566")


def test_without_options_and_without_a_local_stack_the_way_out_is_named():
    with pytest.raises(CliError) as caught:
        resolve_target(None, None, None, None)

    assert "millrace local up" in caught.value.hint
    assert "--profile" in caught.value.hint


def test_a_stack_that_was_not_deployed_to_is_no_target():
    with pytest.raises(CliError, match="nothing is deployed"):
        resolve_target(None, None, None, STATE)


def test_the_stack_is_called_what_the_configuration_says(tmp_path):
    assert stack_name(Project(tmp_path)) == "millrace"
    (tmp_path / "samconfig.toml").write_text('[local.deploy.parameters]\nstack_name = "other"\n', encoding="utf-8")
    assert stack_name(Project(tmp_path)) == "other"


@pytest.fixture
def busy_stack(tmp_path, monkeypatch):
    """A recorded stack whose process runs and answers nothing, which nothing may start again or stop."""
    project = Project(tmp_path)
    state = LocalState(pid=os.getpid(), started=start_time(os.getpid()), port=1, stack="s", authority="/none.pem")
    write_state(project.local_dir, state)
    monkeypatch.setattr(ministack, "PATIENCE_SECONDS", 0.0)
    return project


def test_a_stack_that_is_too_busy_to_respond_is_not_taken_for_stopped(busy_stack):
    with pytest.raises(CliError, match="did not respond") as caught:
        live_state(busy_stack)

    assert "millrace local down" in caught.value.hint
    assert read_state(busy_stack.local_dir) is not None


def test_a_stack_that_responds_late_is_live(busy_stack, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(ministack, "PATIENCE_SECONDS", 5.0)
    monkeypatch.setattr(ministack, "is_ready", lambda _: next(answers))

    assert live_state(busy_stack) == read_state(busy_stack.local_dir)


def test_a_running_stack_does_not_change_its_port_silently(busy_stack, monkeypatch):
    monkeypatch.setattr(ministack, "is_ready", lambda _: True)
    monkeypatch.setattr(Project, "tool", lambda project, *names: project.root.joinpath(*names))

    with pytest.raises(CliError, match="already running on port 1"):
        up(busy_stack, 4599, print)


def test_a_stack_that_ends_while_it_is_asked_counts_as_stopped(busy_stack, monkeypatch):
    monkeypatch.setattr(ministack, "is_ready", lambda _: False)
    states = iter([True, False, False])
    monkeypatch.setattr("millrace_cli.local.stack.is_running", lambda *_: next(states))

    assert live_state(busy_stack) is None


@pytest.mark.parametrize(
    ("keeps", "fate", "command"),
    [(False, "are lost, as it ran without --keep", "millrace local up"), (True, "is kept", "millrace local up --keep")],
)
def test_a_killed_stack_is_explained_and_its_remedy_fits(tmp_path, monkeypatch, keeps, fate, command):
    project = Project(tmp_path)
    write_state(project.local_dir, STATE.with_changes(keeps=keeps))
    monkeypatch.setattr("millrace_cli.target.find_project", lambda: project)

    with pytest.raises(CliError, match="ended unexpectedly") as caught:
        resolve_target(None, None, None, None)

    assert fate in caught.value.message
    assert f"start it: {command};" in caught.value.hint


def test_a_running_stack_that_does_not_keep_its_state_says_so(busy_stack, monkeypatch):
    monkeypatch.setattr(ministack, "is_ready", lambda _: True)
    monkeypatch.setattr(Project, "tool", lambda project, *names: project.root.joinpath(*names))

    with pytest.raises(CliError, match="does not keep its state") as caught:
        up(busy_stack, None, print, keep=True)

    assert "millrace local up --keep" in caught.value.hint


def test_commands_at_the_same_time_wait_for_each_other(tmp_path):
    project, order, reports = Project(tmp_path), [], []
    entered, release = threading.Event(), threading.Event()

    def hold():
        with stack._lock(project, reports.append):
            entered.set()
            assert release.wait(60)
            order.append("first")

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(60)
    waiter = threading.Thread(target=lambda: down(project, report=reports.append))
    waiter.start()
    for _ in within(60, pause=0.01):
        if reports:
            break
    release.set()
    for thread in (holder, waiter):
        thread.join(60)

    assert reports == ["wait for another command that starts or stops the local stack"]
    assert order == ["first"]


@pytest.mark.parametrize(
    ("number", "texts"),
    [
        (errno.ENOSPC, ("is full", "free some space: df -h")),
        (errno.EDQUOT, ("is full", "free some space: df -h")),
        (errno.EROFS, ("cannot be written", "chmod -R u+w")),
        (errno.EACCES, ("cannot be written", "chmod -R u+w")),
    ],
)
@pytest.mark.parametrize("name", ["_up", "_stop"])
def test_a_full_or_read_only_disk_is_named_with_its_remedy(tmp_path, monkeypatch, name, number, texts):
    def fail(*_):
        raise OSError(number, os.strerror(number), "/x/state.json")

    monkeypatch.setattr(stack, name, fail)

    message, remedy = texts

    with pytest.raises(CliError, match=message) as caught:
        up(Project(tmp_path), None, print) if name == "_up" else down(Project(tmp_path))

    assert "/x/state.json" in caught.value.message
    assert remedy in caught.value.hint


def test_a_tool_that_fails_on_a_full_disk_says_so(tmp_path):
    project = Project(tmp_path)
    project.local_dir.mkdir(parents=True)
    program = [sys.executable, "-c", "raise SystemExit('OSError: [Errno 28] No space left on device')"]

    with pytest.raises(CliError, match="the disk is full"):
        deploy._run(project, "sam-build", program, {})


def test_the_kept_state_is_private_and_can_be_deleted(tmp_path):
    project = Project(tmp_path)
    kept = KeptState.under(project.local_dir)
    assert kept.read() is None

    settings = kept.environment()
    kept.write(STATE)

    assert kept.read() == STATE
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    assert settings["PERSIST_STATE"] == settings["S3_PERSIST"] == "1"
    down(project)
    assert kept.exists
    down(project, delete=True)
    assert not kept.exists


def test_the_environment_is_one_that_a_shell_accepts(monkeypatch):
    target = Target(
        key_session("KEY", "secret/+'", "us-east-1"),
        "s",
        {"ApiUrl": "https://a.execute-api.us-east-1.amazonaws.com/v1", "DataBucketName": "data"},
        "https://127.0.0.1:4566",
        "/a folder/authority.pem",
    )
    monkeypatch.setattr("millrace_cli.commands.local._require_running", lambda *_: STATE)
    monkeypatch.setattr("millrace_cli.commands.local.local_target", lambda _: target)

    printed = CliRunner().invoke(app, ["local", "env"]).stdout
    shell = subprocess.run(
        ["/bin/sh", "-euc", f'{printed}\nprintf "%s|%s|%s" "$API_URL" "$AWS_SECRET_ACCESS_KEY" "$CURL_CA_BUNDLE"'],
        env={"AWS_PROFILE": "work", "NO_PROXY": "x"},
        capture_output=True,
        text=True,
        check=True,
    )

    expected = "https://127.0.0.1:4566/_aws/execute-api/a/v1|secret/+'|/a folder/authority.pem"
    assert shell.stdout == expected


def test_a_missing_tool_says_how_to_install_it(tmp_path):
    with pytest.raises(CliError, match="sam is not installed") as caught:
        Project(tmp_path).tool("sam")

    assert "tools" in caught.value.hint


def test_runs_that_were_active_when_the_stack_stopped_are_ended(monkeypatch):
    invoked = []

    class Client:
        def describe_stack_resource(self, **_):
            return {"StackResourceDetail": {"PhysicalResourceId": "request-training"}}

        def invoke(self, **arguments):
            invoked.append(arguments)

    class FakeTarget:
        stack = "s"

        def client(self, _service):
            return Client()

    models = [{"model": "a", "active_run_id": "r1"}, {"model": "b", "active_run_id": None}]
    api = FakeApi({"/models": [(200, {"models": models})]})
    monkeypatch.setattr(ApiClient, "for_target", lambda _: api.client())

    assert end_interrupted_runs(FakeTarget()) == [("a", "r1")]

    (call,) = invoked
    trigger = parse_event(json.loads(call["Payload"]), datetime.now(UTC))
    assert (call["FunctionName"], trigger.model, trigger.run_id) == ("request-training", "a", "r1")
    assert "the local stack was stopped" in trigger.reason


def test_a_process_ends_quietly_while_its_server_runs():
    code = (
        "import subprocess, sys; from millrace_cli.local import ministack; "
        "server = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
        "ministack._servers.append(server); print(server.pid)"
    )
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", code]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=30)
    try:
        assert ended.stderr == ""
        assert is_running(int(ended.stdout), start_time(int(ended.stdout)))
    finally:
        os.kill(int(ended.stdout), signal.SIGKILL)
