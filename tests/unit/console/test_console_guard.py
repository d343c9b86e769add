"""Who may load a page of the console, and what a page may load."""

import pytest
from millrace_cli.console.guard import TOKEN

from tests.console_world import HOST, ConsoleWorld


@pytest.fixture(scope="module")
def world() -> ConsoleWorld:
    return ConsoleWorld(allows_actions=True)


def test_the_address_works_once(world):
    path = world.guard.make_address().removeprefix(f"http://{HOST}")
    first = world.get(path)
    assert (first.status_code, first.headers["Location"]) == (303, "/")
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in first.headers["Set-Cookie"].split(";")}
    world.close()
    assert world.get(path).status_code == 403
    world.open()


@pytest.mark.parametrize("token", ["", "x", "\u00e9"])
def test_another_token_opens_nothing(world, token):
    world.close()
    assert world.get(f"/?{TOKEN}={token}").status_code == 403
    world.open()


@pytest.mark.parametrize("host", ["evil.test", "evil.test:8765", "127.0.0.1:9999", "127.0.0.1.evil.test:8765"])
def test_a_rebound_name_is_refused_before_the_session_is_looked_at(world, host):
    response = world.get("/", host=host)
    assert response.status_code == 403
    assert "churn" not in response.text


def test_without_a_session_no_page_no_static_file_and_no_error_says_anything(world):
    world.close()
    for path in ("/", "/models/churn", "/static/style.css", "/nothing"):
        response = world.get(path)
        assert response.status_code == 403
        assert response.content_type.startswith("text/plain")
        assert "millrace ui" in response.text
    world.open()


@pytest.mark.parametrize(
    ("origin", "token"),
    [("http://evil.test", None), ("null", None), ("", None), (f"http://{HOST}", "wrong"), (f"http://{HOST}", "")],
)
def test_a_form_of_another_site_changes_nothing(world, origin, token):
    form = {"version": "2", "reason": "because"}
    assert world.post("/models/churn/actions/promote", form, origin=origin, token=token).status_code == 403
    assert world.aliases["champion"] == 1


def test_pages_may_load_only_what_is_the_consoles_own_and_are_not_stored(world):
    for path in ("/", "/static/style.css", "/nothing", "/models/nobody"):
        headers = world.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["../../../pyproject.toml", "page.html", "%2e%2e/api.py", "home.html", "/etc/passwd"])
def test_only_the_static_files_are_served(world, path):
    assert world.get(f"/static/{path}").status_code == 404


def test_a_read_only_console_has_no_button_and_takes_no_action():
    world = ConsoleWorld()
    page = world.get("/models/churn/actions/promote?version=2").text
    assert "<button" not in page.replace('<button class="button" type="button" data-copy', "")
    assert "--allow-actions" in page
    assert world.post("/models/churn/actions/promote", {"version": "2", "reason": "x"}).status_code == 403
    assert world.post("/upload", {"model": "churn"}).status_code == 403
    assert world.aliases["champion"] == 1
