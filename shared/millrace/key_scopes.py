"""Models that an API key may use.

The gateway checks the key; the registry has its scope, by the key's id. A key without a scope may use every model, like
the keys of stacks that had no scopes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.errors import ForbiddenError, ServiceUnavailableError

#: The scope of a key that may use every model, also those to come.
EVERY_MODEL = "*"
#: Scopes that are kept; only keys that the gateway let in get here.
_CAPACITY = 1_000


def read_key_id(event: Mapping[str, Any]) -> str | None:
    """Return the id of the API key that the gateway let in; None for a signed request.

    The header is no substitute: a request may hold it twice, and the gateway chooses which one it checks.
    """
    identity = (event.get("requestContext") or {}).get("identity") or {}
    key_id = None if identity.get("userArn") else identity.get("apiKeyId")
    return str(key_id) if key_id else None


def ensure_in_scope(models: Sequence[str] | None, model: str) -> None:
    """Raise ``ForbiddenError`` unless the models of a key include one; None is every model."""
    if models is not None and model not in models and EVERY_MODEL not in models:
        raise ForbiddenError(f"the API key is not for the model {model!r}: ask for a key that is")


@dataclass(frozen=True, slots=True)
class _Known:
    models: Sequence[str] | None
    read_at: float


class KeyScopes:
    """Scopes of keys, each read again once it is ``seconds`` old on the monotonic ``clock``.

    ``read`` returns the models of a key by its id, None for a key without a scope. While it cannot, the last scope
    holds, and one request in ``seconds`` tries again: no other waits for a registry that does not respond.
    """

    def __init__(self, read: Callable[[str], Sequence[str] | None], seconds: float, clock: Callable[[], float]) -> None:
        self._read = read
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def ensure_allowed(self, key_id: str | None, model: str) -> None:
        """Raise ``ForbiddenError`` when a request came with a key that is not for the model.

        Raises ``ServiceUnavailableError`` when the scope of a new key cannot be read now.
        """
        if key_id is not None:
            ensure_in_scope(self._models(key_id), model)

    def allows(self, key_id: str | None, model: str) -> bool:
        """Return whether a request is allowed by what is known and current; False may mean that it has to be read."""
        if key_id is None:
            return True
        known = self._known.get(key_id)
        if known is None or self._clock() - known.read_at >= self._seconds:
            return False
        return known.models is None or model in known.models or EVERY_MODEL in known.models

    def _models(self, key_id: str) -> Sequence[str] | None:
        now, known = self._clock(), self._known.get(key_id)
        if known is None or now - known.read_at >= self._seconds:
            try:
                known = _Known(self._read(key_id), now)
            except ServiceUnavailableError:
                if known is None:
                    raise
                known = _Known(known.models, now)
            if len(self._known) >= _CAPACITY:
                self._known.clear()
            self._known[key_id] = known
        return known.models
