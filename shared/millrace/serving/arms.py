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
from millrace.routing import CHAMPION_ARM, RoutingPlan, mark_key
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


@dataclass(slots=True)
class Assignment:
    """The arm that a request was assigned to, and what came of it."""

    plan: RoutingPlan
    arm: str = CHAMPION_ARM
    version: int | None = None  # of the candidate; None for the champion
    fallback: Fallback | None = None
    not_finite: bool = False  # the champion's own prediction
    unloaded: bool = False  # this environment lacks a candidate
    key: str = ""  # mark of the routing key, if it is in the sample of keys
    error: Exception | None = None  # of the candidate

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        return {RELEASE_HEADER: self.plan.release_id, ARM_HEADER: self.arm}

    def members(self) -> dict[str, Any]:
        """Return the members of the request's line in the log."""
        found: dict[str, Any] = {"release": self.plan.release_id, "stage": self.plan.stage, "arm": self.arm}
        if self.fallback:
            found["fallback"] = self.fallback
        if self.not_finite:
            found["not_finite"] = 1
        if self.unloaded:
            found["unloaded"] = 1
        if self.key:
            found["key"] = self.key
        return found


@dataclass(frozen=True, slots=True)
class ActiveRelease:
    """A routing plan, and the candidates that are loaded, by version.

    ``read_alike`` holds the versions that read a request as the champion does: rows without names are in the order of
    a version's own features. ``key_column`` is the plan's, or the id column. Unless that is sensitive, a sample of keys
    is marked, so that the arms' shares of them can be compared with the plan's.
    """

    plan: RoutingPlan
    candidates: Mapping[int, LoadedModel]
    read_alike: frozenset[int]
    key_column: str | None
    unloaded: bool
    marks_keys: bool

    @classmethod
    def of(cls, plan: RoutingPlan, candidates: Mapping[int, LoadedModel], champion: LoadedModel) -> "ActiveRelease":
        """Return the release of candidates beside a champion."""
        form = request_form(champion.schema)
        alike = frozenset(version for version, one in candidates.items() if request_form(one.schema) == form)
        identifier = champion.schema.identifier
        column = plan.key_column or (None if identifier is None else identifier.name)
        # The key of the hash is no secret, so a mark would give away who has a sensitive value.
        is_sensitive = any(known.sensitive for known in champion.schema.columns if known.name == column)
        unloaded = len(candidates) < len(plan.arms)
        return cls(plan, candidates, alike | {champion.version}, column, unloaded, not is_sensitive)

    def assign(self, key: str | None, prediction_id: str) -> Assignment:
        """Assign a request to an arm by its routing key, None when it names none."""
        place = self.plan.locate(prediction_id if key is None else key)
        arm, mark = self.plan.arm_at(place), mark_key(place) if self.marks_keys else ""
        if arm is None:
            return Assignment(self.plan, unloaded=self.unloaded, key=mark)
        return Assignment(self.plan, arm.name, arm.version, unloaded=self.unloaded, key=mark)


def predict_assigned(
    assignment: Assignment,
    release: ActiveRelease,
    champion: LoadedModel,
    predict: Callable[[LoadedModel], Prediction],
) -> Prediction:
    """Return the prediction of the assigned arm, or the champion's where the candidate has none."""
    if assignment.version is None:
        prediction = predict(champion)
        assignment.not_finite = not prediction.scores.is_finite
        return prediction
    candidate = release.candidates.get(assignment.version)
    found = _try_candidate(assignment, candidate, champion, predict)
    if found is not None:
        return found
    try:
        return predict(champion)
    except Exception:
        assignment.fallback = None  # nobody answered, and the request counts once, by its status
        raise


def _try_candidate(
    assignment: Assignment,
    candidate: LoadedModel | None,
    champion: LoadedModel,
    predict: Callable[[LoadedModel], Prediction],
) -> Prediction | None:
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
