"""Every command that a message names is one that the command line accepts, and it stays on one line."""

import ast
import io
import re
import shlex
from pathlib import Path

import millrace
import pytest
from millrace_cli.main import app
from millrace_cli.output import UncroppedConsole, show_error
from millrace_cli.run_report import evaluation_lines
from rich.console import Group
from typer.main import get_command

from tests.unit.cli.test_help import SOURCES

ROOT = get_command(app)
#: From the program's name to the end of the command: the command line's own separators and sentences end it.
COMMAND = re.compile(r"millrace (?:--\w+ )?[a-z][^;`\n,()]*")
#: What stands for a value that is known only when the message is printed.
VALUE = "1"


def texts(path):
    """Yield the strings of a source file; a value in an f-string is :data:`VALUE`."""
    source = path.read_text(encoding="utf-8")
    if "millrace " not in source:  # most files: parsing takes every process of the tests seconds
        return
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part != node
    }
    passed_over = documentation | inside
    for node in ast.walk(tree):
        if id(node) in passed_over:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)


#: The library's refusals, alerts and pages name commands too.
LIBRARY = sorted(Path(millrace.__file__).parent.rglob("*.py"))


def commands():
    for path in [*SOURCES, *LIBRARY]:
        for text in texts(path):
            for found in COMMAND.findall(text.replace("{model}", VALUE).replace('"..."', VALUE)):
                command = re.split(
                    r" (?:&&|-->|and|or|to|deletes|in|for|with|accepts) |[.:]( |$)|\s{2,}|\.\.\.", found
                )[0]
                yield pytest.param(command.strip().rstrip("."), id=f"{path.stem}: {command}")


COMMANDS = list(commands())


def parse(command):
    """Parse a command as a shell and Typer do; raises on an unknown command or option, and on missing arguments."""
    current, context = ROOT, None
    arguments = [argument for argument in shlex.split(command)[1:] if argument != "--debug"]
    while hasattr(current, "commands"):
        context = type(ROOT).context_class(current, info_name=current.name, parent=context)
        _, found, arguments = current.resolve_command(context, arguments)
        current = found
    current.make_context(current.name, list(arguments), parent=context)


def test_there_are_remedies():
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", COMMANDS)
def test_a_remedy_is_a_command(command):
    parse(command)


@pytest.mark.parametrize("command", ["millrace trian churn x.csv", "millrace predict", "millrace card churn --rum 1"])
def test_the_parser_finds_what_is_no_command(command):
    with pytest.raises(Exception) as caught:  # noqa: PT011  # Typer's usage errors have no public class
        parse(command)
    assert hasattr(caught.value, "format_message")


def test_a_command_is_never_broken_over_lines(monkeypatch):
    command = "millrace train a-model-with-a-long-name 'a folder/with a table.csv' --target churned --schema replace"
    console = UncroppedConsole(file=io.StringIO(), width=40)
    monkeypatch.setattr("millrace_cli.output.err", console)

    show_error("wrong", command)
    model, run = "a-model-with-a-long-name", "20260503T141500-0f3a9c2b7d1e"
    console.print(Group(*evaluation_lines(model, run, {"fit": {"verdict": "sound", "explanation": "so " * 30}})))

    lines = console.file.getvalue().splitlines()
    assert f"  fix: {command}" in lines
    assert f"full evaluation: millrace card {model} --run {run}" in [line.rstrip() for line in lines]


def test_the_coverage_of_intervals_is_a_line_with_the_least_covered_group():
    console = UncroppedConsole(file=io.StringIO(), width=200)
    covered = {"value": 0.912, "low": 0.886, "high": 0.933}
    part = {"level": 0.9, "rows": 500, "covered": covered, "size": 142.2}
    group = part | {"kind": "prediction", "name": "lowest third", "rows": 160, "covered": covered | {"value": 0.86}}
    intervals = {"rows": 300, "levels": [part | {"level": 0.8}, part], "groups": [part | {"name": "other"}, group]}
    for task, thing, size in (
        ("regression", "intervals", "142.2 wide"),
        ("binary", "prediction sets", "142.2 classes"),
    ):
        console.print(Group(*evaluation_lines("m", "r", {"task": task, "prediction_intervals": intervals})))
        line = f"{thing} of 0.9 cover: 91.2% of the holdout (88.6% to 93.3%), {size} on average; "
        assert f"{line}least of lowest third: 86.0% of 160 rows" in console.file.getvalue()
    assert evaluation_lines("m", "r", {"task": "binary", "prediction_intervals": None}) == []


def test_what_a_calibration_brought_is_a_line():
    effect = {"raw_log_loss": 0.42, "log_loss": 0.37, "raw_expected_error": 0.081, "expected_error": 0.038}
    (line, _) = evaluation_lines("m", "r", {"probability_calibration": {"method": "beta", "holdout": effect}})
    expected = "beta: on the holdout log loss 0.37 instead of 0.42, expected calibration error 0.038 instead of 0.081"
    assert line.plain == f"calibrated probabilities: {expected}"
    assert evaluation_lines("m", "r", {"probability_calibration": {"method": "none", "holdout": None}}) == []
