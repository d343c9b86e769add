"""Words held to a regular expression of RE2's: many at a time where that cannot change the verdict.

RE2 takes as long to begin a search as to look at a short word. So words are joined, one a line, where a line break can
neither be part of a word nor be matched by the pattern. A group of lines that do not all match is looked at word by
word.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.positions import Positions, true_positions

#: Words that are looked at together: where one in a thousand is at fault, that is one group in thirty.
GROUP = 32

_NEWLINE = 10
#: What matches no line break, whatever it is put together to: no negation, no flags, no named or escaped classes but
#: digits and letters.
_WITHIN_A_LINE = re.compile(
    r"(?:[A-Za-z0-9_ @#%&=:;,!<>/|){}\]*+?.-]"
    r"|\((?!\?)"
    r"|\[(?![\^:])"
    r"|\\[dw.+*?|()\[\]{}/-])+"
)


def unmatched(words: pa.Array, pattern: str) -> Positions:
    """Return the positions of the words that a pattern does not match from end to end; missing ones are none."""
    if words.null_count:
        known = true_positions(pc.is_valid(words))
        return known[unmatched(words.drop_null(), pattern)]
    if len(words) > GROUP and _WITHIN_A_LINE.fullmatch(pattern) and not _have_line_breaks(words):
        suspects = _suspects(words, pattern)
        return suspects[_unmatched_alone(words.take(pa.array(suspects)), pattern)]
    return _unmatched_alone(words, pattern)


def _suspects(words: pa.Array, pattern: str) -> Positions:
    """Return the positions of all words in groups that do not match."""
    starts = np.minimum(np.arange(0, len(words) + GROUP, GROUP, dtype=np.int32), np.int32(len(words)))
    groups = pc.binary_join(pa.ListArray.from_arrays(starts, words), "\n")
    lines = rf"\A(?:{pattern})(?:\n(?:{pattern}))*\z"
    try:
        failed = true_positions(pc.invert(pc.match_substring_regex(groups, lines)))
    except pa.ArrowInvalid:
        # Twice the pattern may be more than RE2 takes, where once is not.
        return np.arange(len(words))
    positions = (failed[:, np.newaxis] * GROUP + np.arange(GROUP)).ravel()
    return positions[positions < len(words)]


def _unmatched_alone(words: pa.Array, pattern: str) -> Positions:
    return true_positions(pc.invert(pc.match_substring_regex(words, rf"\A(?:{pattern})\z")))


def _have_line_breaks(words: pa.Array) -> bool:
    _, offsets, letters = words.buffers()
    if letters is None:
        return False
    ends = np.frombuffer(offsets, dtype=np.int32)
    first, last = ends[words.offset], ends[words.offset + len(words)]
    return bool((np.frombuffer(letters, dtype=np.uint8)[first:last] == _NEWLINE).any())
