"""The program starts without what its command does not need."""

import json
import subprocess
import sys

import pytest
from millrace_cli.main import COMMANDS, PANELS

LIST_MODULES = """
import json, sys
from millrace_cli.entry import run
try:
    run()
except SystemExit:
    pass
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(("panel", "name"), [(panel, name) for panel, names in PANELS.items() for name in names])
def test_the_help_lists_what_a_command_says_of_itself(panel, name):
    command = COMMANDS[name]
    assert command.help.split("\n\n")[0].replace("\n", " ") == PANELS[panel][name].help
    assert (command.name, command.rich_help_panel) == (name, panel)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--no-such-option"]])
def test_no_command_is_imported_for_the_help(arguments):
    finished = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, *arguments],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(json.loads(finished.stdout.splitlines()[-1]))
    assert not loaded & {"botocore", "boto3", "httpx", "numpy", "pydantic", "millrace_cli.commands"}


def test_a_command_that_calls_the_api_needs_no_library_of_its_own_for_that():
    finished = subprocess.run(
        [sys.executable, "-c", LIST_MODULES, "models", "--region", "eu-west-1"],
        env={"PYTHONPATH": ":".join(sys.path), "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
        | {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot reach AWS" in finished.stderr
    loaded = set(json.loads(finished.stdout.splitlines()[-1]))
    assert {"urllib3", "millrace_cli.http_client"} <= loaded
    assert not loaded & {"boto3", "httpx", "requests", "numpy"}


def test_an_unknown_command_is_no_command():
    assert "no-such-command" not in COMMANDS
    assert COMMANDS.get("no-such-command") is None
    assert len(COMMANDS) == sum(map(len, PANELS.values()))
