"""Hashed token counts of short texts, the same in training and serving.

The numbers follow from the text alone, so there is no vocabulary to learn, to store or to leak: a token's column and
sign are bits of its CRC-32 (the hashing trick: Weinberger, Dasgupta, Langford, Smola and Attenberg, "Feature hashing
for large scale multitask learning", ICML 2009). The sign lets tokens that share a column cancel on average instead of
adding up.
"""

import re
from collections.abc import Iterable
from functools import cache
from zlib import crc32

import numpy as np
import numpy.typing as npt

#: Characters of a text that are read, in training and in serving.
MAX_CHARACTERS = 5_000
#: Characters of a token that distinguish it from others.
MAX_TOKEN_LENGTH = 40

_TOKEN = re.compile(r"\w+")
#: Beyond it are no marks except a few that choose between forms of one letter.
_LAST_MARK = 0x20000
_SIGN = 0x8000_0000


def split_tokens(text: str) -> list[str]:
    """Return the tokens of a text: runs of letters, their marks, and digits of any script, in lower case.

    Text beyond ASCII is normalised to Unicode's form NFKC and case-folded, so that composed and decomposed accents,
    wide and narrow letters are the same words. Emoji and punctuation separate words. Where a script writes no spaces,
    a clause is one token.
    """
    text = text[:MAX_CHARACTERS]
    if text.isascii():
        return [token[:MAX_TOKEN_LENGTH] for token in _TOKEN.findall(text.lower())]
    from unicodedata import normalize  # noqa: PLC0415 - a megabyte of tables that most texts do not need

    return [token[:MAX_TOKEN_LENGTH] for token in _unicode_token().findall(normalize("NFKC", text).casefold())]


@cache
def _unicode_token() -> re.Pattern[str]:
    """Return the pattern of a token with its marks: vowels of Indic scripts and of Arabic are no letters to ``re``."""
    from unicodedata import category  # noqa: PLC0415 - as above

    marks = "".join(letter for letter in map(chr, range(0x300, _LAST_MARK)) if category(letter)[0] == "M")
    return re.compile(rf"\w[\w{re.escape(marks)}]*")


def token_counts(text: str, width: int) -> list[float]:
    """Return the number of a text's tokens, then the signed counts of ``width`` columns that they are hashed into.

    They are whole numbers that float32 holds exactly. The empty string is a missing text: all zeros.
    """
    tokens = split_tokens(text)
    numbers = [0.0] * (1 + width)
    numbers[0] = float(len(tokens))
    for token in tokens:
        bits = crc32(token.encode())
        numbers[1 + bits % width] += 1.0 if bits & _SIGN else -1.0
    return numbers


def fill_token_counts(matrix: npt.NDArray[np.float32], texts: Iterable[str]) -> None:
    """Write the numbers of many texts into a matrix of shape (n_texts, 1 + width)."""
    width = matrix.shape[1] - 1
    for row, text in enumerate(texts):
        matrix[row] = token_counts(text, width)


def count_tokens(texts: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return the number of tokens of each text; NaN where it is missing: empty, or no text."""
    counts = [float(len(split_tokens(text))) if isinstance(text, str) and text else np.nan for text in texts.tolist()]
    return np.array(counts, dtype=np.float64)
