import json

import pytest
from millrace.causes import finding_cause_id
from millrace_cli.main import app
from millrace_cli.output import format_timestamp
from millrace_cli.timeline import build_timeline
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands


@pytest.fixture
def invoke(monkeypatch):
    """Run a command against canned answers."""

    def run_command(api, *arguments):
        answer_commands(monkeypatch, api)
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result

    return run_command


def entry(minute, action, reason, **details):
    timestamp = f"2026-05-03T14:{minute:02d}:00+00:00"
    return {"occurred_at": timestamp, "action": action, "reason": reason, "actor": "monitoring", "details": details}


RUN = {
    "run_id": "r1",
    "status": "succeeded",
    "stage": "finished",
    "cause_ids": ["c1"],
    "requested_at": "2026-05-03T14:01:00+00:00",
    "finished_at": "2026-05-03T14:02:30+00:00",
    "reasons": ["the model is not worse than version 3"],
}
LEDGER = [
    entry(9, "spec_changed", "2 fields changed", revision=2),
    entry(5, "trigger_skipped", "skipped: run r1 was asked for (accuracy fell to 0.71)", kind="quality", cause_id="c2"),
    entry(4, "alias_moved", "promoted", alias="champion", from_version=3, to_version=4),
    entry(3, "model_registered", "promoted", version=4, semantic_version="1.0.3", run_id="r1"),
    entry(1, "run_requested", "age shifted", kind="drift", cause_id="c1", run_id="r1"),
]


INCIDENT = {
    "incident_id": "i1",
    "event": "DataQualityDegraded",
    "opened_at": "2026-05-03T14:06:00+00:00",
    "resolved_at": None,
    "troubles": {"data_quality:age": {"finding": {"message": "age is missing in 12% of the rows"}}},
    "alerts": 1,
}


class TestTimeline:
    def test_an_incident_without_a_cause_is_an_event_of_its_own(self):
        timeline = build_timeline(LEDGER, [RUN], [{**INCIDENT, "model": "churn"}])
        event = next(event for event in timeline if event.kind == "DataQualityDegraded")
        assert timeline.index(event) == 1  # after the spec's change, before what was skipped
        assert event.happened == "age is missing in 12% of the rows"
        assert event.consequences == ["none: retraining on faulty data would not fix it"]

    def test_an_incident_whose_cause_is_in_the_ledger_is_not_repeated(self):
        cause_id = finding_cause_id("drift", "churn", "i1", 2)
        requested = entry(7, "run_requested", "age shifted", kind="drift", cause_id=cause_id, run_id="r1")
        incident = {**INCIDENT, "model": "churn", "event": "DriftDetected", "alerts": 2}
        assert [event.kind for event in build_timeline([requested], [RUN], [incident])] == ["drift"]
        (unheard,) = build_timeline(
            [], [RUN], [{**incident, "actions": ["asked"], "resolved_at": "2026-05-03T15:00:00+00:00"}]
        )
        assert unheard.consequences == ["asked", f"resolved {format_timestamp('2026-05-03T15:00:00+00:00')}"]

    def test_a_resolution_belongs_to_what_its_incident_requested(self):
        asked = entry(1, "run_requested", "age shifted", kind="drift", cause_id="c1", run_id="r1", incident_ids=["i7"])
        ended = {"incident": "DriftDetected", "opened_at": "2026-05-03T14:01:00+00:00", "incident_ids": ["i7"]}
        resolved = entry(8, "incident_resolved", "age shifted", resolved_at="2026-05-03T14:08:00+00:00", **ended)
        (event,) = build_timeline([resolved, asked], [RUN])
        assert event.kind == "drift"
        assert event.consequences[-1] == f"resolved {format_timestamp('2026-05-03T14:08:00+00:00')}"

    def test_a_resolution_of_an_incident_that_requested_nothing_is_an_event_of_its_own_once(self):
        ended = {"incident": "DataQualityDegraded", "opened_at": "2026-05-03T14:06:00+00:00", "incident_ids": ["i1"]}
        resolved = entry(8, "incident_resolved", "age is missing", resolved_at="2026-05-03T14:08:00+00:00", **ended)
        incident = {**INCIDENT, "model": "churn", "resolved_at": "2026-05-03T14:08:00+00:00"}
        for incidents in ([], [incident]):
            (event,) = build_timeline([resolved], [], incidents)
            assert (event.kind, event.occurred_at) == ("DataQualityDegraded", "2026-05-03T14:06:00+00:00")
            assert event.consequences == [f"resolved {format_timestamp('2026-05-03T14:08:00+00:00')}"]

    def test_a_cause_its_run_and_its_outcome_are_one_event(self):
        event = build_timeline(LEDGER, [RUN])[-1]
        assert (event.kind, event.happened) == ("drift", "age shifted")
        assert event.consequences == [
            "started run r1, which succeeded after 90 s: the model is not worse than version 3",
            "registered version 4 (1.0.3)",
            "champion moved from version 3 to version 4",
        ]

    def test_a_skipped_cause_has_the_reason(self):
        event = build_timeline(LEDGER, [RUN])[1]
        assert (event.kind, event.happened) == ("quality", "accuracy fell to 0.71")
        assert event.consequences == ["started no run: run r1 was asked for"]

    def test_the_reasons_of_a_skipped_cause_are_read_from_their_fields(self):
        details = {"kind": "quality", "cause_id": "c2", "refusal": "run r1 (upload) is active"}
        skipped = entry(5, "trigger_skipped", "any sentence", cause_reason="accuracy fell (0.71)", **details)
        (event,) = build_timeline([skipped], [RUN])
        assert (event.happened, event.consequences) == (
            "accuracy fell (0.71)",
            ["started no run: run r1 (upload) is active"],
        )

    def test_an_entry_without_a_cause_is_an_event_of_its_own_and_the_newest_comes_first(self):
        timeline = build_timeline(LEDGER, [RUN])
        assert [event.kind for event in timeline] == ["spec_changed", "quality", "drift"]
        assert timeline[0].consequences == []

    def test_a_cause_that_waited_names_its_run(self):
        waited = entry(2, "trigger_deferred", "b.csv was uploaded", kind="upload", cause_id="c9", waits_for="r1")
        follow_up = {**RUN, "run_id": "r2", "cause_ids": ["c9"]}
        (event,) = build_timeline([waited], [RUN, follow_up])
        assert event.consequences == ["waited for run r1, then started run r2"]
        (event,) = build_timeline([waited], [])
        assert event.consequences == ["waited for run r1"]

    @pytest.mark.parametrize(
        ("run", "words"),
        [
            (None, "started run r1"),
            ({**RUN, "status": "running", "stage": "training"}, "started run r1, which is training"),
            ({**RUN, "status": "failed", "finished_at": None, "reasons": []}, "started run r1, which failed"),
            ({**RUN, "status": "rejected", "reasons": []}, "started run r1, which was rejected after 90 s"),
        ],
    )
    def test_a_run_is_described_by_its_status(self, run, words):
        (event,) = build_timeline(LEDGER[-1:], [run] if run else [])
        assert event.consequences == [words]

    def test_the_failure_of_a_run_belongs_to_its_event(self):
        failed = entry(2, "run_failed", "the worker did not finish", run_id="r1")
        (event,) = build_timeline([LEDGER[-1], failed], [])
        assert event.consequences[-1] == "run failed: the worker did not finish"


class TestCommand:
    def answers(self, entries):
        return FakeApi(
            {
                "/models/churn/ledger": [(200, {"entries": entries})],
                "/models/churn/runs": [(200, {"runs": [RUN]})],
                "/models/churn/monitoring": [(200, {"report": {"incidents": [INCIDENT]} if entries else None})],
            }
        )

    def test_the_timeline_is_printed_newest_first(self, invoke):
        output = invoke(self.answers(LEDGER), "why", "churn").stdout
        assert output.index("spec changed") < output.index("accuracy fell to 0.71") < output.index("age shifted")
        assert "  -> champion moved from version 3 to version 4\n" in output

    def test_it_can_be_limited_and_printed_as_json(self, invoke):
        timeline = json.loads(invoke(self.answers(LEDGER), "why", "churn", "--last", "1", "--json").stdout)
        assert [event["kind"] for event in timeline] == ["spec_changed"]

    def test_a_model_without_a_history_says_so(self, invoke):
        assert "churn has no history" in invoke(self.answers([]), "why", "churn").stderr
