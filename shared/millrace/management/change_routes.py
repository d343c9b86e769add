"""Routes that change the serving version, what is kept of the others, the existence of a model, and who may use it."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.documents import to_plain
from millrace.entities import KeyScope, LedgerEntry
from millrace.errors import NotFoundError
from millrace.key_scopes import EVERY_MODEL
from millrace.management.calls import ApiRoute, Call
from millrace.names import make_cause_id, make_run_id, validate_model_name
from millrace.registry.approvals import DecidedApproval, Decision, decide_approval
from millrace.registry.deletion import Deletion, delete_model
from millrace.registry.garbage import collect
from millrace.registry.ledger import KEYS_LEDGER, AuditContext
from millrace.registry.promotion import ChampionChange, Retirement, promote, retire, roll_back
from millrace.releases.control import RELEASE_ACTIONS, ReleaseResult, change_active_release, start_release
from millrace.spec import invalid_input

#: Of a reason in the ledger.
MAX_REASON = 1_000
#: Each is read before a key may use it.
MAX_MODELS_OF_A_KEY = 100
#: The upper limit is more than any model has, and fits every key.
VersionNumber = Annotated[int, Field(ge=1, le=999_999)]


class ChangeRequest(BaseModel):
    """Body of a request that changes something: the ledger needs a reason."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: str = Field(min_length=1, max_length=MAX_REASON, pattern=r"\S")

    @classmethod
    def read(cls, call: Call) -> Self:
        """Read a request's body; raises ``InvalidInputError``, which names every bad field."""
        try:
            return cls.model_validate(call.request.body)
        except ValidationError as error:
            raise invalid_input("the request is not valid", error) from error

    def audit(self, call: Call) -> AuditContext:
        """Return the caller, the reason and the time."""
        return AuditContext(call.request.caller, self.reason.strip(), call.now)


class PromotionRequest(ChangeRequest):
    """Body of ``POST /models/{model}/promote``."""

    version: VersionNumber
    expected_champion: VersionNumber | None = None


class RollbackRequest(ChangeRequest):
    """Body of ``POST /models/{model}/rollback``."""

    to: VersionNumber | None = None
    expected_champion: VersionNumber | None = None


class RetirementRequest(ChangeRequest):
    """Body of ``POST /models/{model}/retire``."""

    version: VersionNumber


class ApprovalRequest(ChangeRequest):
    """Body of ``POST /models/{model}/runs/{run_id}/approval``."""

    decision: Decision
    expected_champion: VersionNumber | None = None


class CollectionRequest(ChangeRequest):
    """Body of ``POST /models/{model}/gc``."""

    dry_run: bool = False


class ReleaseStart(ChangeRequest):
    """Body of ``POST /models/{model}/releases``; what it leaves out is the spec's."""

    version: VersionNumber
    strategy: str | None = None
    steps: Any = None
    bake: str | None = None
    min_requests: int | None = None
    sticky_by: str | None = None
    shadow_first: str | None = None
    guards: Any = None
    reward: Any = None
    reward_after: str | None = None
    effect: float | None = None
    floor: float | None = None
    versions: list[VersionNumber] | None = None
    max_duration: str | None = None
    on_undecided: str | None = None


class KeyScopeRequest(ChangeRequest):
    """Body of ``PUT /keys/{key_id}``: names of models, ``*`` for every model, nothing for none."""

    models: list[str] = Field(max_length=MAX_MODELS_OF_A_KEY)


def _promote(call: Call, model: str) -> ChampionChange:
    body = PromotionRequest.read(call)
    return promote(model, body.version, body.audit(call), **call.stores, expected_champion=body.expected_champion)


def _roll_back(call: Call, model: str) -> ChampionChange:
    body = RollbackRequest.read(call)
    audit, expected = body.audit(call), body.expected_champion
    return roll_back(model, audit, **call.stores, to_version=body.to, expected_champion=expected)


def _retire(call: Call, model: str) -> Retirement:
    body = RetirementRequest.read(call)
    return retire(model, body.version, body.audit(call), registry=call.registry)


def _collect_garbage(call: Call, model: str) -> dict[str, Any]:
    body = CollectionRequest.read(call)
    document: dict[str, Any] = to_plain(collect(model, body.audit(call), **call.stores, dry_run=body.dry_run))
    del document["keys"]
    return document


def _delete(call: Call, model: str) -> Deletion:
    audit, callback, monitoring = ChangeRequest.read(call).audit(call), call.callback(), call.monitoring()
    schedules, registry = call.schedules(), call.registry
    return delete_model(model, audit, registry=registry, schedules=schedules, callback=callback, monitoring=monitoring)


def _decide(call: Call, model: str, run_id: str) -> DecidedApproval:
    body = ApprovalRequest.read(call)
    audit, callback, expected = body.audit(call), call.callback(), body.expected_champion
    return decide_approval(
        model, run_id, body.decision, audit, **call.stores, callback=callback, expected_champion=expected
    )


def _start_monitoring(call: Call, model: str) -> dict[str, Any]:
    """Start a monitoring run at once, instead of on schedule; the same request starts one."""
    run = make_run_id(make_cause_id("look", call.existing(model), call.request.request_id), call.now)
    call.monitoring().start(model, run)
    return {"model": model, "run": run, "status": "running"}


def _scope_key(call: Call, key_id: str) -> KeyScope:
    """Replace the scope of an API key, which the gateway knows and this function does not."""
    body = KeyScopeRequest.read(call)
    for model in body.models:
        if model != EVERY_MODEL:
            call.registry.get_state(validate_model_name(model)).ensure_not_deleted()
    audit, models = body.audit(call), tuple(dict.fromkeys(body.models))
    scope = KeyScope(key_id, models, audit.now, audit.actor)
    entry_id = make_cause_id("key", key_id, call.request.request_id)
    action, details = "key_scoped" if models else "key_revoked", {"key_id": key_id, "models": list(models)}
    call.registry.put_key_scope(
        scope, LedgerEntry(KEYS_LEDGER, entry_id, audit.now, audit.actor, action, audit.reason, details)
    )
    return scope


def _start_release(call: Call, model: str) -> ReleaseResult:
    body = ReleaseStart.read(call)
    overrides = body.model_dump(exclude={"version", "reason"}, exclude_none=True)
    return start_release(model, body.version, overrides, body.audit(call), **call.stores)


def _change_release(call: Call, model: str, release_id: str, action: str) -> ReleaseResult:
    """Pause, resume, abort or promote a release."""
    if action not in RELEASE_ACTIONS:
        raise NotFoundError(f"a release has no {action[:40]!r}: choose from {', '.join(RELEASE_ACTIONS)}")
    audit = ChangeRequest.read(call).audit(call)
    return change_active_release(model, release_id, action, audit, **call.stores)


ROUTES = (
    ApiRoute("PUT", "/keys/<key_id>", _scope_key),
    ApiRoute("DELETE", "/models/<model>", _delete),
    ApiRoute("POST", "/models/<model>/monitoring", _start_monitoring),
    ApiRoute("POST", "/models/<model>/promote", _promote),
    ApiRoute("POST", "/models/<model>/rollback", _roll_back),
    ApiRoute("POST", "/models/<model>/retire", _retire),
    ApiRoute("POST", "/models/<model>/releases", _start_release),
    ApiRoute("POST", "/models/<model>/releases/<release_id>/<action>", _change_release),
    ApiRoute("POST", "/models/<model>/gc", _collect_garbage),
    ApiRoute("POST", "/models/<model>/runs/<run_id>/approval", _decide),
)
