"""Streams of traffic whose every property is known: a model, its training data, and hours with or without a shift.

numpy alone, so that every tool draws the very same rows in an environment of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

NUMBERS = tuple(f"number_{index}" for index in range(10))
WORDS = {f"word_{index}": tuple(f"{letter}" for letter in "abcdefgh"[: 2 + 2 * index]) for index in range(4)}
TRAINING_ROWS = 5_000
HOLDOUT_ROWS = 2_000
CORRELATION = 0.6
MISSING = 0.02


@dataclass(frozen=True)
class Shift:
    """What is different from the training data; nothing by default.

    Parameters
    ----------
    mean, scale : float
        Of ``number_0``: added deviations, and a factor.
    mix : float
        Share of ``word_1``'s rows that become its first value.
    missing : float
        Share of ``number_2`` that goes missing beyond what always does.
    flip : float
        Share of the outcomes that are turned round.
    correlation : float
        Of ``number_4`` and ``number_5``.
    season : float
        Deviations by which ``number_0`` is higher at six in the morning and lower at six in the evening.
    """

    mean: float = 0.0
    scale: float = 1.0
    mix: float = 0.0
    missing: float = 0.0
    flip: float = 0.0
    correlation: float = CORRELATION
    season: float = 0.0


NOTHING = Shift()
GRADES: Mapping[str, Mapping[str, Shift]] = {
    "mean (standard deviations)": {f"{grade:g}": Shift(mean=grade) for grade in (0.25, 0.5, 1.0)},
    "scale (factor)": {f"{grade:g}": Shift(scale=grade) for grade in (1.25, 1.5, 2.0)},
    "category mix (share moved)": {f"{grade:g}": Shift(mix=grade) for grade in (0.1, 0.2, 0.4)},
    "missing values (share added)": {f"{grade:g}": Shift(missing=grade) for grade in (0.05, 0.1, 0.3)},
    "label flip (share)": {f"{grade:g}": Shift(flip=grade) for grade in (0.1, 0.2, 0.4)},
    "correlation break (0.6 to)": {f"{grade:g}": Shift(correlation=grade) for grade in (0.4, 0.2, 0.0)},
}


@dataclass
class Rows:
    """Some rows: features, what the model says, what is so."""

    columns: dict[str, np.ndarray]
    chance: np.ndarray
    outcomes: np.ndarray
    names: tuple[str, ...] = field(default=(*NUMBERS, *WORDS))

    def __len__(self) -> int:
        return len(self.chance)


def draw_days(rows: int, seed: tuple[int, ...], shift: Shift = NOTHING) -> Rows:
    """Draw rows from all hours of the day, as training data and holdout are."""
    return draw(rows, seed, shift, np.random.default_rng((*seed, 24)).integers(0, 24, rows))


def draw(rows: int, seed: tuple[int, ...], shift: Shift = NOTHING, hour: int | np.ndarray = 0) -> Rows:
    """Draw rows of one hour, or of the hour that each has; the same seed gives the same rows."""
    generator = np.random.default_rng(seed)
    columns = {name: generator.normal(size=rows) for name in NUMBERS}
    for first, second, correlation in (("number_4", "number_5", shift.correlation), ("number_6", "number_7", 0.6)):
        rest = np.sqrt(1.0 - correlation**2)
        columns[second] = correlation * columns[first] + rest * columns[second]
    columns["number_8"] = np.exp(columns["number_8"])
    columns["number_9"] = np.round(3.0 * np.abs(columns["number_9"]))
    words = {}
    for name, values in WORDS.items():
        weights = np.linspace(2.0, 1.0, len(values))
        words[name] = generator.choice(len(values), size=rows, p=weights / weights.sum())
    moved = generator.random(rows) < shift.mix
    words["word_1"] = np.where(moved, 0, words["word_1"])
    wave = shift.season * np.sin(2.0 * np.pi * hour / 24.0)
    columns["number_0"] = columns["number_0"] * shift.scale + shift.mean + wave
    score = 1.2 * columns["number_0"] - 0.8 * columns["number_1"] + 0.5 * (words["word_0"] == 0)
    chance = 1.0 / (1.0 + np.exp(-score))
    outcomes = (generator.random(rows) < chance) ^ (generator.random(rows) < shift.flip)
    columns["number_2"][generator.random(rows) < MISSING + shift.missing] = np.nan
    for name, positions in words.items():
        columns[name] = np.array(WORDS[name], dtype=object)[positions]
    return Rows(columns, chance, outcomes.astype(np.int64))
