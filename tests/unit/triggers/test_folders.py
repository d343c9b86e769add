"""Files in a folder wait for its marker, and whoever looks can see that they do."""

from datetime import UTC, datetime

import pytest
from millrace.layout import folder_of_marker, folder_of_part
from millrace.triggers.requests import REFUSED_UPLOADS, handle_trigger
from millrace.triggers.trigger_events import TrainingTrigger, WaitingFile, parse_event

from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, NOW, make_cause, make_entry, make_run


class NoPipeline:
    def start(self, model: str, run_id: str) -> bool:
        raise AssertionError(f"{model}: {run_id} was started")

    def is_running(self, run_id: str) -> bool:
        return False


def uploaded(key: str, version: str = "v1", time: str = "2026-05-03T14:15:00Z") -> dict:
    detail = {"bucket": {"name": "data"}, "object": {"key": key, "version-id": version}}
    return {"source": "aws.s3", "detail-type": "Object Created", "time": time, "detail": detail}


@pytest.mark.parametrize(
    ("key", "part", "marker"),
    [
        ("incoming/churn/may.csv", None, None),
        ("incoming/churn/_SUCCESS", None, None),
        ("incoming/churn/may/part-0.csv", "incoming/churn/may/", None),
        ("incoming/churn/may/b/part-0.csv", "incoming/churn/may/b/", None),
        ("incoming/churn/may/_SUCCESS", "incoming/churn/may/", "incoming/churn/may/"),
        ("incoming/churn/may/manifest", "incoming/churn/may/", "incoming/churn/may/"),
        ("incoming/churn/may/manifest.json", "incoming/churn/may/", "incoming/churn/may/"),
        ("incoming/churn/may/my-manifest.json", "incoming/churn/may/", None),
    ],
)
def test_a_key_says_whether_it_waits_or_finishes(key, part, marker):
    assert (folder_of_part(key), folder_of_marker(key)) == (part, marker)
    trigger = parse_event(uploaded(key), NOW) if key != "incoming/churn/_SUCCESS" else None
    if trigger is not None:
        assert isinstance(trigger, WaitingFile if part and not marker else TrainingTrigger)


def handle(event: dict, registry: MemoryRegistry) -> list:
    return handle_trigger(parse_event(event, NOW), registry=registry, pipeline=NoPipeline(), now=NOW)


def test_files_start_nothing_and_one_line_a_day_says_why():
    registry = MemoryRegistry()
    cause = make_cause()
    registry.claim_cause(cause, make_run(cause), make_entry("e1"))
    before = len(registry.list_ledger(MODEL))
    for number in range(5):
        assert handle(uploaded(f"incoming/{MODEL}/may/part-{number}.csv"), registry) == []
    (entry,) = [entry for entry in registry.list_ledger(MODEL) if entry.action == "upload_waiting"]
    assert len(registry.list_ledger(MODEL)) == before + 1
    assert f"nothing happens until incoming/{MODEL}/may/_SUCCESS or" in entry.reason
    assert entry.details["folder"] == f"incoming/{MODEL}/may/"
    handle(uploaded(f"incoming/{MODEL}/june/part-0.csv"), registry)
    handle(uploaded(f"incoming/{MODEL}/may/part-0.csv", "v2", "2026-05-04T09:00:00Z"), registry)
    assert [entry.action for entry in registry.list_ledger(MODEL)].count("upload_waiting") == 3


def test_while_there_is_no_such_model_the_ledger_of_refused_uploads_says_why():
    registry = MemoryRegistry()
    handle(uploaded("incoming/new/may/part-0.csv"), registry)
    (entry,) = registry.list_ledger(REFUSED_UPLOADS)
    assert entry.action == "upload_waiting"
    assert entry.occurred_at == datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
