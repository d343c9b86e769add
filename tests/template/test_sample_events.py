"""The sample events: every one loads, and shows each function what it takes and what it refuses."""

import json

import pytest

from tests.template.template_file import ROOT, function_folder, functions

EVENTS = sorted((ROOT / "events").glob("*/*"))
FUNCTION_FOLDERS = sorted(function_folder(properties) for properties in functions().values())


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_event_loads_and_belongs_to_a_function(path):
    assert path.suffix == ".json"
    assert path.parent.name in FUNCTION_FOLDERS
    assert path.stem.startswith(("valid", "refused"))
    assert isinstance(json.loads(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("folder", FUNCTION_FOLDERS)
@pytest.mark.parametrize("kind", ["valid", "refused"])
def test_every_function_has_an_example(folder, kind):
    assert list((ROOT / "events" / folder).glob(f"{kind}*.json"))


def test_no_sample_event_holds_a_real_account():
    for path in EVENTS:
        text = path.read_text(encoding="utf-8")
        assert "AKIA" not in text, path.name
        assert "ASIA" not in text, path.name
