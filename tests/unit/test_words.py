"""The words of the code and the pages are the field's (glossary: ``CONTRIBUTING.md``).

``words_exceptions.txt`` lists the places that still offend, one ``path::qualname::rule`` a line. It may only shrink:
an entry that no longer offends fails. ``python tests/unit/test_words.py`` deletes such entries and adds none.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from millrace_cli.main import app
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
EXCEPTIONS = Path(__file__).with_name("words_exceptions.txt")
SOURCES = sorted(
    path
    for pattern in ("shared/millrace/**/*.py", "cli/millrace_cli/**/*.py", "functions/*/app.py")
    for path in ROOT.glob(pattern)
)
#: Qualified name, rule, advice.
Offence: TypeAlias = tuple[str, str, str]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: First words of a summary line that describe a thing instead of naming it.
OPENINGS = {"what", "how", "which", "whether", "where", "who", "something", "everything", "when", "why"}

#: Banned in identifiers, in snake case and between underscores: pattern, then the field's term.
NAMES = {
    "sketch(es|ed)?": "histogram, profile",
    "(?<!csv_)dialects?": "protocol",
    "told|tells?": "report, expose, message",
    "moments?": "timestamp",
    "aside": "quarantine, reject",
    "words?": "strings, categories, tokens, message",
    "answer(s|ed)?": "prediction, response, decision",
    "cells?": "bins, values",
    "looks?(?!_(ups?|back|ahead|like)(_|$))": "monitoring run",
    "mend(s|ed|ing)?": "fix",
    "sides": "splits",
    "living": "lifecycle",
    "insist": "ensure_",
    "settle(s|d)?(?!_hours)|settling": "assign, reconcile",
    "examin(e|es|ed|ing|ation|ations)": "validate, ValidationResult, analysis",
    "judge(s|d)?|judging|judgements?": "validate, evaluate",
    "blames?": "reject reason",
    "excuse(s|d)?": "suppress",
    "strange": "unseen categories",
    "likelihoods?": "p_value",
    "narrow(s|ed|ing)?": "override",
    "understand": "parse",
    "bench": "validation context",
    "watchbook|^watch$": "incident history, monitor rule",
    "troubles?": "finding",
    "seasons?": "seasonality",
    "usuals?": "daily range, baseline",
    "acts?|acting": "registry transaction, audit context",
    "tally|tallies": "count",
    "intake": "ingest",
    "careful": "csv-module fallback",
    "^called$": "predicted",
    "course": "timeline",
    "pictures?": "chart",
}

#: Banned in prose: pattern, then the field's term.
PHRASES = {
    "told|tells?|telling": "report, state, show",
    "(is|are|was|were|be|been|being) asked|asked for": "request",
    "bec(a|o)me true": "ground truth",
    "mend(s|ed|ing)?": "fix",
    "moments?": "timestamp, time",
    "(set|sets|setting|put) aside|set \\w+ aside": "quarantine, reject",
    "answer(s|ed|ing)?": "prediction, response; to return, to respond",
    "sketch(es|ed)?": "histogram, profile",
    "dialects?": "protocol",
    "looks?(?! ?-?up)|looked|looking": "monitoring run; to read, to check",
    "strange(r|rs)?": "unseen",
    "excuse(s|d)?": "suppress",
    "blame(s|d)?": "reason",
    "likelihoods?": "p-value",
    "insist(s|ed)?": "ensure, require",
    "examin(e|es|ed|ing|ation|ations)": "validate, analyse",
    "judge(s|d)?|judging": "validate, evaluate",
}

#: Banned in docstring summaries besides the phrases.
SUMMARY_PHRASES = PHRASES | {
    "words?": "strings, categories, tokens, message",
    "cells?": "bins, values",
    "living": "lifecycle",
    "settle(s|d)?|settling": "assign, reconcile",
    "narrow(s|ed|ing)?": "override",
    "sides": "splits",
}


def _offences_of_name(name: str) -> Iterator[tuple[str, str]]:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().strip("_")
    for pattern, term in NAMES.items():
        found = re.search(f"(?:^|(?<=_))(?:{pattern})(?=_|$)", snake)
        if found:
            yield f"name:{found.group()}", f"say {term}"


def _offences_of_prose(text: str, phrases: dict[str, str], kind: str) -> Iterator[tuple[str, str]]:
    for pattern, term in phrases.items():
        for found in re.finditer(rf"(?<![\w`-])(?:{pattern})\b", text, re.IGNORECASE):
            context = text[max(0, found.start() - 40) : found.end() + 40]
            yield f"{kind}:{found.group().lower()}", f"say {term}: {context!r}"


def _offences_of_summary(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    docstring = ast.get_docstring(node)
    if not docstring:
        yield "summary:missing", "write a docstring"
        return
    summary = docstring.split("\n\n")[0].replace("\n", " ")
    opening = re.match(r"\w*", summary)
    if opening and opening.group().lower() in OPENINGS:
        yield f"summary:opens-with-{opening.group().lower()}", f"begin with a verb or a noun: {summary!r}"
    yield from _offences_of_prose(summary, SUMMARY_PHRASES, "summary")


def _is_public(node: ast.ClassDef | ast.FunctionDef) -> bool:
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    return not node.name.startswith("_") and not decorators & {"overload", "setter", "override"}


def _name_of(node: ast.AST) -> str | None:
    """Return the name that ``node`` itself defines, if it defines one."""
    match node:
        case ast.FunctionDef() | ast.ClassDef():
            return node.name
        case ast.arg():
            return node.arg
        case ast.Name(ctx=ast.Store()):
            return node.id
        case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
            return node.attr
    return None


def _offences_of_node(node: ast.AST, qualname: str, *, public: bool) -> Iterator[Offence]:
    """Offences of the names that the children of ``node`` define, and of the summaries of public ones."""
    for child in ast.iter_child_nodes(node):
        name, inner, shown = _name_of(child), qualname, public
        place = f"{qualname}.{name}".lstrip(".")
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner, shown = place, public and _is_public(child)
            if shown:
                yield from ((place, *offence) for offence in _offences_of_summary(child))
            shown = shown and isinstance(child, ast.ClassDef)  # what a function defines inside is its own
        if name:
            yield from ((place, *offence) for offence in _offences_of_name(name))
        yield from _offences_of_node(child, inner, public=shown)


def _offences_of_source(path: Path) -> Iterator[Offence]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    name = path.parent.name if path.stem in {"__init__", "app"} else path.stem
    yield from (("", *offence) for offence in _offences_of_name(name))
    yield from (("", *offence) for offence in _offences_of_summary(module))
    yield from _offences_of_node(module, "", public=True)


def _offences_of_page(path: Path) -> Iterator[Offence]:
    prose = re.sub(r"```.*?```|`[^`\n]*`", "``", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    yield from (("", *offence) for offence in _offences_of_prose(prose, PHRASES, "prose"))


def _offences_of_help(name: str, command: Any) -> Iterator[Offence]:
    """Offences of the help texts of a command, its parameters and its subcommands."""
    for text in (command.help, command.epilog, *(getattr(parameter, "help", None) for parameter in command.params)):
        yield from ((name, *offence) for offence in _offences_of_prose(text or "", PHRASES, "help"))
    for child, subcommand in getattr(command, "commands", {}).items():
        yield from _offences_of_help(f"{name} {child}", subcommand)


def find_offences() -> dict[str, str]:
    """Return the advice on every offence by its ``path::qualname::rule``."""
    offences: dict[str, str] = {}
    for paths, find in ((SOURCES, _offences_of_source), (PAGES, _offences_of_page)):
        for path in paths:
            where = path.relative_to(ROOT).as_posix()
            offences |= {f"{where}::{place}::{rule}": advice for place, rule, advice in find(path)}
    help_texts = _offences_of_help("millrace", get_command(app))
    return offences | {f"cli::{place}::{rule}": advice for place, rule, advice in help_texts}


def read_exceptions() -> list[str]:
    return EXCEPTIONS.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def offences() -> dict[str, str]:
    return find_offences()


def test_names_summaries_pages_and_help_use_the_fields_words(offences):
    excepted = set(read_exceptions())
    found = [f"{place}  ({advice})" for place, advice in offences.items() if place not in excepted]
    assert not found, "not the field's words (glossary: CONTRIBUTING.md):\n" + "\n".join(found)


def test_every_exception_still_offends(offences):
    stale = [entry for entry in read_exceptions() if entry not in offences]
    assert not stale, "delete these lines of words_exceptions.txt:\n" + "\n".join(stale)


def test_exceptions_are_sorted_and_unique():
    assert read_exceptions() == sorted(set(read_exceptions()))


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        ("def f(): 'Whether it is.'", "summary:opens-with-whether"),
        ("class C:\n  'Thing.'\n  def m(self): 'How it goes.'", "summary:opens-with-how"),
        ("def f(): pass", "summary:missing"),
        ("def f(): 'Return the rows set aside.'", "summary:set aside"),
        ("def f(): 'Return p.\\n\\nWhat it is.'", None),
        ("def _f(): pass", None),
        ("def f():\n  'Return.'\n  def inner(): pass", None),
        ("class AnswerSketch: 'Histogram.'", "name:sketch"),
        ("def f(moment): 'Return.'", "name:moment"),
        ("def _f():\n  for cell in (): pass", "name:cell"),
        ("def look_up(): 'Return.'", None),
        ("def f(): 'Return what `told` says.'", None),
    ],
)
def test_an_offence_is_found(source, rule):
    rules = {rule for _, rule, _ in _offences_of_node(ast.parse(source), "", public=True)}
    assert rule in rules if rule else not rules


if __name__ == "__main__":
    kept = sorted(set(read_exceptions()) & set(find_offences()))
    EXCEPTIONS.write_text("".join(f"{entry}\n" for entry in kept), encoding="utf-8")
