"""Pages of the console over the API's own routes: what they show, with few calls, whatever names come."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.documents import to_plain
from millrace.errors import MillraceError
from millrace_cli.console import app as console_app
from millrace_cli.console.pages.runs import describe_gains, describe_leaderboard, describe_outcome, describe_steps

from tests.console_world import DIFFERENCE, ConsoleWorld
from tests.registry_builders import MODEL, NOW, make_cause, make_entry, make_run, make_trial, point_alias

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"
DATASET = "ab" * 32
#: Elements without content.
VOID = {"meta", "link", "input", "br", "img", "hr"}


@pytest.fixture(scope="module")
def world() -> ConsoleWorld:
    world = ConsoleWorld(allows_actions=True)
    world.start(2)
    return world


def addresses(world: ConsoleWorld) -> dict[str, str]:
    return {
        "home": "/",
        "operations": "/operations",
        "upload": "/upload",
        "model": "/models/churn",
        "runs": "/models/churn/runs",
        "run": f"/models/churn/runs/{world.first_run_id}",
        "versions": "/models/churn/versions",
        "version": "/models/churn/versions/2",
        "try": "/models/churn/versions/1/try",
        "comparison": "/models/churn/compare?left=1&right=2",
        "datasets": "/models/churn/data",
        "dataset": f"/models/churn/data/{DATASET}",
        "monitoring": "/models/churn/monitoring",
        "protocol": "/models/churn/incidents/1032fa24",
        "releases": "/models/churn/releases",
        "release": "/models/churn/releases/active",
        "batches": "/models/churn/batches",
        "ledger": "/models/churn/ledger",
        "maturity": "/models/churn/maturity",
        "action": "/models/churn/actions/promote?version=2",
    }


class Outline(HTMLParser):
    """Checks that elements close, ids are unique, and every control has a name."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.faults: list[str] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.append(given["id"])
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "script":
            self.scripts.append(given.get("src", "inline"))
        if "style" in given or any(name.startswith("on") for name in given):
            self.faults.append(f"{tag} has a style or a handler of its own")
        hidden = given.get("type") == "hidden"
        if tag in ("input", "select", "textarea") and not hidden and "label" not in self.open:
            self.faults.append(f"{tag} {given.get('name')} has no label")
        if tag == "svg" and not ("aria-label" in given or given.get("aria-hidden") == "true"):
            self.faults.append("a picture has no description")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes another element")


PAGES = sorted(addresses(type("W", (), {"first_run_id": ""})()))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_takes_three_calls_at_most(world, name):
    response = world.get(addresses(world)[name])
    assert response.status_code == 200, response.text[:3000]
    assert len(world.paths) <= 3, world.paths
    outline = Outline()
    outline.feed(response.text)
    assert outline.faults == []
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.scripts == ["/static/page.js", "/static/console.js"]


def test_the_home_page_says_what_needs_somebody(world):
    page = world.get("/").text
    assert "1 open incident" in page
    assert "version 1" in page
    assert "9 failed" in page
    assert '<a href="/models/churn">churn</a>' in page
    assert world.paths == ["GET /overview", "GET /cost"] or sorted(world.paths) == ["GET /cost", "GET /overview"]


def test_three_hundred_models_are_shown_fifty_at_a_time_with_two_calls():
    world = ConsoleWorld()
    for number in range(300):
        model = f"m{number:03d}-{'x' * 50}"
        cause = make_cause("a.csv", model)
        world.registry.claim_cause(cause, make_run(cause), make_entry(cause.cause_id, model))
    seen: list[str] = []
    path = "/"
    for _ in range(8):
        page = world.get(path).text
        assert len(world.paths) <= 3
        seen += re.findall(r'<th scope="row"><a href="/models/([^"/]+)"', page)
        following = re.search(r'href="(/\?after=[^"]+)"', page)
        if not following:
            break
        path = following[1]
    assert len(seen) == len(set(seen)) == 301


def test_the_empty_stack_says_how_to_start():
    world = ConsoleWorld()
    world.clear()
    assert "Upload a table" in world.get("/").text


def test_two_datasets_are_compared_by_schema_volume_target_and_column():
    world = ConsoleWorld()
    world.answers[f"/models/{MODEL}/datasets/{'cd' * 32}/diff/{DATASET}"] = DIFFERENCE
    page = world.get(f"/models/{MODEL}/data/{DATASET}?other={'cd' * 32}").text
    for expected in (
        "compatible change",
        "the column &#39;city&#39; (category) is new",
        "1,200 to 900",
        "Target churned",
        "30 %",
        "0.31",
        "pro: 25 % to 50 %",
        "&lt;b&gt;plan",
    ):
        assert expected in page, expected


@pytest.mark.parametrize(
    ("outcome", "reasons", "expected"),
    [
        (
            "kept as challenger: a release begins; it is as good; it is new",
            ["it is as good", "it is new"],
            "kept as challenger: a release begins",
        ),
        ("promoted: it is better", ["it is better"], "promoted"),
        (None, ["the file is empty"], "rejected"),
        ("the file is empty", ["the file is empty"], "rejected"),
        (None, [], "rejected"),
        (None, [""], "rejected"),
    ],
)
def test_a_runs_outcome_does_not_repeat_its_reasons(outcome, reasons, expected):
    run = {"summary": {"outcome": outcome} if outcome else {}, "status": "rejected", "reasons": reasons}
    assert describe_outcome(run) == expected


def test_a_model_page_has_its_champions_its_incidents_and_the_reasons(world):
    page = world.get(f"/models/{MODEL}").text
    assert "version 1" in page
    assert "DriftDetected" in page
    assert "Release of version 2 at 10.0 %" in page


def test_hostile_text_of_the_api_becomes_no_markup():
    world = ConsoleWorld()
    for name, path in addresses(world).items():
        world.answers = {}
        world.get(path)
        for call in [one.removeprefix("GET ") for one in world.paths if one.startswith("GET ")]:
            world.answers[call] = spoil(world.document(call))
        response = world.get(path)
        assert "<script>alert" not in response.text, name
        assert "49" not in re.findall(r"alert\(1\)[^<]{0,40}", response.text), name


def spoil(value):
    """Return a document with hostile text behind every sentence in it; names, times and numbers stay."""
    if isinstance(value, dict):
        return {key: spoil(one) for key, one in value.items()}
    if isinstance(value, list):
        return [spoil(one) for one in value]
    return value + HOSTILE if isinstance(value, str) and " " in value else value


def test_an_unknown_model_page_or_run_is_a_page_with_the_fault(world):
    for path, status in (("/models/nobody", 404), ("/nothing", 404), (f"/models/{MODEL}/runs/none", 400)):
        response = world.get(path)
        assert response.status_code in (status, 404)
        assert "This did not work" in response.text


def test_a_fault_of_the_console_itself_is_a_page_without_a_traceback(world, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("a secret of the code")

    monkeypatch.setattr(console_app.PageContext, "show", fail)
    response = world.get("/")
    assert response.status_code == 500
    assert "a secret" not in response.text
    assert "a secret" in caplog.text


def test_a_run_that_goes_on_is_read_again(world):
    cause = make_cause("later.csv", "fresh")
    run = make_run(cause, at=NOW, status="running", stage="training")
    world.registry.claim_cause(cause, run, make_entry(cause.cause_id, "fresh"))
    page = world.get(f"/models/fresh/runs/{run.run_id}").text
    assert 'data-refresh="2"' in page
    assert "data-refresh" not in world.get("/").text


def test_the_ledger_is_filtered_and_says_what_served(world):
    page = world.get(f"/models/{MODEL}/ledger?action=release_started&text=&at=2026-05-04").text
    assert "release started" in page
    assert "Version 1 served" in page
    assert "is no timestamp" in world.get(f"/models/{MODEL}/ledger?at=sometime").text


def test_traffic_of_other_hours_is_not_lost():
    world = ConsoleWorld()
    counts = TrafficCounts(requests=5, statuses={"2xx": 5})
    record_traffic(world.registry.store, TrafficHour(model=MODEL, hour=NOW.replace(minute=0), versions={1: counts}))
    assert "305" in world.get("/").text


def test_errors_of_the_api_keep_their_status(world, monkeypatch):
    monkeypatch.setattr(world.app.api, "get", lambda *_: (_ for _ in ()).throw(MillraceError("broken")))
    assert world.get("/upload").status_code == 200
    assert world.get("/operations").status_code == 500


def test_a_run_s_gains_over_the_champion_have_their_intervals_and_the_winner_its_rank():
    best = {"version": 1, "gain": None, "measured_gain": None, "not_compared": "it is retired"}
    champion = {"version": 2, "gain": {"low": 0.01, "high": 0.05}, "measured_gain": 0.03, "best": best}
    over_champion, over_best = describe_gains({"champion": champion})
    assert (over_champion["value"], over_champion["low"], over_champion["high"]) == (0.03, 0.01, 0.05)
    assert over_champion["span"].mark < over_champion["span"].low
    assert (over_best["value"], over_best["not_compared"]) == (None, "it is retired")
    assert describe_gains({"champion": None}) == []

    trials = [
        {"trial_id": name, "metrics": {"auc": value} if value else {}, "candidate": "c", "duration_seconds": 1.0}
        for name, value in (("a", 0.7), ("b", None), ("c", 0.9))
    ]
    ranks = [{"trial_id": "c", "rank": 1}, {"trial_id": "a", "rank": 2}, {"trial_id": "b", "rank": None}]
    ranks[0] |= {"gain": {"low": -0.01, "high": 0.05}, "measured_gain": 0.02}
    rows = describe_leaderboard(trials, {"leaderboard": ranks, "trial_id": "c"}, "auc")
    assert (rows[0]["gain"]["value"], rows[0]["gain"]["low"], rows[0]["gain"]["high"]) == (0.02, -0.01, 0.05)
    assert rows[0]["gain"]["span"].low < rows[0]["gain"]["span"].mark < rows[0]["gain"]["span"].high
    assert rows[1]["gain"]["value"] is None
    assert rows[2]["gain"] is None
    assert [(row["trial_id"], row["is_winner"]) for row in rows] == [("c", True), ("a", False), ("b", False)]
    running = describe_leaderboard(trials, {}, "auc")
    assert [row["trial_id"] for row in running] == ["a", "c", "b"]


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def test_the_steps_of_a_run_are_its_stages_and_the_fits_of_each_round():
    stages = {"evaluating": at(80), "validating": at(20), "planning": at(30)}
    run = make_run(make_cause("a.csv"), started_at=at(20), finished_at=at(100), status="succeeded", stages=stages)
    earlier = {"round": 1, "rows": 50, "duration_seconds": 8.0, "started_at": at(40)}
    trials = [
        make_trial("01-a", round=2, started_at=at(60), duration_seconds=20.0, earlier_rounds=(earlier,)),
        make_trial("02-b", status="skipped"),
    ]
    steps = describe_steps(to_plain(run), to_plain(trials), at(500))
    assert [(step["name"], step["left"], step["width"], step["is_fit"]) for step in steps] == [
        ("Waiting", 0.0, 20.0, False),
        ("Validation and preparation", 20.0, 10.0, False),
        ("Planning", 30.0, 10.0, False),
        ("Training", 40.0, 40.0, False),
        ("01-a, round 1", 40.0, 8.0, True),
        ("01-a, round 2", 60.0, 20.0, True),
        ("Evaluation", 80.0, 20.0, False),
    ]
    assert [step["took"] for step in steps[3:6]] == ["40 s", "8.0 s", "20 s"]
    assert not any(step["goes_on"] for step in steps)


def test_what_goes_on_in_a_run_is_drawn_up_to_now():
    run = make_run(make_cause("a.csv"), started_at=at(20), status="running", stages={"validating": at(20)})
    trials = [
        make_trial("01-a", status="running", started_at=at(50)),
        make_trial("02-b", status="failed", started_at=at(50), duration_seconds=10.0),
        make_trial("03-c"),
    ]
    steps = describe_steps(to_plain(run), to_plain(trials), at(100))
    assert {step["name"]: (step["left"], step["width"], step["goes_on"]) for step in steps} == {
        "Waiting": (0.0, 20.0, False),
        "Validation and preparation": (20.0, 30.0, False),
        "Training": (50.0, 50.0, True),
        "01-a": (50.0, 50.0, True),
        "02-b": (50.0, 10.0, False),
    }


def test_a_run_of_an_earlier_release_is_one_step_after_it_waited():
    run = make_run(make_cause("a.csv"), started_at=at(20), finished_at=at(100), status="succeeded")
    steps = describe_steps(to_plain(run), to_plain([make_trial("01-a", duration_seconds=5.0)]), at(500))
    assert [(step["name"], step["left"], step["width"]) for step in steps] == [
        ("Waiting", 0.0, 20.0),
        ("The run", 20.0, 80.0),
    ]
    queued = describe_steps(to_plain(make_run(make_cause("a.csv"))), [], at(10))
    assert [(step["name"], step["goes_on"]) for step in queued] == [("Waiting", True)]


def test_a_run_s_page_has_its_leaderboard_and_its_gains(world):
    page = world.get(f"/models/churn/runs/{world.first_run_id}").text
    assert "Against the champion" in page
    assert "Gain over" in page


def test_pages_say_since_when_the_champion_serves_whatever_other_aliases_do():
    world = ConsoleWorld()
    point_alias(world.registry, "challenger", 2, MODEL, world.now)
    begin = world.registry.list_alias_moves(MODEL, "champion")[0].occurred_at
    shown = f"{begin:%Y-%m-%d %H:%M}"
    days = (world.now.date() - begin.date()).days
    assert f'version 1 <span class="quiet">for {days} days, from {shown}' in world.get("/").text
    assert f"Version 1 serves since {shown}" in world.get(f"/models/{MODEL}").text
    world.now = begin.replace(hour=23)
    assert 'version 1 <span class="quiet">since today' in world.get("/").text
    world.now = begin.replace(hour=0) + timedelta(days=1)
    assert 'version 1 <span class="quiet">for 1 day,' in world.get("/").text


def test_links_lead_from_an_open_incident_on_the_home_page_to_its_protocol(world):
    """As docs/operations.md goes through an incident."""
    assert "1 open incident" in world.get("/").text
    model = world.get(re.search(r'href="(/models/churn)"', world.get("/").text)[1]).text
    monitoring = world.get(re.search(r'href="(/models/churn/monitoring)">Monitoring', model)[1]).text
    protocol = re.search(r'href="(/models/churn/incidents/\w+)">Protocol', model)[1]
    assert f'href="{protocol}"' in monitoring
    page = world.get(protocol).text
    assert "To complete" in page
    assert "millrace incidents churn" in page
    assert 'href="/models/churn/actions/rollback"' in model
