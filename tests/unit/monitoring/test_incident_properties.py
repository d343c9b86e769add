"""Incidents over random sequences of findings: one alert a cooldown, one resolution an opening, and nothing lost."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.documents import from_plain, to_plain
from millrace.errors import ServiceUnavailableError
from millrace.monitoring.alerts import make_alert
from millrace.monitoring.incidents import IncidentHistory, advance, close
from millrace.monitoring.monitor import deliver_alerts
from millrace.monitoring.rules import VERDICTS
from millrace.monitoring.state import load_state, save_state
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec
from msgspec.structs import replace

from tests.fakes.memory_object_store import MemoryObjectStore

START = datetime(2026, 5, 3, tzinfo=UTC)
SUBJECTS = [
    ("feature_drift", "age"),
    ("feature_drift", "fare"),
    ("prediction_drift", "label"),
    ("live_quality", "quality"),
    ("dependence", "age and fare"),
    ("staleness", "age of the model"),
]
STATUS = st.sampled_from(["breach", "breach", "ok", "ok", "unknown", None])
WINDOWS = st.lists(
    st.tuples(
        st.sampled_from([10, 60, 60, 240, 1_500]),  # minutes since the window before
        st.tuples(*[STATUS] * len(SUBJECTS)),
        st.integers(0, 19),  # 0: the next version; 1: the model is deleted; 2: a verdict is turned off, or on again
    ),
    max_size=60,
)
SPECS = st.fixed_dictionaries(
    {
        "cooldown_hours": st.sampled_from([0.0, 1.0, 24.0, 100.0]),
        "windows_to_resolve": st.sampled_from([1, 2]),
    }
)


def flapping(hours):
    """One subject that comes and goes: two windows in breach and three without."""
    quiet = ("ok",) * len(SUBJECTS)
    return [(60, ("breach", *quiet[1:]) if hour % 5 < 2 else quiet, 9) for hour in range(hours)]


class Stream:
    """Windows one after another; the history is written and read between any two of them."""

    def __init__(self, keys):
        self.spec, self.repeat_after = MonitoringSpec(**keys), timedelta(hours=3)
        self.cooldown = timedelta(hours=keys["cooldown_hours"])
        self.history, self.now, self.version = IncidentHistory(), START, 1
        self.steps, self.alerts = [], []  # (event, incident id, step, time)

    def feed(self, minutes, statuses, change):
        begin, self.now = self.now, self.now + timedelta(minutes=minutes)
        self.version += change == 0
        if change == 2:
            rule = self.spec.feature_drift.model_copy(update={"enabled": not self.spec.feature_drift.enabled})
            self.spec = self.spec.model_copy(update={"feature_drift": rule})
        if change == 1:
            self.history, transitions = close(self.history, "the model was deleted", self.now)
            assert not self.history.open_incidents()
        else:
            found = [
                WindowFinding(verdict, subject, status, f"{subject} is {status}")
                for (verdict, subject), status in zip(SUBJECTS, statuses, strict=True)
                if status and getattr(self.spec, verdict).enabled
            ]
            self.history, transitions = advance(
                self.history,
                found,
                self.spec,
                model="churn",
                version=self.version,
                window=(begin, self.now),
                repeat_after=self.repeat_after,
            )
            self.check_breaches(found)
        self.history = from_plain(IncidentHistory, to_plain(self.history))
        self.alerts += [make_alert("churn", one, self.now) for one in transitions]
        self.steps += [(one.incident.event, one.incident.incident_id, one.step, self.now) for one in transitions]

    def check_breaches(self, found):
        """Whatever is in alarm is part of the open incident of its event, as the latest window shows it."""
        for finding in found:
            key, flags = finding.key, self.history.recent.get(finding.key, ())
            rule = getattr(self.spec, finding.verdict)
            if finding.status != "breach" or sum(flags) < getattr(rule, "breaches", 1):
                continue
            incident = self.history.incidents[VERDICTS[finding.verdict].event]
            assert incident.is_open
            assert incident.findings[key].finding == finding
        for incident in self.history.open_incidents():
            muted = incident.muted_until is not None and self.now < incident.muted_until
            known = incident.notified or muted or incident.is_quiet
            assert known, "nobody was notified of an open incident in breach"
            assert any(getattr(self.spec, key.partition(":")[0]).enabled for key in incident.findings)

    def check_steps(self):
        by_event = defaultdict(list)
        for event, incident_id, step, time in self.steps:
            by_event[event].append((step, time, incident_id))
        for event, steps in by_event.items():
            told = [one for one in steps if one[0] != "persists"]
            assert [step for step, _, _ in told] == [("opened", "resolved")[place % 2] for place in range(len(told))]
            for place, (step, time, incident_id) in enumerate(told):
                if step == "resolved":
                    assert told[place - 1][2] == incident_id
                elif place and told[place - 1][2] == incident_id:
                    assert time >= told[place - 1][1] + self.cooldown
            for kind in ("opened", "resolved"):
                times = [time for step, time, _ in told if step == kind]
                assert all(later - sooner >= self.cooldown for sooner, later in pairwise(times))
            requests = [time for step, time, _ in steps if step == "persists"]
            assert all(later - sooner >= self.repeat_after for sooner, later in pairwise(requests))
            incident = self.history.incidents[event]
            assert (incident.is_open and incident.notified) == (told[-1][0] == "opened")


@settings(max_examples=80, deadline=None)
@given(WINDOWS, SPECS)
def test_alerts_keep_the_cooldown_and_every_opening_has_one_resolution(windows, keys):
    stream = Stream(keys)
    for window in windows:
        stream.feed(*window)
    stream.check_steps()


@pytest.mark.parametrize("cooldown", [1.0, 12.0, 24.0, 48.0])
def test_an_incident_that_comes_and_goes_is_told_once_a_cooldown_and_not_forgotten(cooldown):
    stream = Stream({"cooldown_hours": cooldown, "windows_to_resolve": 2})
    for window in flapping(24 * 14):
        stream.feed(*window)
    stream.check_steps()
    opened = [time for _, _, step, time in stream.steps if step == "opened"]
    if cooldown < 3:  # It is a new incident each time.
        assert len(opened) == 24 * 14 // 5
        return
    # At most one a cooldown; once it has lasted a day, its pauses of three hours are no end.
    assert len(opened) <= (24 + cooldown) / cooldown + 1
    (incident,) = stream.history.open_incidents()
    assert incident.notified


class FailingChannel:
    """A bus and a topic; each call fails or not, as listed."""

    def __init__(self):
        self.failures, self.published, self.notified = [], [], []

    def _fail(self):
        if self.failures and self.failures.pop(0):
            raise ServiceUnavailableError("throttled")

    def publish(self, events):
        self._fail()
        self.published += [event.detail["event_id"] for event in events]

    def notify(self, subject, text):
        self._fail()
        self.notified.append(subject)


@settings(max_examples=20, deadline=None)
@given(WINDOWS, st.lists(st.lists(st.booleans(), max_size=4), max_size=6))
def test_alerts_wait_until_both_channels_have_taken_them(windows, rounds):
    stream, store, channel = (
        Stream({"cooldown_hours": 1.0, "windows_to_resolve": 1}),
        MemoryObjectStore(),
        FailingChannel(),
    )
    for window in [*windows, *flapping(5)]:
        stream.feed(*window)
    made = [alert.alert_id for alert in stream.alerts]
    assert len(set(made)) == len(made)
    for part, failures in enumerate([*rounds, []]):
        state, etag = load_state("churn", store)
        share = stream.alerts[part :: len(rounds) + 1]
        assert save_state("churn", store, replace(state, outbox=(*state.outbox, *share)), etag)
        channel.failures = [*failures]
        try:
            deliver_alerts("churn", store, channel, channel)
        except ServiceUnavailableError:
            assert True in failures
        waiting = {alert.alert_id for alert in load_state("churn", store)[0].outbox}
        added = {alert.alert_id for place in range(part + 1) for alert in stream.alerts[place :: len(rounds) + 1]}
        assert added - waiting <= set(channel.published)
    assert not waiting
    assert set(channel.published) == set(made)
    assert len(channel.notified) == sum(bool(alert.subject) for alert in stream.alerts)
