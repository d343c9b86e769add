"""Names of runs and logged models for which no name was given: ``quiet-heron-412``."""

_ADJECTIVES = (
    "amber",
    "bold",
    "brisk",
    "calm",
    "clever",
    "deft",
    "eager",
    "gentle",
    "keen",
    "lively",
    "merry",
    "nimble",
    "quiet",
    "rapid",
    "steady",
    "swift",
)
_NOUNS = (
    "badger",
    "crane",
    "falcon",
    "finch",
    "heron",
    "ibex",
    "lark",
    "lynx",
    "marten",
    "otter",
    "plover",
    "raven",
    "stoat",
    "swan",
    "tern",
    "wren",
)


def make_name(identifier: str) -> str:
    """Return the name that follows from 32 hexadecimal digits."""
    number = int(identifier[-8:], 16)
    return f"{_ADJECTIVES[number % 16]}-{_NOUNS[number // 16 % 16]}-{number // 256 % 1_000}"
