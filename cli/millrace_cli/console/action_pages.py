"""Pages that change the stack: each shows what it will do, takes a reason, and then does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from werkzeug.exceptions import Forbidden, NotFound
from werkzeug.wrappers import Request, Response

from millrace_cli.console.page import PageContext, html, link
from millrace_cli.errors import ApiError
from millrace_cli.output import Document

#: Parameters of an address that its form keeps, beside ``seen``, the champion that the page shows.
_KEPT = ("version", "run", "job", "to")
_ACTIVE = ("running", "paused")


@dataclass(frozen=True, slots=True)
class Situation:
    """A model as the page shows it, with the parameters of the page.

    Parameters
    ----------
    overview : mapping
        ``GET /models/{model}/overview``.
    given : mapping of str to str
        Parameters of the address, or fields of the form.
    """

    model: str
    overview: Document
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def champion(self) -> int | None:
        """The version that serves."""
        champion: int | None = self.overview["state"]["aliases"].get("champion")
        return champion

    @property
    def version(self) -> str:
        """The version of the action, or what stands for one that is not chosen yet."""
        return self.given.get("version") or "VERSION"

    @property
    def run(self) -> str:
        """The run of the action."""
        return self.given.get("run") or "RUN"

    @property
    def job(self) -> str:
        """The batch job of the action."""
        return self.given.get("job") or "JOB"

    @property
    def former(self) -> str | None:
        """The version to roll back to: the named one, else the one that the API would choose."""
        to = self.given.get("to") or self.overview["rollback_to"]
        return str(to) if to else None

    @property
    def release(self) -> Document | None:
        """The active release."""
        return next((one for one in self.overview["releases"] if one["status"] in _ACTIVE), None)

    @property
    def serving(self) -> str:
        """A sentence about the champion."""
        return f"Version {self.champion} serves now." if self.champion else "No version serves now."


@dataclass(frozen=True, slots=True)
class ConsoleAction:
    """A change of a model that the console offers.

    Parameters
    ----------
    title : str
        A verb and its object.
    path : str
        Path of the API below the model, with ``{run}`` or ``{job}`` for the parameter.
    consequences : callable
        Returns a sentence for each thing that will change.
    command : callable
        Returns the command that does the same; empty where there is none.
    sends : mapping, optional
        Members of the request's body.
    numbers : sequence of str, default=()
        Further parameters that the body has as whole numbers, where they are given.
    fields : sequence of (str, str), default=()
        Parameters that the page has fields for, whole numbers: name and label.
    expects_champion : bool, default=False
        The API refuses the change when another version than the one that the page showed is the champion.
    has_reason : bool, default=True
        The ledger records a reason.
    """

    title: str
    path: str
    consequences: Callable[[Situation], Sequence[str]]
    command: Callable[[Situation], str]
    sends: Mapping[str, Any] = field(default_factory=dict)
    numbers: Sequence[str] = ()
    fields: Sequence[tuple[str, str]] = ()
    expects_champion: bool = False
    has_reason: bool = True

    def body(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the body of the request; raises ``ValueError`` when a number is none."""
        numbers = (*dict(self.fields), *self.numbers)
        body = {**self.sends, **{name: int(given[name]) for name in numbers if given.get(name)}}
        if self.expects_champion:
            body["expected_champion"] = int(given["seen"]) if given.get("seen") else None
        if self.has_reason:
            body["reason"] = given.get("reason", "").strip()
        return body


def _of_release(text: str) -> Callable[[Situation], Sequence[str]]:
    """Return the consequences of a change of the active release; ``text`` has its fields in braces."""

    def describe(at: Situation) -> Sequence[str]:
        if at.release is None:
            return ("No release is active: this will be refused.",)
        share = f"Version {at.release['candidate']} has {100 * at.release['weight']:g} % of the requests."
        return share, text.format(**at.release)

    return describe


_VERSION = (("version", "Version"),)
ACTIONS: Mapping[str, ConsoleAction] = {
    "promote": ConsoleAction(
        "Promote a version",
        "promote",
        lambda at: (
            at.serving,
            f"Version {at.version} will serve every request, within the refresh interval of predictions.",
            "The change is refused if another version is the champion by then.",
        ),
        lambda at: f"millrace promote {at.model} {at.version} --reason TEXT",
        fields=_VERSION,
        expects_champion=True,
    ),
    "rollback": ConsoleAction(
        "Roll back",
        "rollback",
        lambda at: (
            at.serving,
            f"Version {at.former} will serve every request."
            if at.former
            else "There is no earlier champion: this will be refused.",
        ),
        lambda at: f"millrace rollback {at.model} --reason TEXT" + (f" --to {at.former}" if at.former else ""),
        numbers=("to",),
        expects_champion=True,
    ),
    "retire": ConsoleAction(
        "Retire a version",
        "retire",
        lambda at: (
            f"Version {at.version} will never serve again.",
            "This cannot be undone. Its documents and its place in the ledger stay.",
        ),
        lambda at: f"millrace retire {at.model} {at.version} --reason TEXT",
        fields=_VERSION,
    ),
    "release": ConsoleAction(
        "Start a release",
        "releases",
        lambda at: (
            at.serving,
            f"A release of version {at.version} begins, by the strategy of the model's spec.",
            "Its guards compare both versions and roll it back on evidence.",
        ),
        lambda at: f"millrace release start {at.model} {at.version} --reason TEXT",
        fields=_VERSION,
    ),
    "pause-release": ConsoleAction(
        "Pause the release",
        "releases/active/pause",
        _of_release("Its share stays, and its guards go on."),
        lambda at: f"millrace release pause {at.model} --reason TEXT",
    ),
    "resume-release": ConsoleAction(
        "Resume the release",
        "releases/active/resume",
        _of_release("Its stages go on."),
        lambda at: f"millrace release resume {at.model} --reason TEXT",
    ),
    "promote-release": ConsoleAction(
        "Promote the candidate at once",
        "releases/active/promote",
        _of_release("Version {candidate} will serve every request."),
        lambda at: f"millrace release promote {at.model} --reason TEXT",
    ),
    "abort-release": ConsoleAction(
        "Abort the release",
        "releases/active/abort",
        _of_release("Version {baseline} will serve every request again."),
        lambda at: f"millrace release abort {at.model} --reason TEXT",
    ),
    "approve": ConsoleAction(
        "Approve the run's version",
        "runs/{run}/approval",
        lambda at: (at.serving, "The approved version will serve every request."),
        lambda at: f"millrace approve {at.model} {at.run} --reason TEXT",
        sends={"decision": "approve"},
        expects_champion=True,
    ),
    "reject": ConsoleAction(
        "Reject the run's version",
        "runs/{run}/approval",
        lambda at: (at.serving, "The version stays registered and does not serve."),
        lambda at: f"millrace reject {at.model} {at.run} --reason TEXT",
        sends={"decision": "reject"},
        expects_champion=True,
    ),
    "monitor": ConsoleAction(
        "Check now",
        "monitoring",
        lambda at: (f"Monitoring reads what was captured of {at.model} since its last run and evaluates it.",),
        lambda at: f"millrace monitor {at.model} --now",
        has_reason=False,
    ),
    "train": ConsoleAction(
        "Train now",
        "runs",
        lambda at: (
            "A training run begins on the model's datasets, or waits for the one that goes on.",
            at.serving,
            "The gate decides whether the new version is promoted.",
        ),
        lambda at: "",  # noqa: ARG005  # from the command line, only an upload starts a run
    ),
    "cancel-batch": ConsoleAction(
        "Cancel the batch job",
        "batches/{job}/cancel",
        lambda at: (f"Job {at.job} stops. The parts that are scored stay, and a retry scores the others.",),
        lambda at: f"millrace batches cancel {at.model} {at.job} --reason TEXT",
    ),
    "retry-batch": ConsoleAction(
        "Score what is missing",
        "batches/{job}/retry",
        lambda at: (f"Job {at.job} scores the parts that have no receipt, with the same version.",),
        lambda at: f"millrace batches retry {at.model} {at.job}",
        has_reason=False,
    ),
}


def show_action(context: PageContext, model: str, action: str) -> Response:
    """Return the page that says what an action will do; without ``--allow-actions`` it has no button."""
    at = Situation(model, context.get("models", model, "overview"), context.query.to_dict())
    return html(_write(context, action, at, ""))


def take_action(context: PageContext, request: Request, model: str, action: str) -> Response:
    """Take an action and show the model; a refusal of the API is shown on the page, with what was written."""
    if not context.allows_actions:
        raise Forbidden("the console is read-only: start it with `millrace ui --allow-actions`")
    found, given = _find(action), request.form.to_dict()
    fault, status = "", 400
    if found.has_reason and not given.get("reason", "").strip():
        fault = "a reason is needed: the ledger records it"
    else:
        try:
            body = found.body(given)
            if found.expects_champion and not given.get("seen"):
                _ensure_no_champion(context, model)
            path = found.path.format(run=given.get("run") or "-", job=given.get("job") or "-")
            context.api.post(f"/models/{model}/{path}", body)
        except ValueError:
            fault = "the version has to be a whole number"
        except ApiError as error:
            fault, status = error.message, error.status
    if not fault:
        return Response(status=303, headers={"Location": link("models", model, done=f"{found.title}: done")})
    at = Situation(model, context.get("models", model, "overview"), given)
    return html(_write(context, action, at, fault), status)


def _ensure_no_champion(context: PageContext, model: str) -> None:
    """Raise ``ApiError`` when a version serves now: the API itself cannot expect that none does."""
    champion = Situation(model, context.get("models", model, "overview")).champion
    if champion is not None:
        fault = f"version {champion} serves now, and the page showed that none does"
        raise ApiError(fault, status=409, error_code="CONFLICT")


def _write(context: PageContext, action: str, at: Situation, fault: str) -> str:
    found = _find(action)
    shown = [name for name, _ in found.fields]
    known = dict(at.given)
    if "to" in found.numbers and at.former:
        known["to"] = at.former  # the version that the page names, and no other
    kept = [(name, known[name]) for name in _KEPT if name in known and name not in shown]
    return context.write(
        "action.html",
        model=at.model,
        action=action,
        found=found,
        given=at.given,
        fault=fault,
        consequences=found.consequences(at),
        kept=[*kept, ("seen", at.champion or "")],
        command=found.command(at),
    )


def _find(action: str) -> ConsoleAction:
    if action not in ACTIONS:
        raise NotFound(f"there is no action {action[:40]!r}")
    return ACTIONS[action]
