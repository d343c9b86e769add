"""DORA metrics of models, against ledgers whose metrics are computed by hand."""

from datetime import UTC, datetime, timedelta

import pytest
from millrace.dora import PARTS, Durations, find_changes, measure_changes, summarize
from millrace.entities import LedgerEntry
from millrace.registry.ledger import trigger_skipped

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 29, tzinfo=UTC)
HOUR = 3_600.0


class Ledger:
    """Entries of one model; times are (day of November, hour)."""

    def __init__(self, model="churn"):
        self.model = model
        self.entries = []

    def add(self, action, day, hour=0.0, *, actor="register_model", **details):
        at = SINCE + timedelta(days=day - 1, hours=hour)
        entry = LedgerEntry(self.model, f"{len(self.entries)}", at, actor, action, f"because of {action}", details)
        self.entries.append(entry)
        return at

    def train(self, version, day, hour=0.0, *, waited=1.0, took=0.5, uploaded=True):
        """A run that an upload caused ``waited`` hours before, and the version that it registered."""
        run = f"run-{version}"
        at = self.add("run_requested", day, hour, run_id=run, cause_id=f"cause-{version}", kind="upload")
        known = {"newest_upload_at": (at - timedelta(hours=waited)).isoformat()} if uploaded else {}
        self.add("model_registered", day, hour + took, version=version, run_id=run, **known)

    def promote(self, version, before, day, hour=0.0, **details):
        self.add("model_promoted", day, hour, alias="champion", from_version=before, to_version=version, **details)

    def roll_back(self, version, before, day, hour=0.0):
        details = {"alias": "champion", "from_version": before, "to_version": version}
        self.add("model_rolled_back", day, hour, actor="ada", **details)

    def release(self, version, day, hour=0.0, *, baseline=1, steps=(0.05, 0.5)):
        release_id = f"r-{version}"
        facts = {"release_id": release_id, "baseline": baseline, "candidate": version, "steps": list(steps)}
        self.add("release_started", day, hour, **facts)
        return facts

    def resolve(self, incident_id, version, day, *, since, opened, event="QualityDegraded"):
        times = [(SINCE + timedelta(days=one - 1)).isoformat() for one in (since, opened, day)]
        names = dict(zip(("since", "opened_at", "resolved_at"), times, strict=True))
        self.add("incident_resolved", day, incident=event, version=version, incident_ids=[incident_id], **names)

    def changes(self, since=SINCE, until=UNTIL):
        return find_changes(self.entries[::-1], since, until)

    def metrics(self, until=UNTIL):
        return measure_changes(self.changes(until=until), SINCE, until)


@pytest.fixture
def ledger():
    return Ledger()


def test_a_month_with_everything(ledger):
    ledger.train(1, 1, 8.0)
    ledger.promote(1, None, 1, 8.5)  # 1.5 h after the upload
    ledger.train(2, 2, 8.0)  # uploaded at 7
    facts = ledger.release(2, 2, 10.5)  # approved two hours after its registration at 8.5
    ledger.add("release_advanced", 2, 16.5, **facts, weight=0.5)
    ledger.promote(2, 1, 2, 20.5, release_id="r-2")
    ledger.add("release_completed", 2, 20.5, **facts)
    ledger.train(3, 5, 8.0)
    ledger.promote(3, 2, 5, 8.5)
    ledger.roll_back(2, 3, 6, 12.0)
    ledger.resolve("i-1", 3, 6.6, since=6, opened=6.25)
    ledger.train(4, 8, 0.0)
    bad = ledger.release(4, 8, 1.0, baseline=2)
    ledger.add("release_rolled_back", 8, 4.0, **bad, guard="errors")

    metrics = ledger.metrics()
    assert (metrics.deployments, metrics.deployments_a_week) == (3, 0.75)
    assert metrics.lead_time == Durations(3, 1.5 * HOUR)
    second = ledger.changes()[1].lead
    assert second.seconds == 9.5 * HOUR
    assert [getattr(second, part) for part in PARTS] == [1 * HOUR, 0.5 * HOUR, 2 * HOUR, 6 * HOUR]
    assert (metrics.changes, metrics.failed, metrics.failure_rate) == (4, 2, 0.5)
    # Wilson's interval: 0.5 -+ 1.96 / (1 + 0.9604) * sqrt(0.0625 + 0.0600).
    assert (metrics.failure_low, metrics.failure_high) == pytest.approx((0.150, 0.850), abs=5e-4)
    # Restored 12 h after the incident's first window, and 3 h after the release began.
    assert metrics.restore_time == Durations(2, 7.5 * HOUR)
    assert metrics.sentences == {
        "deployment_frequency": "3 deployments in 28 days: 0.75 a week",
        "lead_time": "median 1 h 30 min, of 3 (median of each part: waiting 1 h, training 30 min, approval 0 s, "
        "release 0 s)",
        "change_failure_rate": "2 of 4 changes failed: 50 %, so few that the rate may be anything from 15 % to 85 %",
        "time_to_restore": "median 7 h 30 min, of 2",
    }


def test_without_a_change_there_is_no_rate(ledger):
    ledger.train(1, 1)
    metrics = ledger.metrics()
    assert (metrics.deployments, metrics.failure_rate, metrics.failure_low, metrics.lead_time.n) == (0, None, None, 0)
    assert list(metrics.sentences.values()) == [
        "no deployment in 28 days",
        "no deployment, so no lead time",
        "no change, so no rate",
        "no failure to restore from",
    ]


def test_a_rollback_is_no_deployment_and_blames_no_other_window(ledger):
    ledger.roll_back(1, 2, 3)
    ledger.roll_back(0, 1, 4)
    assert ledger.changes() == []


def test_a_failure_that_nothing_restored_goes_on(ledger):
    ledger.promote(1, None, 1)
    kind = {"cause_id": "c", "kind": "quality", "incident_ids": ["i-1"]}
    ledger.add("trigger_deferred", 3, **kind, waits_for="run")
    (change,) = ledger.changes()
    assert (change.failure.kind, change.failure.incident_id, change.failure.restored_at) == ("incident", "i-1", None)
    assert ledger.metrics().sentences["time_to_restore"] == "1 failure not restored yet"


def test_the_next_champion_restores_what_the_last_one_broke(ledger):
    ledger.promote(1, None, 1)
    ledger.resolve("i-1", 1, 9, since=3, opened=3.5, event="ServingDegraded")
    ledger.promote(2, 1, 4)
    first, second = ledger.changes()
    assert (first.failure.kind, first.failure.seconds) == ("incident", 24 * HOUR)
    assert second.failure is None


def test_a_resolution_restores_where_the_champion_stays(ledger):
    ledger.promote(1, None, 1)
    ledger.resolve("i-1", 1, 5, since=3, opened=3.5)
    (change,) = ledger.changes()
    assert change.failure.seconds == 48 * HOUR


@pytest.mark.parametrize(
    ("incident", "why"),
    [
        ({"version": 1, "since": 1.5, "opened": 8}, "later than seven days"),
        ({"version": 2, "since": 2, "opened": 3}, "of another version"),
        ({"version": 1, "since": 2, "opened": 3, "event": "DriftDetected"}, "drifting data are no fault of a version"),
    ],
)
def test_an_incident_that_the_deployment_did_not_cause(ledger, incident, why):
    ledger.promote(1, None, 1)
    ledger.resolve("i-1", day=12, **incident)
    assert [change.failure for change in ledger.changes()] == [None], why


def test_an_incident_from_before_the_deployment_is_the_last_champions(ledger):
    ledger.promote(1, None, 1)
    ledger.resolve("i-1", None, 6, since=1, opened=2)
    ledger.promote(2, 1, 3)
    assert [change.failure is not None for change in ledger.changes()] == [True, False]


def test_a_release_that_another_promotion_supersedes_counts_neither_way(ledger):
    ledger.train(2, 1)
    facts = ledger.release(2, 2)
    ledger.train(3, 3)
    ledger.promote(3, 1, 4, release_id="r-2")
    ledger.add("release_superseded", 4, **facts)
    (change,) = ledger.changes()
    assert (change.version, change.release_id, change.failure) == (3, None, None)
    # From the upload an hour before the run on day 3 to the promotion.
    assert change.lead.seconds == 25 * HOUR


@pytest.mark.parametrize("action", ["release_aborted", "release_expired"])
def test_a_release_that_people_or_time_ended_changed_nothing(ledger, action):
    ledger.add(action, 3, **ledger.release(2, 2))
    assert ledger.changes() == []


def test_a_version_that_served_before_has_no_lead_time(ledger):
    ledger.train(1, 1)
    ledger.promote(1, None, 2)
    ledger.train(2, 3)
    ledger.promote(2, 1, 4)
    ledger.add("model_promoted", 5, actor="ada", alias="champion", from_version=2, to_version=1)
    assert [change.lead is None for change in ledger.changes()] == [False, False, True]
    assert "does not say when the data of 1 deployment came" in ledger.metrics().sentences["lead_time"]


def test_a_challenger_that_a_person_promotes_waited_for_that_decision(ledger):
    ledger.train(1, 1, waited=0.0)
    ledger.add("alias_moved", 1, 0.5, alias="challenger", from_version=None, to_version=1)
    ledger.promote(1, None, 3, 0.5)
    (change,) = ledger.changes()
    assert (change.lead.approval, change.lead.release) == (48 * HOUR, 0.0)


def test_entries_of_earlier_releases_have_the_time_of_their_trigger(ledger):
    ledger.add("trigger_deferred", 1, 6.0, cause_id="late", kind="upload", waits_for="run-0")
    ledger.add("trigger_deferred", 1, 4.0, cause_id="early", kind="upload", waits_for="run-0")
    ledger.add("run_requested", 1, 8.0, run_id="run-1", cause_ids=["early", "late"])
    ledger.add("model_registered", 1, 8.5, version=1, run_id="run-1")
    ledger.promote(1, None, 1, 9.0)
    ledger.train(2, 2, uploaded=False)
    ledger.promote(2, 1, 2, 1.0)
    first, second = (change.lead for change in ledger.changes())
    assert (first.seconds, first.waiting) == (3 * HOUR, 2 * HOUR)
    assert (second.seconds, second.waiting) == (1 * HOUR, 0.0)


def test_a_run_without_an_upload_that_the_ledger_knows_has_no_lead_time(ledger):
    ledger.add("run_requested", 1, run_id="run-1", cause_id="c", kind="schedule")
    ledger.add("model_registered", 2, version=1, run_id="run-1")
    ledger.promote(1, None, 3)
    ledger.promote(9, 1, 4)  # registered before what was read
    assert [change.lead for change in ledger.changes()] == [None, None]
    assert ledger.metrics().sentences["lead_time"].startswith("not known; the ledger does not say")


def test_the_window_leaves_out_what_is_before_and_after_it(ledger):
    ledger.train(1, -5)
    ledger.promote(1, None, -4)
    ledger.promote(2, 1, 1)
    ledger.promote(3, 2, 28, 23.9)
    ledger.promote(4, 3, 29)
    assert [change.version for change in ledger.changes()] == [2, 3]
    # What happened later still tells how a change ended.
    ledger.roll_back(3, 4, 29.5)
    assert [change.version for change in ledger.changes(until=UNTIL + timedelta(days=2))] == [2, 3, 4]


def test_a_deleted_model_ends_the_time_of_its_champion(ledger):
    ledger.promote(1, None, 1)
    ledger.add("model_deleted", 2, from_version=1)
    ledger.resolve("i-1", 1, 5, since=3, opened=3)
    assert [change.failure for change in ledger.changes()] == [None]


def test_a_rollback_without_an_incident_counts_from_the_deployment(ledger):
    ledger.promote(1, None, 1)
    ledger.promote(2, 1, 2)
    ledger.roll_back(1, 2, 3)
    assert [change.failure and change.failure.seconds for change in ledger.changes()] == [None, 24 * HOUR]


def test_models_are_measured_together_as_one_list_of_changes(ledger):
    other = Ledger("ltv")
    for one in (ledger, other):
        one.promote(1, None, 1)
    other.promote(2, 1, 2)
    other.roll_back(1, 2, 3)
    metrics = measure_changes([*ledger.changes(), *other.changes()], SINCE, UNTIL)
    assert (metrics.deployments, metrics.changes, metrics.failed) == (3, 3, 1)


def test_a_skipped_trigger_of_an_incident_names_it_as_well(ledger):
    ledger.promote(1, None, 1)
    ledger.add("run_requested", 2, cause_id="c", kind="latency", incident_ids=["i-1"])
    entry = ledger.entries.pop()

    class Cause:
        reason = "slow"

    ledger.entries.append(trigger_skipped(entry, Cause, "the spec leaves it out"))
    assert [change.failure.incident_id for change in ledger.changes()] == ["i-1"]


def test_the_90th_percentile_needs_ten():
    assert summarize([3.0, 1.0]) == Durations(2, 2.0)
    assert summarize(map(float, range(9))).p90 is None
    assert summarize(map(float, range(1, 11))) == Durations(10, 5.5, 9.0)
