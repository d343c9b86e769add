"""The kinds of causes that start a training run: one record a kind."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from millrace.names import make_cause_id


@dataclass(frozen=True, slots=True)
class CauseKind:
    """One kind of cause."""

    name: str  # in the ledger, in the API, and in a spec's ``retraining.causes``
    label: str  # for people
    is_always_followed: bool = False  # neither a spec nor a budget keeps it from starting a run
    is_default: bool = True  # a spec follows it unless it says otherwise
    #: The event by which monitoring reports it. Such a finding persists in every window until a run follows it, so it
    #: observes the cooldown.
    event: str | None = None
    fixed_subjects: frozenset[str] = frozenset()  # the subjects of findings that a new model may fix; empty for all

    @property
    def is_finding(self) -> bool:
        """True for a finding of monitoring."""
        return self.event is not None

    def refusal(self, subjects: Collection[str]) -> str | None:
        """Return why a new model would not fix findings about these subjects (none: unknown); None when it may."""
        if not self.fixed_subjects or not subjects or self.fixed_subjects & set(subjects):
            return None
        return f"retraining may fix {' or '.join(sorted(self.fixed_subjects))}, not {' or '.join(sorted(subjects))}"


#: The kind of cause that proposes a model of a user.
LOGGED_MODEL = "logged_model"
_KINDS = (
    CauseKind("upload", "dataset upload", is_always_followed=True),
    CauseKind("manual", "request by hand", is_always_followed=True),
    CauseKind(LOGGED_MODEL, "model logged with MLflow", is_always_followed=True),
    CauseKind("schedule", "schedule"),
    CauseKind("drift", "drift", event="DriftDetected"),
    CauseKind("quality", "model quality", event="QualityDegraded"),
    CauseKind("staleness", "stale model", event="ModelStale"),
    # Retraining rarely makes a model faster: somebody should investigate first, so it is off by default.
    CauseKind(
        "latency",
        "prediction latency",
        is_default=False,
        event="ServingDegraded",
        fixed_subjects=frozenset({"latency"}),
    ),
)
CAUSES: Mapping[str, CauseKind] = {kind.name: kind for kind in _KINDS}
#: The kinds that a spec may follow or leave out. Faulty data is none: a model would learn the fault.
AUTOMATIC_CAUSES = tuple(kind.name for kind in _KINDS if not kind.is_always_followed)
#: The kinds by which a person wants a version of the data that there is.
REQUESTED_CAUSES = frozenset({"manual", LOGGED_MODEL})
DEFAULT_CAUSES = tuple(name for name in AUTOMATIC_CAUSES if CAUSES[name].is_default)
#: By the event that reports it.
CAUSE_OF_EVENT: Mapping[str, CauseKind] = {kind.event: kind for kind in _KINDS if kind.event}


def finding_cause_id(kind: str, model: str, incident_id: str, request: int) -> str:
    """Return the id of an incident's cause: one per incident, and another one for each further request."""
    return make_cause_id("monitoring", kind, model, incident_id, str(request))
