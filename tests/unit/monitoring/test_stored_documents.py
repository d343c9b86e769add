"""Documents that commit f0571cb wrote are read, and written again in the present format."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from millrace.documents import to_plain
from millrace.errors import ArtifactIntegrityError
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import PredictionHistogram, Traffic, ValueHistogram
from millrace.histograms.tables import Reference, ReferenceDocument
from millrace.layout import monitoring_key
from millrace.monitoring.incidents import Incident
from millrace.monitoring.report import MonitoringReport
from millrace.monitoring.rules import VERDICTS
from millrace.monitoring.state import MonitoringState, load_state
from millrace.reports.monitoring_report import render_monitoring_report

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.unit.monitoring.builders import SCHEMA
from tests.unit.monitoring.served import MODEL, Served
from tests.unit.monitoring.test_monitor import report_of

SAMPLES = Path(__file__).parents[2] / "samples" / "f0571cb" / "monitoring"


def sample(name):
    return (SAMPLES / name).read_bytes()


def test_a_state_is_read():
    state = MonitoringState.unpack(sample("state.json.gz"))
    assert (state.version, state.checked_at) == (1, datetime(2026, 5, 3, 6, tzinfo=UTC))
    assert state.traffic.open.traffic.features.rows == 60
    assert state.traffic.open.end == datetime(2026, 5, 3, 5, 59, tzinfo=UTC)
    assert [window.quiet for window in state.traffic.windows] == [True, True, False, False, False]
    assert isinstance(state.traffic.first_predictions, PredictionHistogram)
    assert [segment.labelled for segment in state.outcomes.segments] == [400, 400, 0, 400, 400, 0]
    assert len(state.outcomes.pending_feedback) == 1
    incident = state.incidents.incidents["DriftDetected"]
    assert incident.notified
    assert incident.requests == 1
    assert "feature_drift:age" in incident.findings
    assert state.outbox[0].detail["incident_id"] == incident.incident_id
    assert {finding.verdict for found in state.findings.values() for finding in found} <= VERDICTS.keys()
    assert state.traffic.summaries[-1].effects["age"] > 0.1
    assert MonitoringState.unpack(state.pack()) == state


def test_a_monitor_goes_on_from_a_state_of_the_version_before():
    served = Served()
    served.data.put(monitoring_key(MODEL, "state.json.gz"), sample("state.json.gz"))
    for hour in (5, 6, 7):
        served.capture(hour)
        served.monitor(hour + 1)
    state, _ = load_state(MODEL, served.data)
    assert len(state.traffic.windows) == 8
    assert not state.incidents.open_incidents()
    assert [alert.detail_type for alert in state.outbox] == ["DriftDetected", "IncidentResolved"]


def test_a_reference_is_read():
    document = ReferenceDocument.read(sample("reference.json"))
    reference = Reference.build(document, SCHEMA)
    assert reference.training.columns["age"].known == 4_000
    assert reference.training.correlations.rows == 4_000
    assert reference.bins["city"].categories == ("Bern", "Oslo", "Rome")
    assert ReferenceDocument.read(document.write()) == document


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("prediction_profile.json", (PredictionHistogram, OutcomeHistogram)),
        ("regression_profile.json", (ValueHistogram, ErrorSums)),
    ],
)
def test_a_profile_is_read(name, kinds):
    profile = PredictionProfile.read(sample(name))
    assert (type(profile.predictions), type(profile.outcomes)) == kinds
    assert PredictionProfile.read(profile.write()) == profile


def test_a_window_is_read():
    traffic = Traffic.read(gzip.decompress(sample("window.json.gz")))
    assert traffic.features.rows == traffic.predictions.rows == 400
    assert Traffic.read(traffic.write()) == traffic


def test_a_report_keeps_its_fields_and_can_be_rendered():
    before = json.loads(sample("report.json"))
    assert "DriftDetected" in render_monitoring_report(to_plain(MonitoringReport.read(before)))
    served = Served()
    for hour in range(4):
        served.capture(hour, age_shift=1.0, feedback=True)
        served.monitor(hour + 1)
    now = report_of(served)
    assert before.keys() <= now.keys()
    for part in ("verdicts", "findings", "incidents", "windows", "pictures", "quality"):
        assert before[part][0].keys() <= now[part][0].keys()
    assert before["intake"].keys() <= now["intake"].keys()


def test_a_report_is_read_and_written_in_the_present_format():
    report = MonitoringReport.read(sample("report.json"))
    before, now = json.loads(sample("report.json")), to_plain(report)
    # Of an early release only one metric of a window is known.
    before["quality"] = [one | {"metrics": {}, "calibration": None, "covered": None} for one in before["quality"]]
    for name in before.keys() - {"intake", "verdicts", "incidents", "pictures"}:
        assert now[name] == before[name]
    assert MonitoringReport.read(report.write()) == report
    assert json.loads(report.write())["format_version"] == 1
    served = Served()
    served.capture(0, feedback=True)
    served.monitor(1)
    latest = served.data.get(monitoring_key(MODEL, "reports/latest.json"))
    assert MonitoringReport.read(latest).write() == latest


def test_an_incident_keeps_its_stored_names():
    stored = json.loads(sample("report.json"))["incidents"][0]
    later = {"earlier"}  # Since incidents take the place of quiet ones
    assert set(stored) | later == {field.encode_name for field in msgspec.structs.fields(Incident)}


def test_a_state_of_a_later_release_is_refused():
    later = gzip.compress(json.dumps({"format_version": 99}).encode())
    with pytest.raises(ArtifactIntegrityError, match="format version 99"):
        MonitoringState.unpack(later)
    store = MemoryObjectStore("data")
    store.put(monitoring_key(MODEL, "state.json.gz"), later)
    assert load_state(MODEL, store)[0] == MonitoringState()
