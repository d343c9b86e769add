"""Measure what a regression's errors may be expected to be without ground truth: why monitoring has no such estimate.

    python benchmarks/monitoring/expected_errors.py --tables DIR             # hour.csv and diamonds.csv
    python benchmarks/monitoring/expected_errors.py --tables DIR --nannyml   # and NannyML's DLE on the same windows

The estimate is the holdout's mean squared error where the same values were predicted, in the bins of the profile.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from compare import HERE, interpreter
from millrace.data.reference import describe_column
from millrace.histograms.predictions import ErrorsByValue
from millrace.schema import Column
from sklearn.ensemble import HistGradientBoostingRegressor

_MAX_WINDOW, _MIN_WINDOW = 3_000, 250
_PRIOR_ROWS = 10.0
_DIAMONDS = ("cut", "color", "clarity")


@dataclass(frozen=True)
class Case:
    """A model's holdout, and the windows that it serves, as positions in a table of numbers."""

    name: str
    features: pd.DataFrame
    target: np.ndarray
    training: np.ndarray
    holdout: np.ndarray
    windows: dict[str, np.ndarray]


def find_cases(folder: Path, seed: int) -> Iterator[Case]:
    """Yield bikes of one year that serve the next, bikes of both years by month, and subgroups of diamonds."""
    generator = np.random.default_rng(seed)
    bikes = pd.read_csv(folder / "hour.csv")
    year = bikes["yr"].to_numpy()
    months = {f"{month}": (bikes["mnth"] == month).to_numpy() for month in range(1, 13)}
    left = ["instant", "dteday", "yr", "casual", "registered", "cnt"]
    features, target = bikes.drop(columns=left), bikes["cnt"].to_numpy(dtype=np.float64)
    first = generator.permutation(np.flatnonzero(year == 0))
    cut = len(first) * 7 // 10
    later = {name: np.flatnonzero(mask & (year == 1)) for name, mask in months.items()}
    yield Case("bikes, 2012 by a model of 2011", features, target, first[:cut], first[cut:], later)
    rows = generator.permutation(len(target))
    rest = np.isin(np.arange(len(target)), rows[12_000:])
    known = {name: np.flatnonzero(mask & rest) for name, mask in months.items()}
    with_year = bikes.drop(columns=[name for name in left if name != "yr"])
    yield Case("bikes, months of both years", with_year, target, rows[:9_000], rows[9_000:12_000], known)
    diamonds = pd.read_csv(folder / "diamonds.csv")
    rows = generator.permutation(len(diamonds))
    rest = np.isin(np.arange(len(diamonds)), rows[8_000:])
    parts = {
        f"{name} = {value}": np.flatnonzero((diamonds[name] == value).to_numpy() & rest)[:_MAX_WINDOW]
        for name in _DIAMONDS
        for value in diamonds[name].unique()
    }
    coded = diamonds.drop(columns="price").assign(
        **{name: diamonds[name].astype("category").cat.codes for name in _DIAMONDS}
    )
    price = diamonds["price"].to_numpy(dtype=np.float64)
    yield Case("diamonds, a value each of three features", coded, price, rows[:6_000], rows[6_000:8_000], parts)


def expect_rmse(holdout: tuple[np.ndarray, np.ndarray], training: np.ndarray, values: np.ndarray) -> float:
    """Return the expected error of predicted values, by the errors where the holdout's were the same."""
    bins = describe_column(Column("target", "number", role="target"), training).make_bins()
    rows, _, squares = (bins.coarse(kind) for kind in ErrorsByValue.measure(*holdout, bins).sums)
    means = (squares + _PRIOR_ROWS * squares.sum() / rows.sum()) / (rows + _PRIOR_ROWS)
    counts = bins.coarse(np.bincount(bins.locate(values), minlength=len(bins)))
    return float(np.sqrt(counts @ means / counts.sum()))


def ask_nannyml(case: Case, windows: Mapping[str, np.ndarray], predictions: np.ndarray, work: Path) -> list[float]:
    """Return the expected error of each window by NannyML's DLE."""
    folder = work / "dle"
    folder.mkdir(parents=True, exist_ok=True)
    frame = case.features.assign(predicted=predictions, target=case.target)
    frame.iloc[case.holdout].to_csv(folder / "reference.csv", index=False)
    for place, rows in enumerate(windows.values()):
        frame.iloc[rows].drop(columns="target").to_csv(folder / f"window-{place}.csv", index=False)
    command = [interpreter("nannyml", work), HERE / "run_nannyml.py", folder, str(len(windows))]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print one row for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the files")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--nannyml", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark")
    options = parser.parse_args()
    print("| windows | number | by the predicted value | NannyML's DLE | as on the holdout |\n|---|---|---|---|---|")
    for case in find_cases(options.tables, options.seed):
        model = HistGradientBoostingRegressor(max_iter=200, random_state=options.seed)
        model.fit(case.features.iloc[case.training], case.target[case.training])
        predictions = model.predict(case.features)
        errors = predictions - case.target
        windows = {name: rows for name, rows in case.windows.items() if len(rows) >= _MIN_WINDOW}
        truth = np.array([np.sqrt(np.mean(errors[rows] ** 2)) for rows in windows.values()])
        holdout = (predictions[case.holdout], case.target[case.holdout])
        expected = [expect_rmse(holdout, case.target[case.training], predictions[rows]) for rows in windows.values()]
        theirs = ask_nannyml(case, windows, predictions, options.work) if options.nannyml else []
        plain = np.sqrt(np.mean(errors[case.holdout] ** 2))
        off = [
            f"{np.mean(np.abs(np.array(values) / truth - 1.0)):.0%}" if len(values) else ""
            for values in (expected, theirs, np.full(len(truth), plain))
        ]
        print(f"| {case.name} | {len(truth)} | {' | '.join(off)} |", flush=True)


if __name__ == "__main__":
    main()
