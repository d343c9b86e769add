"""The table whose drift is computed: 14 columns, of which ten are numbers and four are words."""

from pathlib import Path

import numpy as np

NUMBERS = [f"number_{index}" for index in range(10)]
WORDS = [f"word_{index}" for index in range(4)]
VOCABULARIES = {name: [f"{name}-{value}" for value in range(5 * (index + 1))] for index, name in enumerate(WORDS)}


def draw(rows: int, seed: int, shift: float = 0.0) -> dict[str, np.ndarray]:
    """Draw a table; ``shift`` moves the first number by so many deviations and tilts the first word's shares."""
    generator = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for index, name in enumerate(NUMBERS):
        values = generator.normal(size=rows) if index % 2 else generator.gamma(2.0, size=rows)
        columns[name] = values + (shift if index == 0 else 0.0)
    for index, name in enumerate(WORDS):
        words = VOCABULARIES[name]
        weights = np.linspace(1.0, 2.0 + (4 * shift if index == 0 else 0.0), len(words))
        columns[name] = np.array(words, dtype=object)[generator.choice(len(words), rows, p=weights / weights.sum())]
    return columns


def write(path: Path, rows: int, seed: int, shift: float = 0.0) -> None:
    """Keep a table for processes of either tool."""
    columns = draw(rows, seed, shift)
    np.savez(
        path, **{name: values.astype(np.str_) if values.dtype == object else values for name, values in columns.items()}
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """Read what :func:`write` wrote; words as objects, as every tool holds them."""
    with np.load(path) as arrays:
        return {name: arrays[name].astype(object) if name in WORDS else arrays[name] for name in arrays.files}
