"""Pages of batch jobs."""

from millrace.quantities import format_duration
from werkzeug.wrappers import Response

from millrace_cli.console.page import PageContext, link
from millrace_cli.console.pages.runs import TONES

REFRESH_SECONDS = 2


def list_jobs(context: PageContext, model: str) -> Response:
    """Return the page of a model's newest batch jobs."""
    document = context.get("models", model, "batches")
    return context.show("batches.html", model=model, jobs=document["batches"], tones=TONES)


def show_job(context: PageContext, model: str, job_id: str) -> Response:
    """Return a batch job with its progress, read again while it goes on."""
    job = context.get("models", model, "batches", job_id)
    is_active = not job["is_finished"]
    actions = []
    if is_active:
        actions.append(("Cancel", link("models", model, "actions", "cancel-batch", job=job_id)))
    elif job["status"] in ("failed", "cancelled"):
        actions.append(("Score what is missing", link("models", model, "actions", "retry-batch", job=job_id)))
    return context.show(
        "batch.html",
        model=model,
        job=job,
        tone=TONES.get(job["status"], "accent"),
        share=job["scored_parts"] / job["parts"] if job.get("parts") else None,
        format_duration=format_duration,
        refresh_seconds=REFRESH_SECONDS if is_active else None,
        actions=actions,
        trail=[("Batches", link("models", model, "batches"))],
    )
