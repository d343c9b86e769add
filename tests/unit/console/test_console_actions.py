"""Actions of the console: what they say beforehand, and what they do."""

import html
import io
import re
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from millrace_cli.console.action_pages import ACTIONS

from tests.console_world import ConsoleWorld
from tests.registry_builders import MODEL, make_cause, make_entry, make_run


@pytest.fixture
def world() -> ConsoleWorld:
    return ConsoleWorld(allows_actions=True)


def act(world: ConsoleWorld, action: str, **form: str):
    return world.post(f"/models/{MODEL}/actions/{action}", {"reason": "because", **form})


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_says_what_it_will_do_and_how_to_do_it_by_hand(world, action):
    page = world.get(f"/models/{MODEL}/actions/{action}?version=2&run={world.first_run_id}&job=b-1")
    assert page.status_code == 200
    assert html.escape(ACTIONS[action].title, quote=True).replace("&#x27;", "&#39;") in page.text
    assert "What will happen" in page.text
    if action != "train":
        assert "millrace " in page.text


def test_a_promotion_is_done_with_its_reason_and_shown(world):
    response = act(world, "promote", version="2", seen="1")
    assert response.status_code == 303
    assert world.aliases["champion"] == 2
    assert world.registry.list_ledger(MODEL)[0].reason == "because"
    assert "Promote a version: done" in world.get(response.headers["Location"]).text


def test_a_change_is_refused_when_another_champion_serves_than_the_page_showed(world):
    page = world.get(f"/models/{MODEL}/actions/promote?version=2").text
    assert '<input type="hidden" name="seen" value="1">' in page
    world.point("champion", 3)
    response = act(world, "promote", version="2", seen="1")
    assert response.status_code == 409
    assert world.aliases["champion"] == 3
    assert "Version 3 serves now" in response.text
    assert '<input type="hidden" name="seen" value="3">' in response.text


def test_a_change_is_refused_when_the_page_showed_no_champion_and_one_serves(world):
    for form in ({"seen": ""}, {}):
        response = act(world, "promote", version="2", **form)
        assert response.status_code == 409
        assert "version 1 serves now, and the page showed that none does" in response.text
    assert world.aliases["champion"] == 1


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


@pytest.mark.parametrize("retired", [None, 1])
def test_a_rollback_goes_where_its_page_says_however_often(world, retired):
    for version in (2, 3):
        act(world, "promote", version=str(version), seen=str(version - 1))
    if retired:
        act(world, "retire", version=str(retired))
    for expected in (2, 1):
        page = world.get(f"/models/{MODEL}/actions/rollback").text
        if expected == retired:
            assert "There is no earlier champion" in page
            break
        assert f"Version {expected} will serve every request" in page
        assert f"--to {expected}" in page
        fields = hidden(page)
        assert act(world, "rollback", seen=fields["seen"], to=fields["to"]).status_code == 303
        assert world.aliases["champion"] == expected


def test_a_rollback_passes_over_a_retired_version_as_its_page_says(world):
    for version in (2, 3):
        act(world, "promote", version=str(version), seen=str(version - 1))
    act(world, "retire", version="2")
    page = world.get(f"/models/{MODEL}/actions/rollback").text
    assert "Version 1 will serve every request" in page
    assert act(world, "rollback", seen="3", to=hidden(page)["to"]).status_code == 303
    assert world.aliases["champion"] == 1


def test_a_rollback_a_retirement_and_a_release_reach_the_registry(world):
    act(world, "promote", version="2", seen="1")
    assert act(world, "rollback", seen="2").status_code == 303
    assert world.aliases["champion"] == 1
    assert act(world, "release", version="3").status_code == 303
    for action, status in (("pause", "paused"), ("resume", "running")):
        assert act(world, f"{action}-release").status_code == 303
        assert world.release.status == status
    assert act(world, "abort-release").status_code == 303
    assert world.release is None
    assert act(world, "retire", version="3").status_code == 303
    assert world.registry.get_version(MODEL, 3).status == "retired"


def test_checking_now_starts_a_monitoring_run(world):
    assert world.post(f"/models/{MODEL}/actions/monitor", {}).status_code == 303
    assert "POST /models/churn/monitoring" in world.paths


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"version": "2", "reason": " "}, "a reason is needed"),
        ({"version": "two"}, "has to be a whole number"),
        ({"version": "99", "seen": "1"}, "has no version 99"),
    ],
)
def test_a_refusal_is_shown_on_the_page_with_what_was_written(world, form, said):
    response = act(world, "promote", **form)
    assert 400 <= response.status_code < 500
    assert said in response.text
    assert f'value="{form["version"]}"' in response.text
    assert world.aliases["champion"] == 1


def test_an_action_that_does_not_exist_is_not_found(world):
    assert world.get(f"/models/{MODEL}/actions/explode").status_code == 404
    assert act(world, "explode").status_code == 404


def test_a_table_is_uploaded_as_the_command_line_does(world):
    table = io.BytesIO(b"a,b,target\n1,2,yes\n3,4,no\n")
    response = world.post("/upload", {"model": "fresh", "target": "", "file": (table, "rows.csv")})
    assert response.status_code == 303, response.text[-1500:]
    assert response.headers["Location"].startswith("/models/fresh/runs")
    assert len(world.uploads) == 1
    # S3's event makes the model: until it has come, the page waits for it.
    waiting = world.get(response.headers["Location"])
    assert waiting.status_code == 200
    assert "has not begun yet" in waiting.text
    assert 'data-refresh="2"' in waiting.text
    cause = make_cause("rows.csv", "fresh")
    run = replace(make_run(cause), requested_at=world.now + timedelta(seconds=3))
    world.registry.claim_cause(cause, run, make_entry(cause.cause_id, "fresh"))
    begun = world.get(response.headers["Location"]).text
    assert "has not begun yet" not in begun
    assert run.run_id in begun
    world.now += timedelta(hours=1)
    assert world.get(response.headers["Location"].replace("fresh", "another")).status_code == 404


@pytest.mark.parametrize(
    ("model", "name", "body", "said"),
    [
        ("Bad Name!", "rows.csv", b"a,b\n1,2\n", "name"),
        ("fresh", "rows.csv", b"", "is empty"),
        ("fresh", "../../etc/passwd", b"", "is empty"),
    ],
)
def test_a_bad_upload_is_refused_in_words_and_nothing_is_sent(world, model, name, body, said):
    response = world.post("/upload", {"model": model, "file": (io.BytesIO(body), name)})
    assert response.status_code == 400
    assert said in response.text
    assert world.uploads == []
    assert "/tmp" not in response.text  # noqa: S108  # the path of the copy is nobody's business


def test_trying_a_version_shows_the_prediction_its_explanation_and_the_request(world):
    world.answers[f"/models/{MODEL}/versions/1/invocations"] = {
        "predictions": [{"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}, "decision": "yes"}],
        "explanations": [
            {"prediction": 0.75, "base_value": 0.3, "attributions": {"age": 0.4, "plan": -0.1}, "standard_errors": {}}
        ],
    }
    page = world.post(f"/models/{MODEL}/versions/1/try", {"feature:age": "41"}).text
    assert "75.0 %" in page
    assert "+0.4" in page
    assert "curl" in page


def test_a_version_without_explanations_is_tried_with_three_calls(world):
    world.paths.clear()

    def refuse_explanations(request):
        if b"explain" in request.content:
            return httpx.Response(400, json={"error_code": "X", "message": "version 1 has no explanations"})
        return httpx.Response(200, json={"predictions": [{"label": "yes", "probabilities": {"yes": 0.75}}]})

    world.answers[f"POST /models/{MODEL}/versions/1/invocations"] = refuse_explanations
    page = world.post(f"/models/{MODEL}/versions/1/try", {"feature:age": "41"}).text
    assert "75.0 %" in page
    assert len(world.paths) == 3


def test_a_refused_row_keeps_the_form(world):
    page = world.post(f"/models/{MODEL}/versions/1/try", {"feature:age": "old"})
    assert page.status_code == 200
    assert "no route" in page.text


def test_the_column_to_predict_is_checked_and_may_have_any_name(world):
    table = "größe,preis\n1,2\n3,4\n".encode()
    response = world.post("/upload", {"model": MODEL, "target": "gewicht", "file": (io.BytesIO(table), "rows.csv")})
    assert response.status_code == 400
    assert "gewicht" in response.text
    assert world.uploads == []
    response = world.post("/upload", {"model": "fresh", "target": "größe", "file": (io.BytesIO(table), "rows.csv")})
    assert response.status_code == 303, response.text[-900:]
    assert world.registry.get_spec("fresh").target == "größe"
