"""Commands with wrong names and files: one sentence and exit code 2, nothing on standard output, and no request."""

import pytest
from millrace_cli.main import app
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", OF_A_MODEL, ids=" ".join)
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
