"""The regular expressions that a spec takes: what Python's ``re`` and RE2, which runs in linear time, both read alike.

RE2 itself comes with pyarrow, which the functions that store specs do not have.
"""

import re

#: Repetitions of one part, nested ones multiplied, as RE2 limits them.
MAX_REPEATS = 1_000
#: Parts of a pattern once repetitions are written out: far below RE2's limit of memory.
_MAX_PARTS = 4_000
_MAX_DEPTH = 50

_FLAGS = re.compile(r"\(\?[ims]+\)")
_ESCAPED = r"\\(?:x[0-9A-Fa-f]{2}|[^\w\s\x80-\U0010ffff]|[dDwWsSntrfv])"
_TOKEN = re.compile(
    r"(?P<repeat>[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??"
    r"|(?P<open>\((?:\?:|\?P<[A-Za-z_][A-Za-z0-9_]*>|\?[ims]+:|(?!\?)))"
    r"|(?P<close>\))"
    rf"|(?P<set>\[\^?+\]?+(?:{_ESCAPED}|(?!--|&&|~~|\|\|)[^\[\]\\])*+\])"
    rf"|(?P<one>{_ESCAPED}|\\[bBA]|\{{(?!,)|[^\\()\[*+?{{])",
    re.ASCII | re.DOTALL,
)


def check_pattern(pattern: str) -> str:
    """Return a pattern that RE2 reads as Python does, and compiles; raises ``ValueError`` with the part it does not."""
    flags = _FLAGS.match(pattern)
    position = flags.end() if flags else 0
    # Of each open group the parts so far, and the repeats within them.
    groups: list[tuple[int, int]] = [(0, 1)]
    last, repeated = (0, 1), False
    while position < len(pattern):
        token = _TOKEN.match(pattern, position)
        if token is None or (token["repeat"] and repeated) or (token["close"] and len(groups) == 1):
            raise ValueError(f"{pattern[position : position + 20]!r} is not supported: {_SUPPORTED}")
        position, repeated = token.end(), bool(token["repeat"])
        if token["open"]:
            groups.append((0, 1))
            if len(groups) > _MAX_DEPTH:
                raise ValueError(f"nests more than {_MAX_DEPTH} groups")
            last = (0, 1)
            continue
        if token["repeat"]:
            times = max([int(number) for number in re.findall("[0-9]+", token["repeat"])] or [1])
            added, last = last, (last[0] * times, last[1] * times)
            size, most = groups[-1]
            groups[-1] = (size - added[0] + last[0], max(most, last[1]))
        else:
            last = groups.pop() if token["close"] else (max(1, len(token[0]) // 2) if token["set"] else 1, 1)
            last = (max(1, last[0]), last[1])
            groups[-1] = (groups[-1][0] + last[0], max(groups[-1][1], last[1]))
        if last[1] > MAX_REPEATS or groups[-1][0] > _MAX_PARTS:
            raise ValueError(f"repeats too often: at most {MAX_REPEATS:,} times, nested repetitions multiplied")
    try:
        pattern.encode()
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, UnicodeError) as fault:
        raise ValueError(f"is not a regular expression: {fault}") from fault
    return pattern


_SUPPORTED = (
    "patterns are RE2's that Python reads alike, without look-around, back-references, atomic groups, possessive "
    "quantifiers, comments, \\Z and \\u"
)
