"""MLflow's own pages in Chromium, as the console serves them: prints what each showed, as JSON.

Argument: the file of the tour, with ``address``, ``pages`` by name (path, texts to wait for, texts in a frame), and a
folder for pictures or null.
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import TimeoutError as TooLateError
from playwright.sync_api import sync_playwright

#: Generous: the machine may be busy with other tests.
PATIENCE_MS = 60_000
REFUSED = 400


def main() -> None:
    """Run the tour that the argument describes."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    base = given["address"].split("/mlflow/")[0]
    found = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        said: list[str] = []
        page.on("console", lambda one: said.append(one.text))
        page.on("pageerror", lambda one: said.append(f"error: {one}"))
        page.on("response", lambda one: said.append(f"{one.status} {one.url}") if one.status >= REFUSED else None)
        page.goto(given["address"])
        for name, (path, texts, framed) in given["pages"].items():
            page.goto("about:blank")  # else only the part after the number sign would change
            said.clear()
            page.goto(base + path)
            missing = []
            for place, text in [(page, text) for text in texts] + [
                (page.frame_locator("iframe"), text) for text in framed
            ]:
                try:
                    place.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)
                except TooLateError:
                    missing.append(text)
            if given["folder"]:
                page.screenshot(path=f"{given['folder']}/{name}.png")
            found[name] = {
                "title": page.title(),
                "missing": missing,
                "text": page.inner_text("body")[:2000] if missing else "",
                "said": list(said),
            }
        browser.close()
    print(json.dumps(found))


main()
