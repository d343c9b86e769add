"""Help of the command line: panels, and the language of commands, options and arguments."""

import ast
import errno
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import millrace_cli
import pytest
from millrace_cli import options
from millrace_cli.main import PANELS, app
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi

#: First words of the commands' help.
VERBS = re.compile(
    "(Abort|Approve|Compare|Convert|Create|Delete|Demonstrate|Explain|Inspect|List|Pause|Print|Promote|Reject|Release|Replace|Replay|Report|Reproduce|Request|Resume|Retire|Revoke"
    r"|Roll|Run|Score|Send|Show|Start|Stop|Train|Upload|Write)\b"
)
#: Words that the field does not use for these things.
BANNED = re.compile(
    r"\b(told|tells?|mends?|moments?|answers?|asked|asks|became|words|living|set aside|looks?|judged?|strange)\b",
    re.IGNORECASE,
)
ROOT = get_command(app)
SOURCES = sorted(Path(millrace_cli.__file__).parent.rglob("*.py"))


def walk(command, path=()) -> Iterator[tuple[str, object]]:
    """Yield every command and group below ``command`` with its path."""
    for name, child in getattr(command, "commands", {}).items():
        yield " ".join((*path, name)), child
        yield from walk(child, (*path, name))


COMMANDS = dict(walk(ROOT))


def test_every_command_is_in_exactly_one_panel():
    listed = Counter(name for commands in PANELS.values() for name in commands)
    assert set(listed.values()) == {1}
    assert set(listed) == set(ROOT.commands)


def test_the_help_shows_the_panels_in_order():
    text = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).output
    assert re.findall(r"^╭─ (.+?) ─+╮$", text, re.M) == ["Options", *PANELS]
    for commands in PANELS.values():
        for name in commands:
            assert re.search(rf"^│ {name} +\w", text, re.M), name


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_a_command_begins_with_a_verb(path):
    text = COMMANDS[path].help
    assert VERBS.match(text), text
    assert BANNED.search(text) is None, text


@pytest.mark.parametrize("path", ["", *COMMANDS])
def test_every_option_and_argument_has_help(path):
    for parameter in (COMMANDS[path] if path else ROOT).params:
        if parameter.name in ("install_completion", "show_completion"):
            continue
        text = parameter.help or ""
        assert re.match(r"[A-Z].*\.$", text, re.S), f"{path} {parameter.name}: {text!r}"
        assert BANNED.search(text) is None, f"{path} {parameter.name}: {text!r}"


def test_a_command_passes_its_stack_options_on(monkeypatch):
    requested = []
    monkeypatch.setattr(options, "find_target", lambda *names: requested.append(names))
    monkeypatch.setattr(
        options.ApiClient, "for_target", lambda _: FakeApi({"/models": [(200, {"models": []})]}).client()
    )
    arguments = ["models", "--profile", "p", "--stack", "s", "--region", "r", "--json"]
    assert CliRunner().invoke(app, arguments).stdout == '{\n  "models": []\n}\n'
    assert requested == [("p", "s", "r")]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("path", ["", *COMMANDS])
def test_the_help_fits_the_terminal(path, columns):
    result = CliRunner().invoke(app, [*path.split(), "--help"], env={"COLUMNS": str(columns)})
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= columns


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_messages_and_docstrings_use_the_terms_of_the_field(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        # Strings without a space are keys of documents, whose names are not this package's.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            assert BANNED.search(node.value) is None, f"line {node.lineno}: {node.value}"


def test_a_reader_that_has_enough_ends_the_command_quietly(monkeypatch):
    def write_to_a_closed_pipe(*_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(TyperGroup, "invoke", write_to_a_closed_pipe)

    result = CliRunner().invoke(app, ["models"])

    assert (result.exit_code, result.stderr) == (1, "")
