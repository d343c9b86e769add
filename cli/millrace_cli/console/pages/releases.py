"""Pages of releases."""

from millrace.reports import render_release_page
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, html, link
from millrace_cli.output import Document

REFRESH_SECONDS = 5
ACTIVE = ("running", "paused")
TONES = {"running": "accent", "paused": "warn", "completed": "good", "rolled_back": "bad", "aborted": "bad"}


def list_releases(context: PageContext, model: str) -> Response:
    """Return the page of a model's newest releases."""
    document = context.get("models", model, "releases")
    return context.show(
        "releases.html",
        model=model,
        releases=document["releases"],
        pending=document["pending_candidate"],
        tones=TONES,
        actions=[("Start a release", link("models", model, "actions", "release"))],
    )


def show_release(context: PageContext, model: str, release_id: str) -> Response:
    """Return a release with its stages and its evidence, read again while it goes on."""
    release = context.get("models", model, "releases", release_id)
    is_active = release["status"] in ACTIVE
    frame = context.frame(
        actions=_actions(model, release) if is_active else (),
        refresh_seconds=REFRESH_SECONDS if is_active else None,
        trail=[("Releases", link("models", model, "releases"))],
    )
    return html(render_release_page(release, context.now, write=frame))


def _actions(model: str, release: Document) -> list[tuple[str, str]]:
    other = ("Resume", "resume") if release["status"] == "paused" else ("Pause", "pause")
    named = (other, ("Promote at once", "promote"), ("Abort", "abort"))
    return [(label, link("models", model, "actions", f"{action}-release")) for label, action in named]
