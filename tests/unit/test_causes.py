"""One record a kind of cause: lists are derived from it, and each has its place in the template and in the docs."""

import re
from pathlib import Path

import pytest
from millrace.causes import AUTOMATIC_CAUSES, CAUSE_OF_EVENT, CAUSES, DEFAULT_CAUSES
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec

ROOT = Path(__file__).resolve().parents[2]


def test_the_lists_are_derived():
    assert set(AUTOMATIC_CAUSES) == {name for name, kind in CAUSES.items() if not kind.is_always_followed}
    assert set(DEFAULT_CAUSES) < set(AUTOMATIC_CAUSES)
    assert {kind.name for kind in CAUSE_OF_EVENT.values()} == {name for name, kind in CAUSES.items() if kind.is_finding}


@pytest.mark.parametrize("name", AUTOMATIC_CAUSES)
def test_a_spec_takes_every_automatic_cause(name):
    assert ModelSpec.parse({"retraining": {"causes": [name]}}).retraining.causes == (name,)


@pytest.mark.parametrize("name", ["upload", "manual", "boredom"])
def test_a_spec_takes_no_other(name):
    with pytest.raises(InvalidInputError, match="choose from schedule, drift, quality, staleness, latency"):
        ModelSpec.parse({"retraining": {"causes": [name]}})


@pytest.mark.parametrize("name", CAUSES)
def test_the_docs_have_a_row(name):
    kind = CAUSES[name]
    page = (ROOT / "docs" / "spec.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    _, _, label, event, always, default, cooldown, _ = (cell.strip() for cell in row.split("|"))
    assert label == kind.label
    assert event == (f"`{kind.event}`" if kind.event else "-")
    assert always == ("yes" if kind.is_always_followed else "no")
    assert default == ("yes" if kind.is_always_followed or kind.is_default else "no")
    assert cooldown == ("yes" if kind.is_finding else "no")


def test_the_stack_starts_runs_on_every_finding():
    """The end of an incident starts none: the same function writes it into the ledger."""
    template = (ROOT / "template.yaml").read_text()
    (events,) = re.findall(r"detail-type: \[(DriftDetected[^\]]*)\]", template)
    assert {event.strip() for event in events.split(",")} == {*CAUSE_OF_EVENT, "IncidentResolved"}


def test_nothing_else_names_the_kinds():
    """A second list would be a second place to change."""
    names = "|".join(CAUSES)
    second_list = re.compile(rf'"(?:{names})"(?:,\s*|: )"?(?:{names})"')
    for path in sorted((ROOT / "shared" / "millrace").rglob("*.py")):
        if path.name != "causes.py":
            assert not second_list.search(path.read_text()), path


@pytest.mark.parametrize(
    ("event", "subjects", "is_refused"),
    [
        ("ServingDegraded", ["latency", "errors"], False),
        ("ServingDegraded", ["errors"], True),
        ("ServingDegraded", [], False),
        ("DriftDetected", ["age"], False),
    ],
)
def test_a_finding_that_retraining_does_not_fix_is_refused(event, subjects, is_refused):
    assert bool(CAUSE_OF_EVENT[event].refusal(subjects)) == is_refused
