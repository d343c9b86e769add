"""Versions and the aliases that point to them."""

from millrace.aws.registry.keys import STATE, model_key, version_key
from millrace.aws.registry.ledger import ledger_item
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.errors import AliasConflictError, ConflictError, ModelNotFoundError, VersionNotFoundError
from millrace.registry.entities import LedgerEntry, ModelVersion


class VersionItems(TableItems):
    """Versions, the version counter, and alias moves."""

    def next_version(self, model: str) -> int:
        """Take the next version number; no two callers get the same."""
        number = self._table.increment(model_key(model, STATE), "latest_version")
        if number is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        return number

    def put_version(self, version: ModelVersion, entry: LedgerEntry) -> None:
        """Record a version and its ledger entry in one transaction; raises ``ConflictError`` when it exists."""
        failed = self._table.transact(
            [
                self._table.putting_new({**version_key(version.model, version.version), **encode(version)}),
                self._table.putting_new(ledger_item(entry)),
            ]
        )
        if failed:
            raise ConflictError(f"version {version.version} of {version.model!r} exists already")

    def get_version(self, model: str, version: int) -> ModelVersion:
        """Return a version; raises ``VersionNotFoundError``."""
        item = self._table.get(version_key(model, version))
        if item is None:
            raise _no_version(model, version)
        return decode(ModelVersion, item)

    def list_versions(self, model: str) -> list[ModelVersion]:
        """Return versions, newest first."""
        items = self._table.query(f"MODEL#{model}", "VERSION#", newest_first=True)
        return [decode(ModelVersion, item) for item in items]

    def move_alias(self, model: str, alias: str, version: int, expected_revision: int, entry: LedgerEntry) -> None:
        """Point ``alias`` to ``version`` and write the ledger entry, in one transaction.

        Raises
        ------
        AliasConflictError
            When the model's revision is not ``expected_revision`` (any more).
        VersionNotFoundError
            When there is no such version to point to.
        ModelNotFoundError
            When there is no such model.
        """
        state_key = model_key(model, STATE)
        move = self._table.updating(
            state_key,
            "SET aliases.#alias = :version, revision = revision + :one",
            "revision = :expected",
            {"version": version, "one": 1, "expected": expected_revision},
            {"#alias": alias},
        )
        failed = self._table.transact(
            [self._table.checking(version_key(model, version)), move, self._table.putting_new(ledger_item(entry))]
        )
        if not failed:
            return
        if self._table.get(state_key) is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        if 0 in failed:
            raise _no_version(model, version)
        raise AliasConflictError(f"the aliases of {model!r} moved since revision {expected_revision}")


def _no_version(model: str, version: int) -> VersionNotFoundError:
    return VersionNotFoundError(f"the model {model!r} has no version {version}")
