"""One alert for an incident, one for its end, and silence otherwise."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from millrace.documents import from_plain, to_plain
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec

START = datetime(2026, 5, 3, tzinfo=UTC)
SPEC = MonitoringSpec()


def finding(status, verdict="feature_drift", subject="age"):
    return WindowFinding(verdict, subject, status, f"{subject} is {status}")


DAY = timedelta(days=1)


def run(statuses, spec=SPEC, history=None, *, start=0, repeat_after=DAY, version=3):
    """One window an hour; a status, or a list of findings."""
    history, told = history or IncidentHistory(), []
    for hour, status in enumerate(statuses, start):
        begin = START + timedelta(hours=hour)
        findings = [finding(status)] if isinstance(status, str) else status
        history, steps = advance(
            history,
            findings,
            spec,
            model="churn",
            version=version,
            window=(begin, begin + timedelta(hours=1)),
            repeat_after=repeat_after,
        )
        # Everything has to survive storage between two windows.
        history = from_plain(IncidentHistory, to_plain(history))
        told += [(hour, step.step, step.incident.event) for step in steps]
    return history, told


def test_one_breach_is_nothing():
    assert run(["ok", "breach", "ok", "ok", "breach", "ok"])[1] == []


def test_two_breaches_of_three_open_one_incident_and_it_goes_on_silently():
    history, told = run(["breach", "ok", "breach", "breach", "breach"])
    assert told == [(2, "opened", "DriftDetected")]
    incident = history.incidents["DriftDetected"]
    assert incident.since == START
    assert incident.opened_at == START + timedelta(hours=3)
    assert incident.is_open


def test_it_is_resolved_after_two_quiet_windows():
    history, told = run(["breach", "breach", "ok", "breach", "ok", "ok", "ok"])
    assert told == [(1, "opened", "DriftDetected"), (5, "resolved", "DriftDetected")]
    assert not history.open_incidents()


def test_what_is_unknown_neither_alarms_nor_calms():
    _, told = run(["breach", "unknown", "unknown", "unknown", "breach"])
    assert told == [(4, "opened", "DriftDetected")]
    _, told = run(["breach", "breach", "unknown", "unknown", "unknown"])
    assert told == [(1, "opened", "DriftDetected")]


def test_a_verdict_that_was_not_judged_does_not_end_an_incident():
    other = [finding("ok", "live_quality", "quality")]
    _, told = run(["breach", "breach", other, other, other])
    assert told == [(1, "opened", "DriftDetected")]


def test_what_a_verdict_no_longer_lists_is_in_order():
    pair, rest = finding("breach", "dependence", "a and b"), finding("ok", "dependence", "every other pair")
    _, told = run([[pair], [pair], [rest], [rest]])
    assert told == [(1, "opened", "DriftDetected"), (3, "resolved", "DriftDetected")]


def test_subjects_of_one_event_are_one_incident():
    both = [finding("breach"), finding("breach", "prediction_drift", "label")]
    only = [finding("ok"), finding("breach", "prediction_drift", "label")]
    none = [finding("ok"), finding("ok", "prediction_drift", "label")]
    history, told = run([both, both, only, only, only])
    assert told == [(1, "opened", "DriftDetected")]
    assert set(history.incidents["DriftDetected"].findings) == {"feature_drift:age", "prediction_drift:label"}
    assert run([none, none], history=history, start=5)[1] == [(6, "resolved", "DriftDetected")]


def test_different_events_are_different_incidents():
    both = [finding("breach"), finding("breach", "live_quality", "quality")]
    assert run([both, both])[1] == [(1, "opened", "DriftDetected"), (1, "opened", "QualityDegraded")]


def test_one_window_needs_as_many_breaches_of_one_subject():
    _, told = run(
        [[finding("breach", subject="a")], [finding("breach", subject="b")], [finding("breach", subject="c")]]
    )
    assert told == []


def test_within_the_cooldown_nobody_is_told_again_until_it_is_over():
    flapping = ["breach", "breach", "ok", "ok", "breach", "breach", "ok", "ok"]
    history, told = run(flapping)
    assert told == [(1, "opened", "DriftDetected"), (3, "resolved", "DriftDetected")]
    # Resolved at 4:00 (hour 3's end) with a cooldown of a day: what is open still at 28:00 is told of then.
    _, told = run(["breach"] * 30, history=history, start=8)
    assert told == [(27, "opened", "DriftDetected")]


def test_what_came_back_within_the_cooldown_and_is_quiet_after_it_is_not_notified_until_it_is_in_breach():
    back = ["breach"] * 2 + ["ok"] * 2 + ["ok"] * 16 + ["breach"] * 7  # resolved, and back before the day is over
    _, told = run([*back, "ok", "ok", "breach"])
    assert told == [(1, "opened", "DriftDetected"), (3, "resolved", "DriftDetected"), (29, "opened", "DriftDetected")]
    assert told[:2] == run([*back, *["ok"] * 300])[1]


def test_the_cooldown_holds_each_time_that_an_incident_comes_back():
    """Two windows are in breach and three are not: a day holds one alert and one end at most."""
    flapping = [[finding("breach", "data_quality")]] * 2 + [[finding("ok", "data_quality")]] * 3
    _, told = run(flapping * 34)
    assert sum(step == "opened" for _, step, _ in told) <= 7
    assert sum(step == "resolved" for _, step, _ in told) <= 7
    hours = [hour for hour, step, _ in told if step == "opened"]
    assert min(later - sooner for sooner, later in pairwise(hours)) >= 24


FLAPPING = (["breach"] * 7 + ["ok"] * 5) * 14


def test_what_lasts_for_hours_and_pauses_is_one_incident():
    """A shift that shows by day and not at night opened and closed an incident a day."""
    history, told = run(FLAPPING, repeat_after=timedelta(days=900))
    assert told == [(1, "opened", "DriftDetected")]
    (incident,) = history.open_incidents()
    assert incident.is_quiet
    silent = run(["ok"] * 6, history=history, start=len(FLAPPING), repeat_after=timedelta(hours=1))[1]
    assert silent == [], "while it is quiet it requests no training"


def quiet_hours(lasted, *, version=3, quiet="ok"):
    """Hours without a breach after which an incident of so many hours ends; None where it does not in 29 days."""
    history, _ = run(["breach"] * lasted, repeat_after=timedelta(days=900))
    _, told = run([quiet] * 24 * 29, history=history, start=lasted, version=version, repeat_after=timedelta(days=900))
    return next((hour - lasted + 1 for hour, step, _ in told if step == "resolved"), None)


def test_what_lasted_ends_after_a_quiet_week_and_a_day_or_as_long_as_it_lasted():
    assert [quiet_hours(hours) for hours in (2, 5, 6, 192, 300, 800)] == [2, 2, 192, 192, 300, 28 * 24]
    assert quiet_hours(300, version=4) == 2, "another version ends it at once"
    assert quiet_hours(300, quiet=[finding("unknown")]) is None
    off = MonitoringSpec.model_validate({"feature_drift": {"enabled": False}})
    history, _ = run(["breach"] * 48)
    assert run(["ok"], off, history=history, start=48)[1] == [(48, "resolved", "DriftDetected")]


def test_hours_and_weekdays_of_a_first_week_end_at_once():
    """A version knows its weekdays once it has seen them."""
    history, begun_at = IncidentHistory(), START
    for hour in range(10):
        status = "breach" if hour < 8 else "ok"
        window = (START + timedelta(hours=hour), START + timedelta(hours=hour + 1))
        history, _ = advance(
            history,
            [finding(status)],
            SPEC,
            model="churn",
            version=3,
            window=window,
            repeat_after=DAY,
            begun_at=begun_at,
        )
    assert history.incidents["DriftDetected"].resolved_at == START + timedelta(hours=10)


def test_something_else_in_a_quiet_incident_is_an_incident_of_its_own():
    """An old incident that is quiet does not hide a new one; within the cooldown they are one."""
    old, _ = run(["breach"] * 30 + ["ok"] * 30, repeat_after=timedelta(days=900))
    other = [[finding("breach", subject="fare")]] * 2
    history, told = run(other, history=old, start=60, repeat_after=timedelta(days=900))
    assert [step for _, step, _ in told] == ["resolved", "opened"]
    assert set(history.incidents["DriftDetected"].findings) == {"feature_drift:fare"}
    assert history.incidents["DriftDetected"].incident_id != old.incidents["DriftDetected"].incident_id
    assert run(["breach"] * 2, history=old, start=60, repeat_after=timedelta(days=900))[1] == []
    soon, _ = run(["breach"] * 30 + ["ok"] * 10, repeat_after=timedelta(days=900))
    history, told = run(other, history=soon, start=40, repeat_after=timedelta(days=900))
    assert told == []
    assert len(history.incidents["DriftDetected"].findings) == 2


def quality(subject, status="breach", hours=None):
    details = {"hours": hours} if hours else {}
    return [WindowFinding("live_quality", subject, status, f"{subject} is {status}", details=details)]


def test_a_breach_of_the_last_day_lasted_a_day_and_ends_after_a_quiet_week():
    """Windows of an hour share 23 hours of the days that end with them: that two are in order shows little."""
    quiet = [quality("mae", "ok")] * 25
    bad_day = [quality("mae", hours=24.0)] * 3
    history, told = run([*bad_day, *quiet, *bad_day], repeat_after=900 * DAY)
    assert [step for _, step, _ in told] == ["opened"], "the next day is in breach too"
    _, told = run([quality("mae", "ok")] * 9 * 24, history=history, start=31, repeat_after=900 * DAY)
    assert told == [(31 + 8 * 24 - 1, "resolved", "QualityDegraded")]
    _, told = run([*[quality("mae")] * 3, *quiet])
    assert [step for _, step, _ in told] == ["opened", "resolved"], "that of an hour is over"


def test_metrics_of_live_quality_are_one_subject():
    history, _ = run([quality("mean_error", hours=24.0)] * 3 + [quality("mean_error", "ok")] * 30)
    assert run([quality("rmse", hours=24.0)] * 3, history=history, start=33, repeat_after=900 * DAY)[1] == []
    other = [WindowFinding("concept_drift", "relation", "breach", "another")]
    assert [step for _, step, _ in run([other] * 3, history=history, start=33)[1]] == ["resolved", "opened"]


def test_what_comes_back_of_the_incident_before_is_part_of_the_one_in_its_place():
    old, _ = run(["breach"] * 30 + ["ok"] * 30, repeat_after=timedelta(days=900))
    fare, age = finding("breach", subject="fare"), finding("breach")
    history, _ = run(
        [[fare]] * 8 + [[finding("ok", subject="fare")]] * 30, history=old, start=60, repeat_after=20 * DAY
    )
    assert history.incidents["DriftDetected"].is_quiet
    history, told = run([[age]] * 2, history=history, start=98, repeat_after=20 * DAY)
    assert told == []
    assert list(history.incidents["DriftDetected"].findings) == ["feature_drift:fare", "feature_drift:age"]
    another = [[finding("breach", subject="third")]] * 2
    quiet, _ = run(["ok"] * 30, history=history, start=100, repeat_after=20 * DAY)
    assert [step for _, step, _ in run(another, history=quiet, start=130)[1]] == ["resolved", "opened"]


def test_time_alone_does_not_end_a_lasting_incident():
    """Between two windows of its rows, runs evaluate the service alone."""
    history, _ = run(["breach"] * 48 + ["ok"] * 3)
    other = [finding("ok", "staleness", "age of the model")]
    history, told = run([other] * 200, history=history, start=51, repeat_after=timedelta(days=900))
    assert told == []
    assert run(["ok"], history=history, start=251)[1] == [(251, "resolved", "DriftDetected")]


def test_drift_lasts_as_long_as_the_loss_of_quality_that_it_overlaps():
    """Inputs of a change come and go; its effect on quality says that it lasts."""
    loss, fine = finding("breach", "live_quality", "rmse"), finding("ok", "live_quality", "rmse")
    calm, other = finding("ok"), finding("breach", subject="fare")
    history, told = run([[finding("breach"), loss]] * 8 + [[calm, loss]] * 400, repeat_after=900 * DAY)
    assert [step for _, step, _ in told] == ["opened", "opened"]
    # Other features join it, and what ends with the loss ends once.
    history, told = run([[other, loss]] * 8 + [[calm, loss]] * 30, history=history, start=408, repeat_after=900 * DAY)
    assert told == []
    assert len(history.incidents["DriftDetected"].findings) == 2
    history, told = run([[calm, fine]] * 30 * 24, history=history, start=446, repeat_after=900 * DAY)
    assert [(step, event) for _, step, event in told] == [
        ("resolved", "DriftDetected"),
        ("resolved", "QualityDegraded"),
    ]
    # Without the loss, both are incidents of their own.
    _, told = run([[finding("breach")]] * 8 + [[calm]] * 400 + [[other]] * 8, repeat_after=900 * DAY)
    assert [step for _, step, _ in told] == ["opened", "resolved", "opened"]


def test_a_short_loss_of_quality_or_one_of_another_version_does_not_prolong_drift():
    loss, fine = finding("breach", "live_quality", "rmse"), finding("ok", "live_quality", "rmse")
    calm = finding("ok")
    _, told = run([[finding("breach"), loss]] * 4 + [[calm, fine]] * 10, repeat_after=900 * DAY)
    assert [step for _, step, _ in told] == ["opened", "opened", "resolved", "resolved"]
    history, _ = run([[finding("breach"), loss]] * 8, repeat_after=900 * DAY)
    _, told = run([[calm, loss]] * 4, history=history, start=8, version=4, repeat_after=900 * DAY)
    assert [(step, event) for _, step, event in told] == [("resolved", "DriftDetected")]


def test_without_a_cooldown_it_is_a_new_incident():
    spec = MonitoringSpec(cooldown_hours=0.0)
    history, told = run(["breach", "breach", "ok", "ok", "breach", "breach"], spec)
    assert [step for _, step, _ in told] == ["opened", "resolved", "opened"]
    first = run(["breach", "breach"], spec)[0].incidents["DriftDetected"].incident_id
    assert history.incidents["DriftDetected"].incident_id != first


def test_staleness_needs_no_second_window():
    old = [finding("breach", "staleness", "age of the model")]
    assert run([old, old])[1] == [(0, "opened", "ModelStale")]


def test_what_goes_on_is_said_again_after_a_rest_under_the_same_incident():
    history, told = run(["breach"] * 8 + ["ok"] * 8, repeat_after=timedelta(hours=3))
    assert [step for _, step, _ in told] == ["opened", "persists", "persists"]
    assert [hour for hour, _, _ in told] == [1, 4, 7]
    assert history.incidents["DriftDetected"].requests == 3


def test_a_verdict_from_two_sources_is_calmed_only_by_its_own():
    selection, accuracy = finding("breach", "bias", "sex: selection"), finding("ok", "bias", "sex: accuracy")
    _, told = run([[selection], [selection], [accuracy], [accuracy], [accuracy]])
    assert told == [(1, "opened", "QualityDegraded")]


def test_a_subject_that_the_next_version_does_not_have_ends_with_its_version():
    history, _ = run([[finding("breach", subject="gone")]] * 2)
    _, told = run([[finding("ok", subject="age")]] * 2, history=history, start=2, version=4)
    assert told == [(3, "resolved", "DriftDetected")]
