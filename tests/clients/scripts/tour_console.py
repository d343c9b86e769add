"""The console's tour in Chromium: prints what each page did, as JSON.

Arguments: the file of the tour (``address``, ``pages`` by name, ``actions``; ``empty`` with address and pages of a new
stack's console), and a folder for screenshots or ``-``.
"""

import json
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, sync_playwright

CHROMIUM = "/usr/bin/chromium"
WIDTHS = (390, 768, 1280)
SCHEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
#: What depends on the scheme; in the second one, nothing else is looked at again.
CONTRAST = {"runOnly": ["color-contrast"]}
#: Without reading every style sheet again: only a rule about turned screens wants it.
AXE = {"resultTypes": ["violations"], "preload": False, "iframes": False}
WIDER = "document.documentElement.scrollWidth - innerWidth"


class Tour:
    """One page of the browser, which visits all addresses."""

    def __init__(self, context: BrowserContext, given: dict[str, Any], folder: Path | None) -> None:
        self.given, self.folder = given, folder
        self.base = given["address"].split("/?")[0]
        self.faults: list[str] = []
        self.page = context.new_page()
        for kind in ("console", "pageerror"):
            self.page.on(kind, lambda one: self.faults.append(str(getattr(one, "text", one))))
        self.page.goto(given["address"])

    def visit(self, name: str) -> dict[str, Any]:
        """Load a page once; return its faults at every width and in both schemes."""
        self.faults.clear()
        self.page.emulate_media(color_scheme=SCHEMES[0])
        response = self.page.goto(self.base + self.given["pages"][name])
        wide, violations = [], []
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": 900})
            if (over := self.page.evaluate(WIDER)) > 0:
                wide.append([width, over])
        self.page.evaluate(Axe().axe_script)
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme)
            violations += self._check(AXE if scheme == SCHEMES[0] else AXE | CONTRAST)
        return {
            "status": response.status if response else 0,
            "faults": list(self.faults),
            "wide": wide,
            "violations": violations,
            "title": self.page.title(),
        }

    def _check(self, options: dict[str, Any]) -> list[list[str]]:
        found = self.page.evaluate("options => axe.run(options)", options)
        return [
            [one["id"], one["nodes"][0]["html"][:200], one["nodes"][0].get("failureSummary", "")[:300]]
            for one in found["violations"]
            if one["impact"] in SERIOUS
        ]

    def picture(self, name: str) -> None:
        """Write the pictures of a page, as high as it is unless the tour gives a height."""
        height = self.given.get("height")
        self.page.goto(self.base + self.given["pages"][name])
        for width, scheme in self.given["screens"]:
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": height or 900})
            self.page.screenshot(path=self.folder / f"{name}-{width}-{scheme}.png", full_page=height is None)

    def walk_by_keyboard(self) -> list[str]:
        """Return the texts of the first elements that the tab key reaches on the first page."""
        self.page.goto(self.base + "/")
        reached = []
        for _ in range(6):
            self.page.keyboard.press("Tab")
            reached.append(
                self.page.evaluate("(document.activeElement.textContent || document.activeElement.name).trim()")
            )
        return reached

    def act(self, path: str) -> dict[str, Any]:
        """Fill the form of an action and press its button."""
        self.page.goto(self.base + path)
        for field in self.page.query_selector_all("form textarea"):
            field.fill("from the tour")
        self.page.click("form button.first")
        self.page.wait_for_load_state()
        said = self.page.query_selector("[role=status]")
        return {"url": self.page.url.removeprefix(self.base), "notice": said.inner_text() if said else ""}

    def upload(self) -> dict[str, Any]:
        """Upload a table as the page does, with its progress."""
        self.page.goto(self.base + "/upload")
        self.page.fill("[name=model]", "fresh")
        table = {"name": "rows.csv", "mimeType": "text/csv", "buffer": b"a,b,target\n1,2,yes\n3,4,no\n"}
        self.page.set_input_files("[name=file]", table)
        self.page.evaluate(
            "new MutationObserver(() => sessionStorage.sent = document.querySelector('progress').value)"
            ".observe(document.querySelector('progress'), {attributes: true})"
        )
        self.page.click("form button.first")
        self.page.wait_for_url("**/runs?done=*")
        return {
            "url": self.page.url.removeprefix(self.base),
            "sent": float(self.page.evaluate("sessionStorage.sent || 0")),
        }

    def try_row(self, path: str) -> str:
        """Ask for the prediction of the row that a version's form holds; return what the page says."""
        self.page.goto(self.base + path)
        self.page.click("form button.first")
        return self.page.inner_text("[role=status]")


def main() -> None:
    """Run the tour that the arguments describe."""
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = None if sys.argv[2] == "-" else Path(sys.argv[2])
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tour = Tour(browser.new_context(), given, folder)
        if folder is not None:
            for name in given["pages"]:
                tour.picture(name)
            found = {}
        else:
            empty = Tour(browser.new_context(), given["empty"], folder)
            found = {
                "empty": {name: empty.visit(name) for name in given["empty"]["pages"]},
                "pages": {name: tour.visit(name) for name in given["pages"]},
                "keyboard": tour.walk_by_keyboard(),
                "tried": tour.try_row(given["pages"]["try"]),
                "upload": tour.upload(),
                "actions": {name: tour.act(path) for name, path in given.get("actions", {}).items()},
            }
        print(json.dumps(found))
        browser.close()


main()
