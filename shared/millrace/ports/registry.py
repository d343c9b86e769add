"""The store of the registry: items by key, with conditions and changes as data.

:mod:`millrace.registry` decides what is written under which conditions; a store only checks them and writes. Values are
strings, whole numbers and, for a model's aliases, a mapping of numbers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

Item = Mapping[str, Any]
#: An attribute, or one entry of an attribute that is a mapping.
Path = str | tuple[str, str]
#: New values by path; a mapping is invariant in the type of its keys.
Assignments = Mapping[Any, Any]


class Key(NamedTuple):
    """The key of an item; items of a partition are in the order of their sort keys."""

    partition: str
    sort: str


@dataclass(frozen=True, slots=True)
class Exists:
    """An attribute exists; by default, the item does."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True)
class Absent:
    """An attribute does not exist; by default, the item does not."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True)
class Compare:
    """An attribute compares with a value, or does not exist where ``or_absent`` allows it."""

    attribute: str
    operator: Literal["=", "<>", "<"]
    value: str | int
    or_absent: bool = False


Condition = Exists | Absent | Compare


@dataclass(frozen=True, slots=True)
class Plus:
    """The new value is that of a counter, 0 where it is absent, plus a number."""

    counter: str
    number: int


@dataclass(frozen=True, slots=True)
class Default:
    """The new value is the present one, or this one where the attribute is absent."""

    value: str | int | Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Put:
    """Write an item that does not exist yet, or with ``replace`` whatever exists."""

    key: Key
    item: Item
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Set and remove attributes of an item; without conditions it is created where it does not exist."""

    key: Key
    set: Assignments
    remove: tuple[Path, ...] = ()
    conditions: tuple[Condition, ...] = (Exists(),)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an item."""

    key: Key
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """Change nothing; the transaction needs the conditions to hold."""

    key: Key
    conditions: tuple[Condition, ...] = (Exists(),)


class RegistryStore(Protocol):
    """A table of items. Reads are consistent: decisions are made on them."""

    def get(self, key: Key) -> Item | None:
        """Return an item, or None."""
        ...

    def query(
        self,
        partition: str,
        prefix: str = "",
        *,
        up_to: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Item]:
        """Yield the items of a partition whose sort keys start with ``prefix``, in their order, or the reverse.

        With ``up_to``, those whose sort keys are from ``prefix`` to ``up_to``, both included.
        """
        ...

    def write(self, change: Put | Update | Delete) -> Item | None:
        """Make one change; return the attributes that an update set, or None, unless its conditions held."""
        ...

    def transact(self, changes: Sequence[Put | Update | Delete | Check]) -> list[int]:
        """Make all of ``changes``, no two on one item, or none.

        Returns
        -------
        list of int
            The positions of the changes whose conditions failed; empty when all were made.

        Raises
        ------
        ServiceUnavailableError
            When other transactions kept getting in the way.
        """
        ...
