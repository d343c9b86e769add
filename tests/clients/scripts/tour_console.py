"""The console's tour in Chromium: prints what each page did, as JSON.

Arguments: the file of the tour (``address``, ``pages`` by name, ``actions``), and a folder for screenshots or ``-``.
"""

import json
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
SCREENS = ((390, "light"), (390, "dark"), (768, "light"), (768, "dark"), (1280, "light"), (1280, "dark"))
SERIOUS = ("serious", "critical")


def visit(page: Page, given: dict[str, Any], name: str, folder: Path | None) -> dict[str, Any]:
    """Load a page at every width in both schemes; return its faults."""
    faults: list[str] = []
    heard = [
        page.on(kind, lambda one: faults.append(str(getattr(one, "text", one)))) for kind in ("console", "pageerror")
    ]
    assert heard is not None
    response = page.goto(given["address"].split("/?")[0] + given["pages"][name])
    status = response.status if response else 0
    wide = []
    for width, scheme in given.get("screens", SCREENS):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if over > 0:
            wide.append([width, over])
        if folder is not None:
            height = given.get("height")
            page.set_viewport_size({"width": width, "height": height or 900})
            page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=height is None)
    violations = [
        [one["id"], one["nodes"][0]["html"][:200], one["nodes"][0].get("failureSummary", "")[:300]]
        for one in Axe().run(page).response["violations"]
        if one["impact"] in SERIOUS
    ]
    # A page that stays open reads its release again after the tour has ended it.
    title = page.title()
    page.close()
    return {"status": status, "faults": faults, "wide": wide, "violations": violations, "title": title}


def walk_by_keyboard(page: Page, base: str) -> list[str]:
    """Return the texts of the first elements that the tab key reaches on the first page."""
    page.goto(base + "/")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("(document.activeElement.textContent || document.activeElement.name).trim()"))
    return reached


def act(page: Page, base: str, path: str) -> dict[str, Any]:
    """Fill the form of an action and press its button."""
    page.goto(base + path)
    for field in page.query_selector_all("form textarea"):
        field.fill("from the tour")
    page.click("form button.first")
    return {
        "url": page.url.removeprefix(base),
        "notice": page.inner_text("[role=status]") if page.query_selector("[role=status]") else "",
    }


def tour(context: BrowserContext, given: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Open the session, visit every page, take every action."""
    base = given["address"].split("/?")[0]
    page = context.new_page()
    page.goto(given["address"])
    found = {name: visit(context.new_page(), given, name, folder) for name in given["pages"]}
    return {
        "pages": found,
        "keyboard": walk_by_keyboard(page, base),
        "actions": {name: act(page, base, path) for name, path in given.get("actions", {}).items()},
    }


def main() -> None:
    """Run the tour that the arguments describe."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = None if sys.argv[2] == "-" else Path(sys.argv[2])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context()
        print(json.dumps(tour(context, given, folder)))
        browser.close()


main()
