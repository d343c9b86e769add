"""Versions and their numbers."""

from datetime import datetime

from millrace.aws.registry.keys import STATE, model_key, version_key
from millrace.aws.registry.ledger import writing
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.entities import LedgerEntry, ModelVersion
from millrace.errors import ConflictError, ModelDeletedError, ModelNotFoundError, VersionNotFoundError


class VersionItems(TableItems):
    """Versions and the version counter."""

    def next_version(self, model: str) -> int:
        """Take the next version number; no two callers get the same."""
        number = self._table.increment(model_key(model, STATE), "latest_version")
        if number is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        return number

    def put_version(self, version: ModelVersion, entry: LedgerEntry) -> None:
        """Record a version and its ledger entry in one transaction; see :meth:`millrace.ports.Registry.put_version`."""
        failed = self._table.transact(
            [
                self._table.putting_new({**version_key(version.model, version.version), **encode(version)}),
                self._table.checking(model_key(version.model, STATE), "attribute_not_exists(deleted_at)"),
                *writing(self._table, entry),
            ]
        )
        if 1 in failed:
            raise ModelDeletedError(f"the model {version.model!r} was deleted")
        if failed:
            raise ConflictError(f"version {version.version} of {version.model!r} exists already")

    def get_version(self, model: str, version: int) -> ModelVersion:
        """Return a version; raises ``VersionNotFoundError``."""
        item = self._table.get(version_key(model, version))
        if item is None:
            raise no_version(model, version)
        return decode(ModelVersion, item)

    def list_versions(self, model: str) -> list[ModelVersion]:
        """Return versions, newest first."""
        items = self._table.query(f"MODEL#{model}", "VERSION#", newest_first=True)
        return [decode(ModelVersion, item) for item in items]

    def mark_collected(self, model: str, version: int, now: datetime) -> None:
        """Note that a retired version's artifacts were deleted; raises ``VersionNotFoundError``."""
        if not self._table.change(version_key(model, version), {"collected_at": now}):
            raise no_version(model, version)


def no_version(model: str, version: int) -> VersionNotFoundError:
    """Return the error that says there is no such version."""
    return VersionNotFoundError(f"the model {model!r} has no version {version}")
