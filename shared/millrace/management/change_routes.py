"""Routes that change the serving version, what is kept of the others, and the existence of a model."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.documents import to_plain
from millrace.management.calls import ApiRoute, Call
from millrace.names import make_cause_id, make_run_id
from millrace.registry.approvals import DecidedApproval, Decision, decide_approval
from millrace.registry.deletion import Deletion, delete_model
from millrace.registry.garbage import collect
from millrace.registry.promotion import ChampionChange, Retirement, promote, retire, roll_back
from millrace.registry.transactions import AuditContext
from millrace.spec import invalid_input

#: Of a reason in the ledger.
MAX_REASON = 1_000
#: More than any model has; fits every key.
_MAX_VERSION = 999_999


class ChangeRequest(BaseModel):
    """Body of a request that changes something: the ledger needs a reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: str = Field(min_length=1, max_length=MAX_REASON, pattern=r"\S")

    @classmethod
    def read(cls, call: Call) -> Self:
        """Read a request's body.

        Raises ``InvalidInputError``, which names every bad field.
        """
        try:
            return cls.model_validate(call.request.body)
        except ValidationError as error:
            raise invalid_input("the request is not valid", error) from error

    def audit(self, call: Call) -> AuditContext:
        """Return the caller, the reason and the time."""
        return AuditContext(call.request.caller, self.reason.strip(), call.now)


class PromotionRequest(ChangeRequest):
    """Body of ``POST /models/{model}/promote``."""

    version: int = Field(ge=1, le=_MAX_VERSION)
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class RollbackRequest(ChangeRequest):
    """Body of ``POST /models/{model}/rollback``."""

    to: int | None = Field(default=None, ge=1, le=_MAX_VERSION)
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class RetirementRequest(ChangeRequest):
    """Body of ``POST /models/{model}/retire``."""

    version: int = Field(ge=1, le=_MAX_VERSION)


class ApprovalRequest(ChangeRequest):
    """Body of ``POST /models/{model}/runs/{run_id}/approval``."""

    decision: Decision
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class CollectionRequest(ChangeRequest):
    """Body of ``POST /models/{model}/gc``."""

    dry_run: bool = False


def promote_version(call: Call, model: str) -> ChampionChange:
    """Make a version the champion."""
    request = PromotionRequest.read(call)
    return promote(
        model,
        request.version,
        request.audit(call),
        registry=call.registry,
        model_store=call.model_store,
        expected_champion=request.expected_champion,
    )


def roll_back_model(call: Call, model: str) -> ChampionChange:
    """Make an earlier champion the champion again."""
    request = RollbackRequest.read(call)
    return roll_back(
        model,
        request.audit(call),
        registry=call.registry,
        model_store=call.model_store,
        to_version=request.to,
        expected_champion=request.expected_champion,
    )


def retire_unused_version(call: Call, model: str) -> Retirement:
    """Retire a version, for good."""
    request = RetirementRequest.read(call)
    return retire(model, request.version, request.audit(call), registry=call.registry)


def collect_garbage(call: Call, model: str) -> dict[str, Any]:
    """Delete the artifacts that nothing refers to, or only list them."""
    request = CollectionRequest.read(call)
    collection = collect(
        model, request.audit(call), registry=call.registry, model_store=call.model_store, dry_run=request.dry_run
    )
    document: dict[str, Any] = to_plain(collection)
    del document["keys"]
    return document


def delete(call: Call, model: str) -> Deletion:
    """Delete a model: it stops serving, its schedules are removed, its history stays."""
    return delete_model(
        model,
        ChangeRequest.read(call).audit(call),
        registry=call.registry,
        schedules=call.schedules(),
        callback=call.callback(),
        monitoring=call.monitoring(),
    )


def decide_run(call: Call, model: str, run_id: str) -> DecidedApproval:
    """Approve or reject a version that waits."""
    request = ApprovalRequest.read(call)
    return decide_approval(
        model,
        run_id,
        request.decision,
        request.audit(call),
        registry=call.registry,
        model_store=call.model_store,
        callback=call.callback(),
        expected_champion=request.expected_champion,
    )


def start_monitoring(call: Call, model: str) -> dict[str, Any]:
    """Start a monitoring run at once, instead of on schedule; the same request starts one."""
    run = make_run_id(make_cause_id("look", call.existing(model), call.request.request_id), call.now)
    call.monitoring().start(model, run)
    return {"model": model, "run": run, "status": "running"}


ROUTES = (
    ApiRoute("DELETE", "/models/<model>", delete),
    ApiRoute("POST", "/models/<model>/monitoring", start_monitoring),
    ApiRoute("POST", "/models/<model>/promote", promote_version),
    ApiRoute("POST", "/models/<model>/rollback", roll_back_model),
    ApiRoute("POST", "/models/<model>/retire", retire_unused_version),
    ApiRoute("POST", "/models/<model>/gc", collect_garbage),
    ApiRoute("POST", "/models/<model>/runs/<run_id>/approval", decide_run),
)
