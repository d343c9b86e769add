"""Requests that change which version serves, what is kept of the others, and whether there is a model at all."""

from typing import Any

from pydantic import Field

from millrace.documents import to_plain
from millrace.management.calls import Call, Reasoned, Route
from millrace.management.reading import look_now
from millrace.names import validate_model_name, validate_run_id
from millrace.registry.approvals import Decision, answer_approval
from millrace.registry.deletion import delete_model
from millrace.registry.garbage import collect
from millrace.registry.promotion import promote, retire, roll_back

#: More than any model has; fits every key.
_MAX_VERSION = 999_999


class PromotionRequest(Reasoned):
    """Body of ``POST /models/{model}/promote``."""

    version: int = Field(ge=1, le=_MAX_VERSION)
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class RollbackRequest(Reasoned):
    """Body of ``POST /models/{model}/rollback``."""

    to: int | None = Field(default=None, ge=1, le=_MAX_VERSION)
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class RetirementRequest(Reasoned):
    """Body of ``POST /models/{model}/retire``."""

    version: int = Field(ge=1, le=_MAX_VERSION)


class ApprovalRequest(Reasoned):
    """Body of ``POST /models/{model}/runs/{run_id}/approval``."""

    decision: Decision
    expected_champion: int | None = Field(default=None, ge=1, le=_MAX_VERSION)


class DeletionRequest(Reasoned):
    """Body of ``DELETE /models/{model}``."""


class CollectionRequest(Reasoned):
    """Body of ``POST /models/{model}/gc``."""

    dry_run: bool = False


def promote_version(call: Call, model: str) -> dict[str, Any]:
    """Make a version the champion."""
    request = PromotionRequest.read(call)
    change = promote(
        validate_model_name(model),
        request.version,
        request.acting(call),
        registry=call.registry,
        model_store=call.model_store,
        expected_champion=request.expected_champion,
    )
    return dict(to_plain(change))


def roll_back_model(call: Call, model: str) -> dict[str, Any]:
    """Make an earlier champion the champion again."""
    request = RollbackRequest.read(call)
    change = roll_back(
        validate_model_name(model),
        request.acting(call),
        registry=call.registry,
        model_store=call.model_store,
        to_version=request.to,
        expected_champion=request.expected_champion,
    )
    return dict(to_plain(change))


def retire_version(call: Call, model: str) -> dict[str, Any]:
    """Retire a version, for good."""
    request = RetirementRequest.read(call)
    retirement = retire(validate_model_name(model), request.version, request.acting(call), registry=call.registry)
    return dict(to_plain(retirement))


def collect_garbage(call: Call, model: str) -> dict[str, Any]:
    """Delete the artifacts of what nothing refers to, or only tell which."""
    request = CollectionRequest.read(call)
    collection = collect(
        validate_model_name(model),
        request.acting(call),
        registry=call.registry,
        model_store=call.model_store,
        dry_run=request.dry_run,
    )
    document: dict[str, Any] = to_plain(collection)
    del document["keys"]
    return document


def delete(call: Call, model: str) -> dict[str, Any]:
    """Delete a model: it stops serving, its schedules go, its story stays."""
    request = DeletionRequest.read(call)
    deletion = delete_model(
        validate_model_name(model),
        request.acting(call),
        registry=call.registry,
        schedules=call.schedules(),
        callback=call.callback(),
        monitoring=call.monitoring(),
    )
    return dict(to_plain(deletion))


def answer_run(call: Call, model: str, run_id: str) -> dict[str, Any]:
    """Approve or reject a version that waits."""
    request = ApprovalRequest.read(call)
    answer = answer_approval(
        validate_model_name(model),
        validate_run_id(run_id),
        request.decision,
        request.acting(call),
        registry=call.registry,
        model_store=call.model_store,
        callback=call.callback(),
        expected_champion=request.expected_champion,
    )
    return dict(to_plain(answer))


ROUTES = (
    Route("DELETE", "/models/<model>", delete),
    Route("POST", "/models/<model>/monitoring", look_now),
    Route("POST", "/models/<model>/promote", promote_version),
    Route("POST", "/models/<model>/rollback", roll_back_model),
    Route("POST", "/models/<model>/retire", retire_version),
    Route("POST", "/models/<model>/gc", collect_garbage),
    Route("POST", "/models/<model>/runs/<run_id>/approval", answer_run),
)
