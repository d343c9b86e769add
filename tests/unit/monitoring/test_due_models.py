"""Due models: an hourly check starts work for them alone, and reports nothing later than a run every hour does."""

from datetime import timedelta

import numpy as np
import pytest
from millrace.captures.activity import list_activity, mark_activity
from millrace.monitoring.due_models import begin_check, find_due_models, finish_check, start_monitoring
from millrace.monitoring.monitor import IDLE_OUTCOMES, deliver_alerts, load_state
from millrace.names import CHAMPION
from millrace.spec import ModelSpec

from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import make_entry, make_version, point_alias
from tests.unit.monitoring.served import MODEL, START, Served

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = START + timedelta(hours=10, minutes=7)


@pytest.fixture
def registry():
    registry = MemoryRegistry()
    registry.put_spec(MODEL, ModelSpec())
    return registry


def check(registry, at=NOW, *, next_at=None, idle="", own_schedule=False):
    mark = begin_check(registry.store, MODEL, at).mark
    return finish_check(registry.store, MODEL, mark, next_at, idle=idle, own_schedule=own_schedule)


def due(registry, at):
    return find_due_models(registry.store, at).names


class TestDue:
    def test_a_model_that_was_never_monitored_is_due(self, registry):
        found = find_due_models(registry.store, NOW)
        assert (found.names, found.known, found.new) == ((MODEL,), 1, 1)

    def test_a_monitored_model_is_due_when_time_may_change_something_and_not_before(self, registry):
        check(registry, next_at=NOW + DAY)
        assert due(registry, NOW + HOUR) == ()
        assert due(registry, NOW + DAY - timedelta(seconds=1)) == ()
        assert due(registry, NOW + DAY) == (MODEL,)

    @pytest.mark.parametrize("kind", ["traffic", "feedback"])
    def test_a_model_with_new_rows_is_due_until_a_run_began_after_them(self, registry, kind):
        check(registry, next_at=NOW + 9 * DAY)
        mark_activity(registry.store, [MODEL], kind, NOW + timedelta(minutes=20), {})
        assert due(registry, NOW + HOUR) == (MODEL,)
        check(registry, NOW + HOUR, next_at=NOW + 9 * DAY)
        assert due(registry, NOW + 2 * HOUR) == ()

    @pytest.mark.parametrize("idle", sorted(IDLE_OUTCOMES))
    def test_traffic_of_an_idle_model_starts_nothing(self, registry, idle):
        check(registry, idle=idle)
        mark_activity(registry.store, [MODEL], "traffic", NOW + HOUR, {})
        assert due(registry, NOW + 99 * DAY) == ()

    def test_a_model_with_its_own_schedule_is_left_to_it(self, registry):
        check(registry, next_at=NOW, own_schedule=True)
        mark_activity(registry.store, [MODEL], "traffic", NOW + HOUR, {})
        assert due(registry, NOW + 99 * DAY) == ()

    def test_a_run_that_dies_leaves_its_model_due(self, registry):
        check(registry, next_at=NOW + 9 * DAY)
        begin_check(registry.store, MODEL, NOW + HOUR)
        assert due(registry, NOW + 2 * HOUR) == (MODEL,)

    def test_requests_for_unknown_models_start_nothing(self, registry):
        mark_activity(registry.store, ["nobody"], "traffic", NOW, {})
        assert due(registry, NOW + HOUR) == (MODEL,)

    def test_whoever_waited_longest_comes_first(self, registry):
        for number, model in enumerate(["zeta", "beta", MODEL]):
            registry.put_spec(model, ModelSpec())
            mark = begin_check(registry.store, model, NOW + number * HOUR).mark
            finish_check(registry.store, model, mark, NOW + number * HOUR, own_schedule=False)
        registry.put_spec("new", ModelSpec())
        assert due(registry, NOW + DAY) == ("new", "zeta", "beta", MODEL)


CHANGES = {
    "another champion": lambda registry: point_alias(registry, CHAMPION, 1, MODEL, NOW + HOUR),
    "another spec": lambda registry: registry.put_spec(MODEL, ModelSpec(seed=1), make_entry("s", MODEL, NOW + HOUR)),
}


@pytest.mark.parametrize("change", CHANGES)
class TestChanges:
    @pytest.fixture
    def changing(self, registry):
        registry.put_version(make_version(1, MODEL), make_entry("v1", MODEL))
        return registry

    def test_makes_a_model_due(self, changing, change):
        check(changing, next_at=NOW + 9 * DAY)
        CHANGES[change](changing)
        assert due(changing, NOW + 2 * HOUR) == (MODEL,)

    def test_wakes_an_idle_model(self, changing, change):
        check(changing, idle="not_serving")
        CHANGES[change](changing)
        assert due(changing, NOW + 2 * HOUR) == (MODEL,)

    def test_during_a_run_is_not_lost(self, changing, change):
        mark = begin_check(changing.store, MODEL, NOW).mark
        CHANGES[change](changing)
        assert not finish_check(changing.store, MODEL, mark, NOW + 9 * DAY, own_schedule=False)
        assert due(changing, NOW + 2 * HOUR) == (MODEL,)


def test_a_schedule_in_the_spec_takes_a_model_from_the_hourly_check_and_gives_it_back(registry):
    for number, (schedule, found) in enumerate([("rate(5 minutes)", ()), (None, (MODEL,))]):
        spec = ModelSpec.parse({"monitoring": {"schedule": schedule}})
        registry.put_spec(MODEL, spec, make_entry(f"s{number}", MODEL, NOW + number * HOUR))
        assert due(registry, NOW + DAY) == found


def test_hundreds_of_models_are_started_in_batches_and_twice_is_once():
    pipeline, models = MemoryMonitoring(), [f"m{number}" for number in range(600)]
    assert [start_monitoring(models, pipeline, NOW) for _ in range(2)] == [3, 3]
    assert [model for model, _ in pipeline.started] == models
    assert {name for _, name in pipeline.started} == {f"due-20260503T100700-00{number}" for number in range(3)}


class Channel:
    """A bus that keeps what it hears."""

    def __init__(self):
        self.events = []

    def publish(self, events):
        self.events += [(event.detail_type, event.occurred_at, event.detail["request"]) for event in events]

    def notify(self, subject, message):
        pass


class Hourly:
    """A served model whose monitor runs every hour, or only when it is due."""

    def __init__(self, spec, *, only_when_due):
        self.served, self.channel, self.only_when_due = Served(ModelSpec.parse(spec)), Channel(), only_when_due
        self.memory = {}

    @property
    def store(self):
        return self.served.registry.store

    def capture(self, hour, delivered=None, **more):
        rows = self.served.capture(hour, **more)
        hour = hour if delivered is None else delivered
        kinds = ["traffic", "feedback"] if more.get("feedback") else ["traffic"]
        for kind in kinds:
            mark_activity(self.store, [MODEL], kind, START + timedelta(hours=hour + 0.9), self.memory)
        return rows

    def report(self, rows, hour):
        self.served.report([row.prediction_id for row in rows], ["yes"] * len(rows), hour)
        mark_activity(self.store, [MODEL], "feedback", START + timedelta(hours=hour), self.memory)

    def run(self, hour):
        now = START + timedelta(hours=hour)
        if self.only_when_due and not find_due_models(self.store, now).names:
            return
        mark, is_active, _ = begin_check(self.store, MODEL, now)
        outcome = self.served.monitor(hour, is_active=is_active)
        deliver_alerts(MODEL, self.served.data, self.channel, self.channel)
        finish_check(self.store, MODEL, mark, outcome.next_check_at, own_schedule=False)


def silent_after_a_day(world, hour):
    if hour < 26:
        world.capture(hour, rows=5)


def nothing_at_all(world, hour):
    pass


def one_row(world, hour):
    if hour == 3:
        world.capture(hour, rows=1)


def silence_ends_with_one_request(world, hour):
    if hour < 24 or hour == 60:
        world.capture(hour, rows=5 if hour < 24 else 1)


def late_outcomes(world, hour):
    if hour < 3:
        rows = world.capture(hour, rows=220)
        world.report(rows[: 60 + hour], hour + 1.5)


def a_shift_that_comes_and_goes(world, hour):
    if hour < 20:
        world.capture(hour, age_shift=1.0 if hour in (3, 4, 5) or hour > 14 else 0.0, feedback=hour % 3 == 0)


def rows_that_are_delivered_late(world, hour):
    if hour in (2, 33):
        world.capture(hour - 12 if hour > 12 else hour, rows=250, delivered=hour)


def at_random(seed):
    def act(world, hour):
        draw = np.random.default_rng(seed * 1_000 + hour)
        if draw.random() < 0.15:
            world.capture(hour, rows=int(draw.choice([1, 60, 400])), age_shift=float(draw.choice([0.0, 1.0])))

    return act


STALE = {"monitoring": {"staleness": {"max_model_age_days": 2}}, "retraining": {"cooldown_hours": 30}}
SCENARIOS = {
    "silence": ({}, silent_after_a_day, 60),
    "age": (STALE, nothing_at_all, 80),
    "a window that time closes": ({}, one_row, 40),
    "silence that ends": ({}, silence_ends_with_one_request, 70),
    "outcomes that settle": ({"monitoring": {"live_quality": {"settle_hours": 48}}}, late_outcomes, 60),
    "an incident that comes back": ({"monitoring": {"cooldown_hours": 30}}, a_shift_that_comes_and_goes, 50),
    "late delivery": ({}, rows_that_are_delivered_late, 60),
    "random 1": (STALE, at_random(1), 60),
    "random 2": ({"monitoring": {"max_window_hours": 5}}, at_random(2), 60),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_reported_later_than_by_a_run_every_hour(scenario):
    spec, act, hours = SCENARIOS[scenario]
    worlds = [Hourly(spec, only_when_due=one) for one in (False, True)]
    for world in worlds:
        for hour in range(hours):
            act(world, hour)
            world.run(hour + 1 + 7 / 60)
    always, due_only = worlds
    assert due_only.channel.events == always.channel.events
    histories = [[(one.begin, one.end, one.rows) for one in state.traffic.windows] for state in states(worlds)]
    assert histories[0] == histories[1]
    assert len({str(state.outcomes.quality) for state in states(worlds)}) == 1 or scenario != "outcomes that settle"
    assert due_only.served.runs < always.served.runs


def states(worlds):
    return [load_state(MODEL, world.served.data)[0] for world in worlds]


def test_a_model_at_rest_is_monitored_once_a_week():
    world = Hourly({}, only_when_due=True)
    for hour in range(24 * 30):
        world.run(hour + 7 / 60)
    assert world.served.runs == 2 + 4, "by its new champion and on the day after, and then once a week"
    (activity,) = list_activity(world.store)
    assert activity.due_at is not None


def test_a_model_with_a_budget_is_monitored_every_day():
    world = Hourly({"budget": {"usd_a_month": 20}}, only_when_due=True)
    for hour in range(24 * 4):
        world.run(hour + 7 / 60)
    assert world.served.runs == 4
