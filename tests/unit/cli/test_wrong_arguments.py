"""Commands with wrong names and files: one sentence and exit code 2, nothing on standard output, and no request."""

import httpx
import pytest
from millrace_cli.main import app
from typer.main import get_command
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

NAMES = ["", "..", "../keys", "churn/versions", "churn?x=1", "_keys", "a b", "x" * 64, "\N{SNOWMAN}"]
OF_A_MODEL = [
    ["models", "{}"],
    ["history", "{}"],
    ["runs", "{}"],
    ["runs", "show", "r", "--model", "{}"],
    ["promote", "{}", "1", "--reason", "x"],
    ["delete", "{}", "--reason", "x", "--yes"],
    ["card", "{}"],
    ["why", "{}"],
    ["data", "list", "{}"],
    ["spec", "show", "{}"],
    ["feedback", "{}"],
    ["monitor", "{}"],
]


def run(monkeypatch, arguments):
    api = FakeApi({})
    answer_commands(monkeypatch, api)
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout, api.requests) == (2, "", []), result.output
    return result.stderr


@pytest.mark.parametrize(
    ("command", "name"),
    [(OF_A_MODEL[0], name) for name in NAMES] + [(command, "../keys") for command in OF_A_MODEL[1:]],
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_what_no_model_can_be_called_is_refused_before_it_is_sent(monkeypatch, command, name):
    assert "cannot be a model name" in run(monkeypatch, [part.format(name) for part in command])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["spec", "apply", "churn", "{}/none.yaml"], "none.yaml: no such file or directory"),
        (["spec", "apply", "churn", "{}"], "is a directory"),
        (["spec", "apply", "churn", "{}/file/none.yaml"], "none.yaml: not a directory"),
        (["predict", "churn", "{}"], "is a folder"),
        (["predict", "churn", "{}/none.csv"], "neither a file nor JSON"),
        (["feedback", "churn", "{}"], "is a folder"),
        (["feedback", "churn", "{}/none.csv"], "does not exist"),
        (["train", "churn", "{}/none.csv"], "does not exist"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(monkeypatch, tmp_path, arguments, message):
    (tmp_path / "file").write_text("x")
    said = run(monkeypatch, [argument.format(tmp_path) for argument in arguments])
    assert message in said
    assert "unexpected" not in said


def test_a_file_without_permission_is_one_sentence(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "spec.yaml"))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    (tmp_path / "spec.yaml").write_bytes(b"{}")
    said = run(monkeypatch, ["spec", "apply", "churn", str(tmp_path / "spec.yaml")])
    assert "spec.yaml: permission denied" in said
    assert "check the path and its permissions" in said


def leaves(command, path=()):
    """Yield every command that takes ``--json``, with its path."""
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if any("--json" in parameter.opts for parameter in command.params):
        yield path, command


JSON_COMMANDS = [
    pytest.param(path, command, id=" ".join(path))
    for path, command in leaves(get_command(app))
    if path != ("runs", "reproduce")  # which imports scikit-learn first
]


def test_most_commands_write_json():
    assert len(JSON_COMMANDS) > 25


@pytest.mark.parametrize(("path", "command"), JSON_COMMANDS)
@pytest.mark.parametrize("status", [400, 500])
def test_with_json_an_error_leaves_standard_output_empty(monkeypatch, tmp_path, path, command, status):
    """Whoever parses the output finds a whole document or nothing, and the reason on standard error."""
    (tmp_path / "table.csv").write_text("age,churned\n1,yes\n")
    arguments = [*path, "--json"]
    for parameter in command.params:
        if parameter.required:
            value = str(tmp_path / "table.csv") if parameter.metavar == "FILE" else "1"
            arguments += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]

    class FailingApi(FakeApi):
        def __call__(self, request):
            return httpx.Response(status, json={"error_code": "X", "message": "no", "fields": []})

    answer_commands(monkeypatch, FailingApi({}))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code in (1, 2), result.output
    assert (result.stdout, bool(result.stderr)) == ("", True)
