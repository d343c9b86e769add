"""The console's server on a port of this machine."""

import socket
import threading

import httpx
import pytest
from millrace_cli.commands import ui
from millrace_cli.console.server import make_console
from millrace_cli.errors import RefusedError

from tests.console_world import ConsoleWorld


def test_the_printed_address_opens_the_pages_and_nothing_is_logged(capfd):
    world = ConsoleWorld()
    server, guard = make_console(world.target, world.app.api, 0, allows_actions=False, clock=lambda: world.now)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        assert server.server_address[0] == "127.0.0.1"
        with httpx.Client(trust_env=False, follow_redirects=True) as browser:
            page = browser.get(guard.make_address())
            assert page.status_code == 200
            assert "churn" in page.text
            assert "Werkzeug" not in page.headers["Server"]
            assert browser.get(f"http://127.0.0.1:{server.server_port}/static/style.css").status_code == 200
        with httpx.Client(trust_env=False) as stranger:
            assert stranger.get(f"http://127.0.0.1:{server.server_port}/").status_code == 403
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken_is_refused_with_another_to_try():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RefusedError, match="is taken"):
            ui._free_port(taken.getsockname()[1])
    assert ui._free_port(None) >= 8765


def test_the_browser_s_command_line_does_not_hold_the_token(tmp_path):
    address = ConsoleWorld().guard.make_address()
    page = ui.write_forwarder(tmp_path, address)
    assert address not in page.as_uri()
    assert address in page.read_text(encoding="utf-8")
