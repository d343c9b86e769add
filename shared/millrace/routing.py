"""Routing plan of a release: the share of a model's requests that each candidate serves.

The plan stands in the item that names the champion, so ``predict`` reads it with the champion and needs nothing else.
A keyed hash of a request's routing key is a number from 0 to 1, and every arm has a range of them that begins where the
one before ends: raising a share moves new keys only, and lowering it again returns the same keys. The release's id is
the key of the hash, so the keys of one release are independent of those of another, and of the sampling of captures,
which hashes prediction ids by CRC-32. (CRC-32 is linear: a salt in front of it does not make two selections
independent.)
"""

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple

#: Names of the arms in records of traffic; a release with further candidates numbers them.
CHAMPION_ARM = "champion"
CANDIDATE_ARM = "candidate"

_HASH_RANGE = 2**64
_HASH_BYTES = 8
#: A sum of shares may be off by so much.
_ROUNDING = 1e-9
#: Sorts after every place: the end of all requests.
_LAST = b"\xff" * (_HASH_BYTES + 1)
#: Keys in the sample have a byte below this: a sixteenth of all, of every arm, because the first bytes choose the arm.
_SAMPLING_BYTE, _SAMPLED = 4, 16
_MARK_BEGINS = 3
_LOW_BITS = 2**32 - 1
#: BLAKE2b takes no longer key.
_MAX_KEY_BYTES = 64


#: Groups of routing keys, numbered from 1; 0 is none. Bad events by group tell whether few callers have most of them.
KEY_GROUPS = 256


def group_key(place: bytes) -> int:
    """Return the group of a key from its place; by its last byte, as the first ones choose the arm."""
    return 1 + place[-1]


def mark_key(place: bytes) -> str:
    """Return the mark by which a sampled key is counted once, from its place; empty for the others."""
    return place[_MARK_BEGINS:].hex() if place[_SAMPLING_BYTE] < _SAMPLED else ""


def order_marks(mark: str) -> int:
    """Return a sort key of marks that is independent of their arms: the first of them are a sample of the keys."""
    return int(mark, 16) & _LOW_BITS


class AliasPointer(NamedTuple):
    """The version that an alias points to, and the stored plan beside it; empty without an active release."""

    version: int
    routing: str = ""


@dataclass(frozen=True, slots=True)
class PlannedArm:
    """A candidate and its share of the requests, from 0 to 1."""

    version: int
    weight: float
    name: str = CANDIDATE_ARM


@dataclass(frozen=True)
class RoutingPlan:
    """Arms of a release beside the champion, which serves the rest.

    Parameters
    ----------
    stage : int
        Number of the release's stage, from 0: within one, weights do not change.
    baseline : int
        The champion that the release began with. The plan holds beside no other.
    key_column : str or None
        The column whose value routes a request of one row; None takes the id column.
    """

    release_id: str
    stage: int
    baseline: int
    arms: tuple[PlannedArm, ...]
    key_column: str | None = None
    _ends: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    _hash: "blake2b" = field(init=False, repr=False, compare=False)  # with the key, before any text

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for weights that are no shares."""
        weights = [arm.weight for arm in self.arms]
        if any(not 0.0 <= weight <= 1.0 for weight in weights) or sum(weights) > 1.0 + _ROUNDING:
            raise ValueError(f"the weights of release {self.release_id} are no shares of all requests")
        key = self.release_id.encode()[:_MAX_KEY_BYTES]
        object.__setattr__(self, "_hash", blake2b(digest_size=_HASH_BYTES, key=key))
        ends = (round(end * _HASH_RANGE) for end in accumulate(weights))
        written = (end.to_bytes(_HASH_BYTES, "big") if end < _HASH_RANGE else _LAST for end in ends)
        object.__setattr__(self, "_ends", tuple(written))

    def locate(self, key: str) -> bytes:
        """Return the place of a routing key among all: its hash of 64 bits, whose bytes sort as places do.

        A whole number of that size would take several objects to make and to compare, in every request.
        """
        hashed = self._hash.copy()
        hashed.update(key.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def number_at(self, place: bytes) -> int:
        """Return the number of the arm that serves the requests at a place; that of no arm for the champion."""
        return bisect_right(self._ends, place)

    def arm_at(self, place: bytes) -> PlannedArm | None:
        """Return the arm that serves the requests at a place; None for the champion."""
        number = self.number_at(place)
        return self.arms[number] if number < len(self.arms) else None

    def assign(self, key: str) -> PlannedArm | None:
        """Return the arm that serves requests of a routing key; None for the champion."""
        return self.arm_at(self.locate(key))

    def write(self) -> str:
        """Return the plan as it is stored."""
        document = {
            "release_id": self.release_id,
            "stage": self.stage,
            "baseline": self.baseline,
            "key_column": self.key_column,
            "arms": [{"version": arm.version, "weight": arm.weight, "name": arm.name} for arm in self.arms],
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def read(cls, text: str) -> "RoutingPlan":
        """Read a stored plan; raises ``ValueError`` for anything else."""
        try:
            document = json.loads(text)
            arms = tuple(
                PlannedArm(int(arm["version"]), float(arm["weight"]), str(arm["name"])) for arm in document["arms"]
            )
            numbers = int(document["stage"]), int(document["baseline"])
            return cls(str(document["release_id"]), *numbers, arms, document.get("key_column"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this is no routing plan") from error
