"""Runs of the monitor: windows, late outcomes, and faulty or missing captures."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from millrace.causes import finding_cause_id
from millrace.entities import Cause
from millrace.errors import ServiceUnavailableError
from millrace.layout import captures_key, monitoring_key
from millrace.monitoring.monitor import deliver_alerts, load_state
from millrace.monitoring.rules import VERDICTS
from millrace.monitoring.serving_health import ServingCounts
from millrace.names import CHAMPION
from millrace.registry.transactions import DeleteModel, MoveAlias, RegistryTransaction
from millrace.spec import ModelSpec
from millrace.spec.monitoring import MonitoringSpec
from millrace.triggers.requests import handle_trigger
from millrace.triggers.trigger_events import parse_event

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.registry_builders import make_dataset, make_entry
from tests.unit.monitoring.served import MODEL, START, Served


class Channel:
    """A bus and a topic, which may fail."""

    def __init__(self) -> None:
        self.events, self.messages, self.broken = [], [], False

    def publish(self, events):
        self.events += events

    def notify(self, subject, message):
        if self.broken:
            raise ServiceUnavailableError("SNS is away")
        self.messages.append((subject, message))


def state_of(served):
    return load_state(MODEL, served.data)[0]


def summaries(served):
    return state_of(served).traffic.summaries


def report_of(served):
    return json.loads(served.data.get(monitoring_key(MODEL, "reports/latest.json")))


def verdict(served, name):
    return next(one["status"] for one in report_of(served)["verdicts"] if one["verdict"] == name)


def test_unchanged_traffic_raises_nothing():
    served = Served()
    for hour in range(8):
        served.capture(hour, feedback=True)
        assert served.monitor(hour + 1).outcome == "judged"
    state = state_of(served)
    assert state.outbox == ()
    assert len(state.traffic.windows) == 8
    assert len(state.outcomes.quality) >= 6
    assert verdict(served, "feature_drift") == verdict(served, "live_quality") == "ok"


def test_a_shift_is_one_alert_and_its_end_another():
    served, channel = Served(), Channel()
    for hour, shift in enumerate([0.0] * 3 + [1.0] * 5 + [0.0] * 4):
        served.capture(hour, age_shift=shift)
        served.monitor(hour + 1)
        deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]
    opened = channel.events[0]
    assert opened.occurred_at == START + timedelta(hours=5)
    assert opened.detail["since"] == (START + timedelta(hours=3)).isoformat()
    assert {finding["subject"] for finding in opened.detail["findings"]} >= {"age"}
    assert opened.detail["rows"] == [f"captures/{MODEL}/2026/05/03/0{hour}/" for hour in (3, 4)]
    subject, text = channel.messages[0]
    assert subject == "[open] churn: feature drift"
    assert "mean 39." in text or "mean 40" in text
    assert "Since 2026-05-03 03:00 UTC" in text
    assert channel.messages[1][0] == "[resolved] churn: feature drift"
    json.dumps(opened.detail)


def test_actions_are_in_the_report_and_in_the_message_of_the_resolved_incident():
    served, channel = Served(), Channel()
    pipeline = MemoryPipeline()
    served.registry.put_dataset(make_dataset("d1"))
    run_id = ""
    for hour, shift in enumerate([1.0] * 4 + [0.0] * 4):
        served.capture(hour, age_shift=shift)
        served.monitor(hour + 1)
        deliver_alerts(MODEL, served.data, channel, channel)
        if channel.events and not run_id:
            detail = channel.events[0].detail
            event = {"source": "millrace", "detail-type": "DriftDetected", "detail": detail}
            now = START + timedelta(hours=hour + 1)
            trigger = parse_event(event, now)
            (result,) = handle_trigger(trigger, registry=served.registry, pipeline=pipeline, now=now)
            run_id = result.run_id
            assert f"requests a training run; see `millrace why {MODEL}`" in channel.messages[0][1]
            served.registry.update_run(MODEL, run_id, status="failed", stage="finished", reasons=("no rows",))
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]
    action = f"requested a training run: run {run_id} failed: no rows"
    assert channel.events[1].detail["actions"] == [action]
    assert f"Actions:\n  {action}" in channel.messages[1][1]
    assert report_of(served)["incidents"][0]["actions"] == [action]
    assert action.encode() in served.data.get(monitoring_key(MODEL, "reports/latest.html"))


def test_a_report_is_written_again_when_actions_become_known():
    served, channel = Served(), Channel()
    for hour in range(3):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    deliver_alerts(MODEL, served.data, channel, channel)
    served.monitor(3.5)
    assert report_of(served)["incidents"][0]["actions"] == ["requested a training run; not processed yet"]
    before = report_of(served)["made_at"]
    served.monitor(3.75)
    assert report_of(served)["made_at"] == before
    incident = report_of(served)["incidents"][0]
    cause_id = finding_cause_id("drift", MODEL, incident["incident_id"], 1)
    cause = Cause(cause_id, MODEL, "drift", START, reason="age shifted")
    entry = make_entry("skipped", MODEL, START, refusal="too soon")
    served.registry.skip_cause(cause, entry)
    assert served.monitor(3.8).outcome == "nothing_new"
    assert report_of(served)["incidents"][0]["actions"] == ["requested a training run: no run was started: too soon"]


def test_incidents_of_a_model_that_is_deleted_are_closed_for_that_reason():
    served, channel = Served(), Channel()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
        deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected"]
    state = served.registry.get_state(MODEL)
    entry = replace(make_entry("deleted", MODEL, START + timedelta(hours=4)), reason="nobody needs it", actor="ann")
    served.registry.commit(
        RegistryTransaction(
            entry,
            state.revision,
            (
                MoveAlias(CHAMPION, 1, None),
                DeleteModel(),
            ),
        )
    )
    served.capture(4, age_shift=1.0)

    outcome = served.monitor(5)
    assert (outcome.outcome, outcome.alerts, outcome.open_incidents) == ("deleted", 1, 0)
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]
    assert channel.events[1].detail["actions"][-1] == "the model was deleted by ann: nobody needs it"
    assert "the model was deleted by ann: nobody needs it" in channel.messages[1][1]
    assert served.monitor(6).alerts == 0
    assert len(channel.events) == 2


def test_incidents_end_when_the_spec_turns_monitoring_off():
    served, channel = Served(), Channel()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    served.registry.put_spec(MODEL, ModelSpec(monitoring=MonitoringSpec(enabled=False)))
    assert [served.monitor(5).outcome, served.monitor(6).alerts] == ["disabled", 2]
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]
    assert channel.events[1].detail["actions"][-1] == "the spec turned monitoring off"
    assert not load_state(MODEL, served.data)[0].incidents.open_incidents()


def test_an_incident_ends_when_the_spec_turns_its_verdicts_off():
    served, channel = Served(), Channel()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    names = [name for name, verdict in VERDICTS.items() if verdict.event == "DriftDetected"]
    changed = MonitoringSpec.model_validate({name: {"enabled": False} for name in names})
    served.registry.put_spec(MODEL, ModelSpec(monitoring=changed))
    served.monitor(5)
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]


def test_a_monitor_that_was_at_work_while_a_model_was_deleted_does_not_keep_its_incidents(monkeypatch):
    served = Served()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    served.registry.commit(
        RegistryTransaction(
            make_entry("deleted", MODEL, START), served.registry.get_state(MODEL).revision, (DeleteModel(),)
        )
    )
    monkeypatch.setattr(served.data, "put_if_unchanged", lambda *_: False)
    with pytest.raises(ServiceUnavailableError):
        served.monitor(5)


def test_a_window_with_nothing_to_say_reads_and_writes_next_to_nothing():
    served = Served()
    served.capture(0)
    served.monitor(1)
    before = set(served.data.keys())
    assert served.monitor(2).outcome == "nothing_new"
    assert set(served.data.keys()) == before


def test_rows_are_read_once_and_wait_until_there_are_enough():
    served = Served()
    for hour in range(4):
        served.capture(hour, rows=60)
        assert served.monitor(hour + 1).windows == (hour == 3)
    assert [record.rows for record in state_of(served).traffic.windows] == [240]


def test_a_window_of_one_row_is_closed_after_a_day_and_says_nothing():
    served = Served()
    served.capture(0, rows=1)
    served.monitor(1)
    assert served.monitor(25).windows == 1
    assert {finding["status"] for finding in report_of(served)["findings"] if finding["verdict"] != "staleness"} == {
        "unknown"
    }
    assert state_of(served).outbox == ()


@pytest.mark.parametrize(
    ("every", "rows", "said"),
    [
        (1, 1, "24.9 rows a day make 24.9 of the 200 rows that a window of at most 24 hours needs"),
        (12, 1, "and no window may be so long. A lower min_rows"),
        (4, 25, "days. monitoring.max_window_hours: 29 would evaluate them"),
        (4, 40, ""),
    ],
)
def test_a_model_of_few_rows_says_that_its_inputs_are_not_evaluated_and_for_how_long(every, rows, said):
    served = Served()
    for hour in range(0, 73, every):
        served.capture(hour, rows=rows)
    served.monitor(74)
    report = report_of(served)
    assert said in report["too_few_rows"] if said else report["too_few_rows"] == ""
    page = served.data.get(monitoring_key(MODEL, "reports/latest.html")).decode()
    assert ("Inputs are not evaluated: " in page) is bool(said)


def test_before_a_whole_window_has_passed_nobody_knows_the_rate():
    served = Served()
    served.capture(0, rows=3)
    served.monitor(1)
    assert report_of(served)["too_few_rows"] == ""


def test_an_object_that_is_delivered_late_is_still_read():
    served = Served()
    served.capture(3)
    served.monitor(4)
    served.capture(1, name="late")
    assert served.monitor(5).rows == 400
    served.capture(2, name="much-later")
    assert served.monitor(24 + 3).rows == 400
    assert served.monitor(24 + 4).rows == 0


def test_duplicated_deliveries_count_once():
    served = Served()
    served.capture(0)
    body = served.data.get(captures_key(MODEL, START, "part-0"))
    served.data.put(captures_key(MODEL, START, "again"), body)
    assert served.monitor(1).rows == 400
    served.data.put(captures_key(MODEL, START, "again-later"), body)
    assert served.monitor(2).rows == 0
    assert report_of(served)["intake"]["duplicates"] in (400, 800)


def test_torn_objects_and_lines_are_counted_and_the_rest_is_read():
    served = Served()
    served.capture(0, torn=True, name="torn")
    served.capture(1)
    served.data.put(captures_key(MODEL, START, "plain"), b"this is no gzip")
    assert served.monitor(2).rows == 400
    unreadable = report_of(served)["intake"]["unreadable_objects"]
    assert len(unreadable) == 2
    assert any("ends too early" in name for name in unreadable)


def test_rows_of_unknown_and_other_versions_are_told_apart():
    served = Served()
    served.capture(0)
    served.capture(0, rows=30, version=77, name="strange")
    assert served.monitor(1).rows == 400
    assert report_of(served)["intake"]["unknown_versions"] == {"77": 30}
    served.publish_version(2)
    served.capture(1, rows=50, version=1)
    served.capture(1, rows=300, version=2, name="new")
    assert served.monitor(2).rows == 300
    assert report_of(served)["intake"]["other_versions"] == {"1": 50}
    assert state_of(served).version == 2


def test_a_clock_that_goes_ahead_is_seen_and_loses_no_row():
    served = Served()
    served.capture(0.9, rows=300)
    outcome = served.monitor(1)
    assert outcome.rows == 300
    assert report_of(served)["intake"]["from_the_future"] > 200
    assert state_of(served).traffic.windows[-1].end <= START + timedelta(hours=1)


def test_a_missing_reference_is_told_and_rows_and_outcomes_are_kept():
    served = Served(reference=False)
    served.capture(0, feedback=True)
    served.monitor(1)
    report = report_of(served)
    assert report["obstacle"] == "version 1 has no reference.json to compare with"
    assert verdict(served, "feature_drift") == "unknown"
    assert state_of(served).outcomes.segments[0].labelled == 400
    assert report["quality"][0]["value"] == pytest.approx(0.75, abs=0.1)


def test_without_a_profile_answers_are_compared_with_the_first_window():
    served = Served(profile=False)
    for hour in range(4):
        served.capture(hour, age_shift=1.5 if hour > 1 else 0.0)
        served.monitor(hour + 1)
    assert verdict(served, "prediction_drift") == "alarm"
    assert verdict(served, "live_quality") == "unknown"


def test_a_column_that_vanished_is_data_quality():
    served, channel = Served(), Channel()
    for hour in range(4):
        served.capture(hour, leave=("income",) if hour > 1 else ())
        served.monitor(hour + 1)
        deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DataQualityDegraded"]
    assert "no longer have the column" in channel.messages[0][1]


def test_flipped_labels_degrade_quality_while_the_inputs_hold():
    served, channel = Served(), Channel()
    for hour in range(7):
        served.capture(hour, flip=0.5 if hour > 2 else 0.0, feedback=True)
        served.monitor(hour + 1)
        deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["QualityDegraded"]
    assert {finding["verdict"] for finding in channel.events[0].detail["findings"]} >= {"live_quality", "concept_drift"}


def test_late_and_corrected_outcomes_settle_their_own_window_only():
    served = Served()
    rows = served.capture(0)
    served.monitor(1)
    ids = [row.prediction_id for row in rows]
    served.report(ids[:200], ["no"] * 200, 20)
    assert served.monitor(20.5).windows == 0
    assert served.monitor(26).windows == 1
    first = state_of(served).outcomes.quality[0]
    assert (first.predictions, first.outcomes) == (400, 200)
    served.report(ids[:100], ["yes"] * 100, 40)
    served.report(ids[200:], ["yes"] * 200, 41)
    assert served.monitor(42).windows == 0
    second = state_of(served).outcomes.quality[0]
    assert second.outcomes == 400
    assert second.value != first.value
    # What was observed earlier does not undo what was observed later.
    served.report(ids[:100], ["no"] * 100, 30, name="straggler")
    served.monitor(43)
    assert state_of(served).outcomes.quality[0].value == second.value


def test_feedback_for_predictions_never_seen_is_counted_and_tried_again_for_a_while():
    served = Served()
    served.capture(0)
    served.monitor(1)
    served.report(["nobody-0"], ["yes"], 1.2)
    rows = served.rows
    served.report([f"p{rows}-0"], ["yes"], 1.3)
    assert served.monitor(1.5).outcomes == 0
    assert report_of(served)["intake"]["unmatched_feedback"] in (0, 2)
    served.capture(1)
    assert served.monitor(2).outcomes == 1
    served.monitor(9)
    assert state_of(served).outcomes.pending_feedback == ()


def test_outcomes_of_an_excluded_caller_do_not_count():
    served = Served(ModelSpec.parse({"feedback": {"exclude_callers": [""]}}))  # whom records of older releases have
    served.capture(0, rows=400, feedback=True)
    assert served.monitor(1.5).outcomes == 0
    served.registry.put_spec(MODEL, ModelSpec())
    served.capture(2, rows=400, feedback=True)
    assert served.monitor(3.5).outcomes == 400


def test_an_outcome_that_the_model_cannot_have_is_counted():
    served = Served()
    rows = served.capture(0)
    served.report([rows[0].prediction_id, rows[1].prediction_id], ["perhaps", "yes"], 0.9)
    served.monitor(1)
    assert report_of(served)["intake"]["unusable_feedback"] == 1
    assert state_of(served).outcomes.segments[0].labelled == 1


@pytest.mark.parametrize("slower_hour", [5.9, 6, 6.1])
def test_of_two_monitors_at_once_one_wins_and_nothing_counts_twice(slower_hour):
    served = Served()
    for hour in range(5):
        served.capture(hour, age_shift=1.0)
    before = served.data.keys()
    # Both read the same state; the slower one finds it changed.
    original = served.data.put_if_unchanged
    rival = []

    def race(key, body, etag, content_type="application/octet-stream"):
        if not rival:
            rival.append(None)
            rival[0] = served.monitor(6, token="rival")
        return original(key, body, etag, content_type)

    served.data.put_if_unchanged = race
    assert served.monitor(slower_hour, token="slower").outcome == "superseded"
    served.data.put_if_unchanged = original
    assert rival[0].outcome == "judged"
    # The reports are those of the one that wins, whichever began first.
    reports = {key.rsplit("/", 1)[1] for key in served.data.keys("monitoring") if "/reports/" in key}
    stamp = f"{START + timedelta(hours=6):%Y%m%dT%H%M%S}"
    assert reports == {f"{name}.{ending}" for name in ("latest", stamp) for ending in ("json", "html")}
    made_at = datetime.fromisoformat(report_of(served)["made_at"])
    assert made_at == state_of(served).checked_at == START + timedelta(hours=6)
    state = state_of(served)
    assert [record.rows for record in state.traffic.windows] == [2_000]
    assert served.monitor(7).rows == 0
    assert before


def test_a_channel_that_fails_loses_nothing():
    served, channel = Served(), Channel()
    channel.broken = True
    for hour in range(4):
        served.capture(hour, age_shift=1.0 if hour > 1 else 0.0)
        served.monitor(hour + 1)
    with pytest.raises(ServiceUnavailableError, match="SNS is away"):
        deliver_alerts(MODEL, served.data, channel, channel)
    assert len(state_of(served).outbox) == 1
    channel.broken = False
    served.monitor(5)
    assert deliver_alerts(MODEL, served.data, channel, channel) == 1
    assert len(channel.messages) == 1
    first, second = channel.events
    assert first.detail["event_id"] == second.detail["event_id"]
    assert deliver_alerts(MODEL, served.data, channel, channel) == 0


def test_alerts_wait_until_they_are_delivered():
    served = Served()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    assert served.monitor(5).alerts == 1


def test_a_new_version_begins_anew_and_ends_the_incident():
    served, channel = Served(), Channel()
    for hour in range(4):
        served.capture(hour, age_shift=1.0)
        served.monitor(hour + 1)
    served.publish_version(2, age_shift=1.0)
    for hour in range(4, 8):
        served.capture(hour, age_shift=1.0, version=2)
        served.monitor(hour + 1)
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["DriftDetected", "IncidentResolved"]


#: By the hour: at midnight older people ask, at noon younger ones.
WAVE = {0: 0.9, 6: 0.0, 12: -0.9, 18: 0.0}


def monitor_days(wave_of, days, *, seasonality="auto"):
    """Serve four windows a day; return by day the keys of breaches."""
    served = Served(ModelSpec(monitoring={"seasonality": seasonality}))
    for day in range(days):
        for hour, shift in wave_of(day).items():
            served.capture(24 * day + hour, rows=400, age_shift=shift)
            served.monitor(24 * day + hour + 1)
    breaches = [set() for _ in range(days)]
    for window in summaries(served):
        day = (window.begin - START).days
        breaches[day] |= {key for key in window.breaches if key.endswith(":age")}
    return served, breaches


def test_the_same_hours_of_earlier_days_excuse_what_is_usual():
    served, breaches = monitor_days(lambda day: WAVE, 4)
    assert breaches[0] != set()
    assert breaches[1:] == [set(), set(), set()]
    assert state_of(served).traffic.daily_ranges["feature:age"].size > 0.1


def test_without_seasons_every_day_is_out_of_the_ordinary():
    _, breaches = monitor_days(lambda day: WAVE, 3, seasonality="off")
    assert all(breaches)


def test_a_change_beside_a_season_is_told():
    # On the fourth day midnight is as noon usually is: nothing that the feature did not do before, but not then.
    _, breaches = monitor_days(lambda day: WAVE if day < 3 else WAVE | {0: -0.9}, 4)
    assert breaches[2] == set()
    assert "feature_drift:age" in breaches[3]


def test_a_change_that_stays_does_not_become_usual():
    served, breaches = monitor_days(lambda day: dict.fromkeys(WAVE, 0.0 if day < 1 else 0.9), 5)
    assert breaches[0] == set()
    changed = summaries(served)[len(WAVE) :]
    assert all("feature_drift:age" in window.breaches for window in changed)


def test_the_next_version_knows_from_its_first_hour_how_much_a_day_varies():
    served, _ = monitor_days(lambda day: WAVE, 3)
    served.publish_version(2)
    served.capture(72, rows=400, age_shift=0.9, version=2)
    served.monitor(73)
    assert summaries(served)[-1].version == 2
    assert summaries(served)[-1].breaches == []
    served.capture(78, rows=400, age_shift=2.0, version=2)
    served.monitor(79)
    assert "feature_drift:age" in summaries(served)[-1].breaches


def test_silence_after_traffic_is_stale_and_traffic_ends_it():
    served, channel = Served(), Channel()
    for hour in range(3):
        served.capture(hour)
        served.monitor(hour + 1)
    for hour in (10, 26, 28, 29):
        served.monitor(hour)
    served.capture(29)
    served.monitor(30)
    served.monitor(31)
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["ModelStale", "IncidentResolved"]
    assert "requests came" in channel.messages[0][1] or "last request came" in channel.messages[0][1]


def test_errors_and_latency_are_serving_health():
    class Metrics:
        def read(self, model, version, start, end):
            return ServingCounts(requests=1_000, errors=100, latency_ms=2_500.0, rows=2_000, refused_rows=800)

    served, channel = Served(), Channel()
    for hour in range(2):
        served.monitor(hour, serving=Metrics())
    deliver_alerts(MODEL, served.data, channel, channel)
    assert [event.detail_type for event in channel.events] == ["ServingDegraded"]
    assert {finding["subject"] for finding in channel.events[0].detail["findings"]} == {
        "errors",
        "latency",
        "refused rows",
    }


def test_a_model_without_a_champion_or_with_monitoring_off_is_left_alone():
    served = Served(ModelSpec(monitoring=MonitoringSpec(enabled=False)))
    served.capture(0)
    assert served.monitor(1).outcome == "disabled"
    served.registry.put_spec("empty", ModelSpec())
    assert served.data.keys("monitoring/") == []


def test_a_state_of_another_release_is_begun_anew():
    served = Served()
    served.data.put(monitoring_key(MODEL, "state.json.gz"), b"not what this release writes")
    served.capture(0)
    assert served.monitor(1).outcome == "judged"


def test_the_page_shows_what_is_wrong_and_survives_hostile_names():
    served = Served()
    for hour in range(4):
        served.capture(hour, age_shift=1.0, feedback=True)
        served.monitor(hour + 1)
    page = served.data.get(monitoring_key(MODEL, "reports/latest.html")).decode()
    assert "DriftDetected" in page
    assert "differs from that in training" in page
    assert "<script src" not in page


def headline(served):
    """Return the headline of the latest report; the page shows it with its tone."""
    text = report_of(served)["headline"]
    page = served.data.get(monitoring_key(MODEL, "reports/latest.html")).decode()
    [tone] = re.findall(rf'class="badge ?(\w*) large">{text}<', page)
    return text, tone


def test_the_headline_never_contradicts_the_table():
    served = Served()
    served.capture(0, rows=20)
    served.monitor(0.5)
    assert headline(served) == ("nothing evaluated yet: 20 of 200 rows in the open window", "")
    served.capture(1)
    served.monitor(2)
    assert headline(served) == ("no open incident", "good")
    served.capture(2, age_shift=1.0)
    served.monitor(3)
    past = sum(one["status"] == "breach" for one in report_of(served)["verdicts"])
    assert headline(served) == (f"{past} past threshold, waiting for a second window", "warn")
    served.capture(3, age_shift=1.0)
    served.monitor(4)
    text, tone = headline(served)
    assert (text.partition(";")[0], tone) == ("1 open incident", "bad")
    served.capture(4)
    served.monitor(5)
    assert headline(served)[0].partition(";")[0] == "1 open incident, quiet"


@pytest.mark.parametrize("seed", range(4))
def test_the_headline_agrees_with_the_table_on_any_stream(seed):
    served, draw = Served(), np.random.default_rng(seed)
    for hour in range(8):
        served.capture(hour, rows=int(draw.choice([60, 400])), age_shift=float(draw.choice([0.0, 0.0, 1.0])))
        served.monitor(hour + 1)
        report, (text, tone) = report_of(served), headline(served)
        is_open = any(incident["resolved_at"] is None for incident in report["incidents"])
        past = sum(one["status"] == "breach" for one in report["verdicts"])
        assert ("open incident" in text and "no open incident" not in text) == is_open == (tone == "bad")
        assert (f"{past} past threshold" in text) == (past > 0)
        assert tone != "good" or not past
