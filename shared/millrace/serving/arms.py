"""Arms of an active release: assignment of requests, and replies in which a failing candidate costs the caller nothing.

A request is assigned whole, by its routing key: the header ``X-Millrace-Routing-Key``, the parameter ``routing_key``,
the value of the key column that all its rows have, or else the prediction id, which is another for every request.
Where the candidate is not loaded, raises, predicts no finite number or refuses rows that the champion reads, the
champion answers the same request. The request still counts for the arm that it was assigned to: otherwise the rest
would flatter the candidate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from millrace.errors import MillraceError
from millrace.routing import CHAMPION_ARM, RoutingPlan, group_key, mark_key
from millrace.serving.capture import write_row_id
from millrace.serving.model import LoadedModel
from millrace.serving.protocols import request_form
from millrace.serving.request import ABSENT
from millrace.serving.scoring import Prediction

ROUTING_KEY_HEADER = "x-millrace-routing-key"
ROUTING_KEY_PARAMETER = "routing_key"
#: Headers of replies during a release.
RELEASE_HEADER = "X-Millrace-Release"
ARM_HEADER = "X-Millrace-Arm"

_FIRST_SERVER_ERROR = 500

#: Reason why the champion answered for the candidate: it was not loaded, it raised, its prediction was not finite, or
#: it alone refused the request, or a row of one that may have bad rows.
Fallback = Literal["not_loaded", "error", "not_finite", "refused"]


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm of a release, with what is the same for all of its requests, made once for a plan.

    ``version`` and ``loaded`` are the candidate's: None for the champion, ``loaded`` also where it could not be loaded.
    ``headers`` are those of a reply, and ``members`` stand in a request's line in the log. ``reads_alike`` says that
    the arm reads a request as the champion does: rows without names are in the order of a version's own features.
    """

    name: str
    version: int | None
    loaded: LoadedModel | None
    headers: Mapping[str, str]
    members: Mapping[str, Any]
    reads_alike: bool


@dataclass(slots=True)
class Assignment:
    """The arm that a request was assigned to, and what came of it."""

    release_id: str
    arm: Arm
    mark: str = ""  # of its routing key, in the sample of keys
    group: int = 0  # of its routing key; 0 is none
    fallback: Fallback | None = None
    not_finite: bool = False  # the champion's own prediction
    error: Exception | None = None  # of the candidate

    def members(self) -> dict[str, Any]:
        """Return the members of the request's line in the log."""
        found = dict(self.arm.members)
        if self.fallback:
            found["fallback"] = self.fallback
        if self.not_finite:
            found["not_finite"] = 1
        if self.mark:
            found["key"] = self.mark
        if self.group:
            found["group"] = self.group
        return found


@dataclass(frozen=True, slots=True)
class ActiveRelease:
    """A routing plan, its arms in the plan's order with the champion's last, and the loaded candidates by version.

    ``key_column`` is the plan's, or the id column. Unless that is sensitive, a sample of keys is marked, so that the
    arms' shares of them can be compared with the plan's, and a candidate's requests name the group of their key, so
    that bad events of few callers are known as such.
    """

    plan: RoutingPlan
    candidates: Mapping[int, LoadedModel]
    arms: tuple[Arm, ...]
    key_column: str | None
    marks_keys: bool

    @classmethod
    def of(cls, plan: RoutingPlan, candidates: Mapping[int, LoadedModel], champion: LoadedModel) -> "ActiveRelease":
        """Return the release of candidates beside a champion."""
        form = request_form(champion.schema)
        identifier = champion.schema.identifier
        column = plan.key_column or (None if identifier is None else identifier.name)
        # The key of the hash is no secret, so a mark would give away who has a sensitive value.
        is_sensitive = any(known.sensitive for known in champion.schema.columns if known.name == column)
        unloaded = {"unloaded": 1} if len(candidates) < len(plan.arms) else {}  # this environment lacks a candidate

        def arm_of(name: str, version: int | None) -> Arm:
            loaded = None if version is None else candidates.get(version)
            headers = {RELEASE_HEADER: plan.release_id, ARM_HEADER: name}
            members = {"release": plan.release_id, "stage": plan.stage, "arm": name, **unloaded}
            reads_alike = version is None or (loaded is not None and request_form(loaded.schema) == form)
            return Arm(name, version, loaded, headers, members, reads_alike)

        arms = tuple(arm_of(arm.name, arm.version) for arm in plan.arms)
        return cls(plan, candidates, (*arms, arm_of(CHAMPION_ARM, None)), column, not is_sensitive)

    def find_arm(self, key: str) -> tuple[Arm, str, int]:
        """Return the arm of a routing key, its mark and its group, which a request's line holds unless empty and 0."""
        place = self.plan.locate(key)
        arm = self.arms[self.plan.number_at(place)]
        if not self.marks_keys:
            return arm, "", 0
        return arm, mark_key(place), 0 if arm.version is None else group_key(place)

    def assign(self, key: str | None, prediction_id: str) -> Assignment:
        """Assign a request to an arm by its routing key, None when it names none."""
        return Assignment(self.plan.release_id, *self.find_arm(prediction_id if key is None else key))


def predict_assigned(
    assignment: Assignment, champion: LoadedModel, predict: Callable[[LoadedModel], Prediction]
) -> Prediction:
    """Return the prediction of the assigned arm, or the champion's where the candidate has none."""
    if assignment.arm.version is None:
        prediction = predict(champion)
        assignment.not_finite = not prediction.scores.is_finite
        return prediction
    found = _try_candidate(assignment, champion, predict)
    if found is not None:
        return found
    try:
        return predict(champion)
    except Exception:
        assignment.fallback = None  # nobody answered, and the request counts once, by its status
        raise


def _try_candidate(
    assignment: Assignment, champion: LoadedModel, predict: Callable[[LoadedModel], Prediction]
) -> Prediction | None:
    candidate = assignment.arm.loaded
    if candidate is None:
        assignment.fallback = "not_loaded"
        return None
    try:
        prediction = predict(candidate)
    except Exception as error:  # noqa: BLE001 - whatever it is, the champion answers
        refused = isinstance(error, MillraceError) and error.http_status < _FIRST_SERVER_ERROR
        assignment.fallback, assignment.error = ("refused" if refused else "error"), error
        return None
    if not prediction.scores.is_finite:
        assignment.fallback = "not_finite"
        return None
    if prediction.rows.bad_rows and candidate.schema != champion.schema:
        of_champion = predict(champion)
        if not prediction.rows.bad_rows.keys() <= of_champion.rows.bad_rows.keys():
            assignment.fallback = "refused"
            return of_champion
    return prediction


def find_key(
    headers: Mapping[str, str], parameters: Mapping[str, Any], column: str | None, read: Callable[[str], Any]
) -> str | None:
    """Return the key that a request names, None when it names none; ``read`` returns the value of a column."""
    header = headers.get(ROUTING_KEY_HEADER)
    if header:
        return str(header)
    named = parameters.get(ROUTING_KEY_PARAMETER)
    if named is None and column is not None:
        named = read(column)
    return None if named is None or named is ABSENT else write_row_id(named)
