"""Keys of items of the registry."""

from typing import Literal, NamedTuple

#: ``registry`` holds what acting functions write alone, ``runs`` what functions that read files of users may write too,
#: ``tracking`` what MLflow clients log.
Table = Literal["registry", "runs", "tracking"]


class Key(NamedTuple):
    """The key of an item; items of a partition are in the order of their sort keys."""

    partition: str
    sort: str
    table: Table = "registry"
