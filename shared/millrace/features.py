"""Typed columns to the two matrices that every model takes: one of float32, one of strings.

Training and serving share this module, so that a row becomes the same numbers in both. Imputation, encoding and scaling
belong to the model's own pipeline.

============  ======================  ==========================================================
column type   array                   in the matrices
============  ======================  ==========================================================
integer       float64, NaN missing    ``numbers``: float32, less ``Column.centre``
number        float64, NaN missing    ``numbers``: float32, less ``Column.centre``
boolean       float64, NaN missing    ``numbers``: 0, 1 or NaN
datetime      datetime64[us], NaT     ``numbers``: :data:`millrace.schema.DATE_PARTS`, NaN missing
category      str, ``''`` missing     ``strings``
text          str, ``''`` missing     ``numbers``: count of tokens, and hashed token counts; 0 missing
============  ======================  ==========================================================

The numbers of a text follow from it alone, so there is no vocabulary to learn, to store or to leak: a token's column
and sign are bits of its CRC-32 (the hashing trick: Weinberger, Dasgupta, Langford, Smola and Attenberg, "Feature
hashing for large scale multitask learning", ICML 2009). The sign lets tokens that share a column cancel on average
instead of adding up.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from millrace.schema import DATE_PARTS, ColumnType, TableSchema

#: Days are counted from here, so that float32 keeps them exact to a few minutes for two centuries.
EPOCH = np.datetime64("2000-01-01T00:00:00", "us")

MISSING_STRING = ""
#: From here on whole numbers differ that are one in float32.
EXACT_FLOAT32 = float(1 << 24)
#: Steps of float32 that the middle nine tenths of a column shall span.
FLOAT32_STEPS = 16_384
#: Values that decide whether they do.
_STEP_SAMPLE = 100_000
#: The largest number that float32 holds; larger ones are refused wherever numbers come in.
FLOAT32_MAX = 3.4028234663852886e38

#: Characters of a text that are read, in training and in serving.
MAX_CHARACTERS = 5_000
#: Characters of a token that distinguish it from others.
MAX_TOKEN_LENGTH = 40

_TOKEN = re.compile(r"\w+")
#: Beyond it are no marks except a few that choose between forms of one letter.
_LAST_MARK = 0x20000
_SIGN = 0x8000_0000

_MICROSECONDS_A_DAY = 86_400_000_000
_EPOCH = datetime(2000, 1, 1)  # noqa: DTZ001 - timestamps are UTC, without a zone, as in the array above
_NO_DATE = (float("nan"),) * 4


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """The two inputs of a model."""

    numbers: npt.NDArray[np.float32]  # shape (n_rows, n_numbers); missing values are NaN
    strings: npt.NDArray[Any]  # shape (n_rows, n_strings); missing values are the empty string

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, rows: npt.NDArray[Any]) -> "FeatureMatrix":
        """Return the rows at these positions (or where this mask is true)."""
        return FeatureMatrix(self.numbers[rows], self.strings[rows])


def missing_mask(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the mask of missing values: NaN, NaT or the empty string."""
    find = {"f": np.isnan, "M": np.isnat}.get(values.dtype.kind, lambda strings: strings == MISSING_STRING)
    return np.asarray(find(values), dtype=np.bool_)


def float32_centre(values: npt.NDArray[np.float64]) -> float | None:
    """Return the value to subtract from numbers before they become float32; None where nothing worth having is lost.

    float32 keeps seven digits: timestamps in seconds are 128 apart there, and codes of nine digits 64. Where a large
    offset takes the digits of a small variation, the rest after a subtraction in float64 has them.
    """
    known = values[~np.isnan(values)]
    if not len(known) or bool((known.astype(np.float32) == known).all()):
        return None
    known = known[:: -(-len(known) // _STEP_SAMPLE)]
    low, middle, high = np.percentile(known, [5, 50, 95], method="nearest").tolist()
    spread = high - low or float(np.ptp(known))
    return middle if 0 < spread < FLOAT32_STEPS * float(np.spacing(np.float32(abs(middle)))) else None


def recentre(features: FeatureMatrix, before: TableSchema, after: TableSchema) -> FeatureMatrix:
    """Return rows that were built under one schema as another one with the same features has them."""
    old, new = dict(before.centres), dict(after.centres)
    if old == new:
        return features
    numbers = features.numbers.copy()
    for position in {*old, *new}:
        moved = old.get(position, 0.0) - new.get(position, 0.0)
        numbers[:, position] = numbers[:, position].astype(np.float64) + moved
    return FeatureMatrix(numbers, features.strings)


def date_parts(timestamps: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float32]:
    """Turn UTC timestamps, NaT where missing, into numbers: a float32 array of shape (n_rows, 4).

    Days since 2000-01-01 (with the fraction of the day), month 1-12, weekday 0 (Monday) - 6, hour 0-23; NaN where
    missing.
    """
    timestamps = timestamps.astype("datetime64[us]")
    missing = np.isnat(timestamps)
    known = np.where(missing, EPOCH, timestamps)
    since_epoch = (known - EPOCH).astype(np.int64)
    days = np.floor_divide(since_epoch, _MICROSECONDS_A_DAY)
    months = known.astype("datetime64[M]").astype(np.int64) % 12 + 1
    parts = np.empty((len(timestamps), len(DATE_PARTS)), dtype=np.float32)
    parts[:, 0] = since_epoch / _MICROSECONDS_A_DAY
    parts[:, 1] = months
    parts[:, 2] = (days + 5) % 7  # 2000-01-01 was a Saturday
    parts[:, 3] = (since_epoch - days * _MICROSECONDS_A_DAY) // 3_600_000_000
    parts[missing] = np.nan
    return parts


def _date_parts(timestamp: datetime | None) -> tuple[float, float, float, float]:
    """Return the numbers of :func:`date_parts` for one timestamp (UTC, without a zone; None is missing)."""
    if timestamp is None:
        return _NO_DATE
    since_epoch = timestamp - _EPOCH
    # As float64 divides: the quotient of exact integers would differ by a rounding beyond 285 years.
    microseconds = (since_epoch.days * 86_400 + since_epoch.seconds) * 1_000_000 + since_epoch.microseconds
    days = float(microseconds) / _MICROSECONDS_A_DAY
    return days, timestamp.month, timestamp.weekday(), timestamp.hour


def build_few_features(
    plan: Sequence[tuple[str, ColumnType]],
    columns: Mapping[str, Any],
    n_rows: int,
    token_columns: int = 0,
    centres: Sequence[tuple[int, float]] = (),
) -> FeatureMatrix:
    """Build the two matrices of a few rows: as :func:`build_features`, faster without an array per column.

    ``plan`` holds each feature's name and type in the schema's order; ``columns`` hold floats, strings, and datetimes
    (UTC, without a zone; None is missing). ``centres`` are the schema's.
    """
    numbers: list[Sequence[float]] = []
    strings: list[Sequence[str]] = []
    for name, kind in plan:
        if kind == "category":
            strings.append(columns[name])
        elif kind == "datetime":
            numbers.extend(zip(*map(_date_parts, columns[name]), strict=True))
        elif kind == "text":
            numbers.extend(zip(*(token_counts(text, token_columns) for text in columns[name]), strict=True))
        else:
            numbers.append(columns[name])
    for position, centre in centres:
        numbers[position] = [value - centre for value in numbers[position]]
    row_by_row = list(chain.from_iterable(zip(*numbers, strict=True)))
    matrix = np.array(row_by_row, dtype=np.float32).reshape(n_rows, len(numbers))
    texts = np.array(list(zip(*strings, strict=True)), dtype=object).reshape(n_rows, len(strings))
    return FeatureMatrix(matrix, texts)


def build_features(
    schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], n_rows: int, texts: Any = np.str_
) -> FeatureMatrix:
    """Build the two matrices from columns typed as in the table of the module's docstring, in the schema's order.

    Parameters
    ----------
    columns : mapping of str to array of shape (n_rows,)
        Raises ``KeyError`` when a feature is not among them.
    texts : type, default=numpy.str_
        Of the matrix of strings; ``object`` for ONNX Runtime.
    """
    widths = [schema.number_width(column) for column in schema.features]
    numbers = np.empty((n_rows, sum(widths)), dtype=np.float32)
    string_columns: list[npt.NDArray[Any]] = []
    position = 0
    for column, width in zip(schema.features, widths, strict=True):
        values, own = columns[column.name], numbers[:, position : position + width]
        if column.type == "category":
            string_columns.append(values.astype(texts, copy=False))
        elif column.type == "datetime":
            own[:] = date_parts(values)
        elif column.type == "text":
            fill_token_counts(own, values.tolist())
        else:
            # Beyond float32's range a number is infinite on purpose: the checks have refused it before.
            with np.errstate(over="ignore"):
                own[:, 0] = values if column.centre is None else values - column.centre
        position += width
    strings = np.stack(string_columns, axis=1) if string_columns else np.empty((n_rows, 0), dtype=texts)
    return FeatureMatrix(numbers, strings)


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold a text: JSON's escapes can write half a surrogate pair, and no file can."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


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
