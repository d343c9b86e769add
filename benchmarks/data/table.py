"""The table that every tool is given, with known faults in it, and the checks that find them."""

from pathlib import Path
from typing import Any

import numpy as np

SEED = 20_260_101
FAULTY_SHARE = 0.001
MISSING_SHARE = 0.01
REGIONS = [f"region_{i:02d}" for i in range(50)]
PLANS = ["basic", "plus", "pro"]
CHANNELS = ["web", "app", "store", "phone"]

#: One check each: column, kind, and what it demands. The same list is translated for every tool.
CHECKS: list[dict[str, Any]] = [
    {"column": "customer_id", "kind": "not_null"},
    {"column": "customer_id", "kind": "unique"},
    {"column": "age", "kind": "range", "minimum": 18, "maximum": 100},
    {"column": "age", "kind": "not_null"},
    {"column": "income", "kind": "range", "minimum": 0, "maximum": 200_000},
    {"column": "income", "kind": "not_null"},
    {"column": "score", "kind": "range", "minimum": 0, "maximum": 1},
    {"column": "score", "kind": "not_null"},
    {"column": "visits", "kind": "range", "minimum": 0, "maximum": 50},
    {"column": "balance", "kind": "range", "minimum": 0, "maximum": 1_000_000},
    {"column": "plan", "kind": "set", "allowed": PLANS},
    {"column": "plan", "kind": "not_null"},
    {"column": "region", "kind": "set", "allowed": REGIONS},
    {"column": "channel", "kind": "set", "allowed": CHANNELS},
    {"column": "email", "kind": "pattern", "pattern": r"[a-z0-9]+@[a-z]+\.com"},
    {"column": "code", "kind": "pattern", "pattern": r"[A-Z]{2}-[0-9]{4}"},
    {"column": "since", "kind": "not_null"},
    {"column": "rating", "kind": "range", "minimum": 1, "maximum": 5},
    {"column": "label", "kind": "range", "minimum": 0, "maximum": 1},
    {"column": "label", "kind": "not_null"},
]


def write_table(path: Path, rows: int) -> None:
    """Write the table of 14 columns as CSV; about one value in a thousand is at fault where a check looks."""
    import pandas as pd

    rng = np.random.default_rng(SEED)
    faulty = lambda: rng.random(rows) < FAULTY_SHARE  # noqa: E731  # short and used once a column
    columns = {
        "customer_id": rng.permutation(rows),
        "age": np.where(faulty(), 150, rng.integers(18, 95, rows)),
        "income": np.where(faulty(), -1.0, rng.normal(60_000, 9_000, rows).round(2).clip(0)),
        "score": rng.random(rows).round(6),
        "visits": np.where(faulty(), 60, rng.poisson(5, rows)),
        "balance": rng.exponential(900, rows).round(2),
        "plan": np.where(faulty(), "gold", rng.choice(PLANS, rows)),
        "region": np.where(faulty(), "nowhere", rng.choice(REGIONS, rows)),
        "channel": rng.choice(CHANNELS, rows),
        "email": np.where(faulty(), "nobody", np.char.add(rng.integers(0, 10**7, rows).astype(str), "@example.com")),
        "code": np.where(faulty(), "none", np.char.add("AB-", rng.integers(1_000, 9_999, rows).astype(str))),
        "since": (np.datetime64("2020-01-01") + rng.integers(0, 1_500, rows)).astype(str),
        "rating": np.where(faulty(), 9, rng.integers(1, 6, rows)),
        "label": rng.integers(0, 2, rows),
    }
    frame = pd.DataFrame(columns)
    for name in ("income", "score", "plan", "since"):
        frame[name] = frame[name].astype(object).mask(rng.random(rows) < MISSING_SHARE)
    frame.to_csv(path, index=False)


def wide_table(path: Path, rows: int, columns: int) -> None:
    """Write a table of numbers and words, and a label."""
    import pandas as pd

    rng = np.random.default_rng(SEED)
    half = (columns - 1) // 2
    data = {f"number_{i}": rng.normal(size=rows).round(4) for i in range(half)}
    data |= {f"word_{i}": rng.choice(PLANS, rows) for i in range(columns - 1 - half)}
    pd.DataFrame(data | {"label": rng.integers(0, 2, rows)}).to_csv(path, index=False)
