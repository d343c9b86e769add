"""Take the pictures of the console in docs/console/ from the running local stack: `make screenshots`."""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from millrace_cli.api import ApiClient
from millrace_cli.console.server import make_console
from millrace_cli.local.project import require_project
from millrace_cli.local.stack import live_state
from millrace_cli.target import resolve_target

ROOT = Path(__file__).resolve().parents[1]
BROWSER = ROOT / ".millrace" / "tools" / "browser" / "bin" / "python"
SCRIPT = ROOT / "tests" / "clients" / "scripts" / "tour_console.py"
MODEL = "churn"


def take_pictures(folder: Path) -> None:
    """Write the pictures of the pages of the demonstration's model."""
    target = resolve_target(None, None, None, live_state(require_project()))
    with ApiClient.for_target(target) as api:
        pages = {
            "models": "/",
            "model": f"/models/{MODEL}",
            "run": f"/models/{MODEL}/runs/{api.get(f'/models/{MODEL}')['last_run_id']}",
            "try": f"/models/{MODEL}/versions/1/try",
            "comparison": f"/models/{MODEL}/compare?left=1&right=2",
            "monitoring": f"/models/{MODEL}/monitoring",
        }
        server, guard = make_console(target, api, 0, allows_actions=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with tempfile.NamedTemporaryFile("w", suffix=".json") as tour:
            json.dump(
                {"address": guard.make_address(), "pages": pages, "screens": [[1280, "light"]], "height": 1000}, tour
            )
            tour.flush()
            subprocess.run([BROWSER, SCRIPT, tour.name, folder], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own script
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]))
