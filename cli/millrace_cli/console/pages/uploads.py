"""The page that uploads a table: the way into an empty stack."""

import tempfile
from pathlib import Path

from werkzeug.exceptions import Forbidden
from werkzeug.utils import secure_filename
from werkzeug.wrappers import Request, Response

from millrace_cli.applied_spec import change_spec
from millrace_cli.console.page import PageContext, html, link
from millrace_cli.errors import CliError
from millrace_cli.table_file import read_format
from millrace_cli.upload import check_upload, upload_table
from millrace_cli.upload_plan import UploadOptions, plan_upload


def show_form(context: PageContext) -> Response:
    """Return the form."""
    return context.show("upload.html", fault="", model=context.query.get("model", ""), target_column="")


def receive_table(context: PageContext, request: Request) -> Response:
    """Put a table into the drop zone, which starts a training run, and show the model.

    The file is checked as ``millrace train`` checks it. Without ``--allow-actions``, raises ``Forbidden``.
    """
    if not context.allows_actions:
        raise Forbidden("the console is read-only: start it with `millrace ui --allow-actions`")
    model, target = request.form.get("model", "").strip(), request.form.get("target", "").strip()
    given = request.files.get("file")
    name = secure_filename(given.filename or "") if given else ""
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        path = Path(folder) / (name or "table.csv")
        try:
            if given is not None and name:
                given.save(path)
            check_upload(model, path)
            changes = plan_upload(context.api, model, path, read_format(path), UploadOptions(target or None))
            if changes:
                change_spec(context.api, model, changes, f"options of the upload of {name} in the console")
            bucket = context.target.output("DataBucketName")
            named = target if target and target.isascii() else None  # metadata of S3 are ASCII; the spec has others
            upload_table(context.target.client("s3"), bucket, model, path, target=named)
        except CliError as error:
            page = context.write(
                "upload.html",
                fault=error.message.replace(f"{folder}/", ""),
                hint=error.hint.replace(f"{folder}/", ""),
                model=model,
                target_column=target,
            )
            return html(page, 400)
    address = link("models", model, "runs", done=f"{name} was uploaded", since=context.now.isoformat())
    return Response(status=303, headers={"Location": address})
