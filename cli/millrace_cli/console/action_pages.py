"""Pages that change the stack: each shows what it will do, takes a reason, and then does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.wrappers import Request, Response

from millrace_cli.console.page import PageContext, html, link
from millrace_cli.errors import ApiError
from millrace_cli.output import Document

Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConsoleAction:
    """A change of a model that the console offers.

    Parameters
    ----------
    title : str
        A verb and its object.
    consequence : callable
        Returns a sentence for each thing that will change, from the model's overview and the parameters.
    path : callable
        Returns the path of the API, below the model, from the parameters.
    body : callable
        Returns the body of the request from the overview and the parameters; the reason is added.
    command : callable
        Returns the command that does the same.
    fields : sequence of (str, str), default=()
        Parameters that the page has fields for where its address lacks them: name and label.
    has_reason : bool, default=True
        The ledger records a reason.
    """

    title: str
    consequence: Callable[[Document, Parameters], Sequence[str]]
    path: Callable[[Parameters], str]
    body: Callable[[Document, Parameters], dict[str, Any]]
    command: Callable[[str, Parameters], str]
    fields: Sequence[tuple[str, str]] = ()
    has_reason: bool = True


def _champion(overview: Document) -> int | None:
    champion: int | None = overview["state"]["aliases"].get("champion")
    return champion


def _nothing(overview: Document, given: Parameters) -> dict[str, Any]:  # noqa: ARG001  # of every body
    return {}


def _serves_now(overview: Document) -> str:
    champion = _champion(overview)
    return f"Version {champion} serves now." if champion else "No version serves now."


def _describe_promotion(overview: Document, given: Parameters) -> Sequence[str]:
    return (
        _serves_now(overview),
        f"Version {given.get('version', '?')} will serve every request, within the refresh interval of predictions.",
        "The change is refused if another version is the champion by then.",
    )


def _describe_rollback(overview: Document, given: Parameters) -> Sequence[str]:
    earlier = [move["to_version"] for move in overview["moves"] if move["to_version"] != _champion(overview)]
    to = given.get("to") or (earlier[0] if earlier else None)
    will = f"Version {to} will serve every request." if to else "There is no earlier champion: this will be refused."
    return _serves_now(overview), will


def _describe_release_start(overview: Document, given: Parameters) -> Sequence[str]:
    return (
        _serves_now(overview),
        f"A release of version {given.get('version') or '(choose one)'} begins, by the strategy of the model's spec.",
        "Its guards compare both versions and roll it back on evidence.",
    )


def _describe_release_change(text: str) -> Callable[[Document, Parameters], Sequence[str]]:
    def describe(overview: Document, given: Parameters) -> Sequence[str]:  # noqa: ARG001  # of every consequence
        active = next((one for one in overview["releases"] if one["status"] in ("running", "paused")), None)
        if active is None:
            return ("No release is active: this will be refused.",)
        shares = f"Version {active['candidate']} has {100 * active['weight']:g} % of the requests."
        return shares, text.format(**active)

    return describe


def _release_change(verb: str, title: str, text: str, command: Callable[[str], str]) -> ConsoleAction:
    return ConsoleAction(
        title=title,
        consequence=_describe_release_change(text),
        path=lambda given: f"releases/active/{verb}",  # noqa: ARG005  # of every path
        body=_nothing,
        command=lambda model, given: command(model),  # noqa: ARG005  # as above
    )


def _decision(verb: str, title: str, text: str, command: Callable[[str, str], str]) -> ConsoleAction:
    return ConsoleAction(
        title=title,
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            _serves_now(overview),
            text,
        ),
        path=lambda given: f"runs/{given.get('run', '-')}/approval",
        body=lambda overview, given: {"decision": verb, "expected_champion": _champion(overview)},  # noqa: ARG005  # of every body
        command=lambda model, given: command(model, given.get("run", "RUN")),
    )


ACTIONS: Mapping[str, ConsoleAction] = {
    "promote": ConsoleAction(
        title="Promote a version",
        consequence=_describe_promotion,
        path=lambda given: "promote",  # noqa: ARG005  # of every path
        body=lambda overview, given: {"version": int(given["version"]), "expected_champion": _champion(overview)},
        command=lambda model, given: f"millrace promote {model} {given.get('version', 'VERSION')} --reason TEXT",
        fields=(("version", "Version"),),
    ),
    "rollback": ConsoleAction(
        title="Roll back",
        consequence=_describe_rollback,
        path=lambda given: "rollback",  # noqa: ARG005  # of every path
        body=lambda overview, given: {
            "to": int(given["to"]) if given.get("to") else None,
            "expected_champion": _champion(overview),
        },
        command=lambda model, given: (
            f"millrace rollback {model} --reason TEXT" + (f" --to {given['to']}" if given.get("to") else "")
        ),
    ),
    "retire": ConsoleAction(
        title="Retire a version",
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            f"Version {given.get('version', '?')} will never serve again.",
            "This cannot be undone. Its documents and its place in the ledger stay.",
        ),
        path=lambda given: "retire",  # noqa: ARG005  # of every path
        body=lambda overview, given: {"version": int(given["version"])},  # noqa: ARG005  # of every body
        command=lambda model, given: f"millrace retire {model} {given.get('version', 'VERSION')} --reason TEXT",
        fields=(("version", "Version"),),
    ),
    "release": ConsoleAction(
        title="Start a release",
        consequence=_describe_release_start,
        path=lambda given: "releases",  # noqa: ARG005  # of every path
        body=lambda overview, given: {"version": int(given["version"])},  # noqa: ARG005  # of every body
        command=lambda model, given: (
            f"millrace release start {model} {given.get('version') or 'VERSION'} --reason TEXT"
        ),
        fields=(("version", "Version"),),
    ),
    "pause-release": _release_change(
        "pause",
        "Pause the release",
        "Its share stays, and its guards go on.",
        lambda model: f"millrace release pause {model} --reason TEXT",
    ),
    "resume-release": _release_change(
        "resume",
        "Resume the release",
        "Its stages go on.",
        lambda model: f"millrace release resume {model} --reason TEXT",
    ),
    "promote-release": _release_change(
        "promote",
        "Promote the candidate at once",
        "Version {candidate} will serve every request.",
        lambda model: f"millrace release promote {model} --reason TEXT",
    ),
    "abort-release": _release_change(
        "abort",
        "Abort the release",
        "Version {baseline} will serve every request again.",
        lambda model: f"millrace release abort {model} --reason TEXT",
    ),
    "approve": _decision(
        "approve",
        "Approve the run's version",
        "The approved version will serve every request.",
        lambda model, run: f"millrace approve {model} {run} --reason TEXT",
    ),
    "reject": _decision(
        "reject",
        "Reject the run's version",
        "The version stays registered and does not serve.",
        lambda model, run: f"millrace reject {model} {run} --reason TEXT",
    ),
    "monitor": ConsoleAction(
        title="Check now",
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            "Monitoring reads what was captured since its last run and judges it, instead of within the hour.",
        ),
        path=lambda given: "monitoring",  # noqa: ARG005  # of every path
        body=_nothing,
        command=lambda model, given: f"millrace monitor {model} --now",  # noqa: ARG005  # of every command
        has_reason=False,
    ),
    "train": ConsoleAction(
        title="Train now",
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            "A training run begins on the model's datasets, or waits for the one that goes on.",
            _serves_now(overview),
            "The gate decides whether the new version is promoted.",
        ),
        path=lambda given: "runs",  # noqa: ARG005  # of every path
        body=_nothing,
        command=lambda model, given: "",  # noqa: ARG005  # only an upload starts one from the command line
    ),
    "cancel-batch": ConsoleAction(
        title="Cancel the batch job",
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            f"Job {given.get('job', '?')} stops. The parts that are scored stay, and a retry scores the others.",
        ),
        path=lambda given: f"batches/{given.get('job', '-')}/cancel",
        body=_nothing,
        command=lambda model, given: f"millrace batches cancel {model} {given.get('job', 'JOB')} --reason TEXT",
    ),
    "retry-batch": ConsoleAction(
        title="Score what is missing",
        consequence=lambda overview, given: (  # noqa: ARG005  # of every consequence
            f"Job {given.get('job', '?')} scores the parts that have no receipt, with the same version.",
        ),
        path=lambda given: f"batches/{given.get('job', '-')}/retry",
        body=_nothing,
        command=lambda model, given: f"millrace batches retry {model} {given.get('job', 'JOB')}",
        has_reason=False,
    ),
}


def show_action(context: PageContext, model: str, action: str) -> Response:
    """Return the page that says what an action will do; without ``--allow-actions`` it has no button."""
    return html(_write(context, model, action, context.query.to_dict(), ""))


def take_action(context: PageContext, request: Request, model: str, action: str) -> Response:
    """Take an action and show the model; a refusal of the API is shown on the page, with what was written."""
    if not context.allows_actions:
        raise Forbidden("the console is read-only: start it with `millrace ui --allow-actions`")
    found, given = _find(action), request.form.to_dict()
    if found.has_reason and not given.get("reason", "").strip():
        return html(_write(context, model, action, given, "a reason is needed: the ledger records it"), 400)
    overview = context.get("models", model, "overview")
    try:
        body = found.body(overview, given) | ({"reason": given["reason"].strip()} if found.has_reason else {})
        context.api.post(f"/models/{model}/{found.path(given)}", body)
    except (ValueError, KeyError):
        return html(_write(context, model, action, given, "the version has to be a whole number"), 400)
    except ApiError as error:
        return html(_write(context, model, action, given, error.message), error.status)
    return Response(status=303, headers={"Location": link("models", model, done=f"{found.title}: done")})


def _write(context: PageContext, model: str, action: str, given: Parameters, fault: str) -> str:
    found, overview = _find(action), context.get("models", model, "overview")
    return context.write(
        "action.html",
        model=model,
        action=action,
        found=found,
        given=given,
        fault=fault,
        consequences=found.consequence(overview, given),
        asked=[(name, label) for name, label in found.fields],
        kept=[(name, value) for name, value in given.items() if name in ("version", "run", "job", "to")],
        command=found.command(model, given),
    )


def _find(action: str) -> ConsoleAction:
    if action not in ACTIONS:
        raise NotFound(f"there is no action {action[:40]!r}")
    return ACTIONS[action]
