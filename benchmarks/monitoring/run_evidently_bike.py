"""Judge the windows of a bike stream with Evidently's data drift preset, in its own environment; prints JSON.

The preset's count of drifted columns is computed alone, as it is in the preset, without the plots, which take most of
its time; the first window has both, which must agree.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount
from evidently.presets import DataDriftPreset

CATEGORIES = ["season", "holiday", "workingday", "weathersit"]
NUMBERS = ["mnth", "hr", "weekday", "temp", "atemp", "hum", "windspeed", "predicted"]
#: What the clock does not say.
FREE = ["weathersit", "temp", "atemp", "hum", "windspeed", "predicted"]
DEFINITION = DataDefinition(numerical_columns=NUMBERS, categorical_columns=CATEGORIES)


def read(path: Path) -> pd.DataFrame:
    """Return features and predictions."""
    stored = np.load(path)
    return pd.DataFrame({name: stored[name] for name in (*NUMBERS, *CATEGORIES)})


def dataset(rows: pd.DataFrame) -> Dataset:
    """Return rows with the types of their columns."""
    return Dataset.from_pandas(rows.reset_index(drop=True), data_definition=DEFINITION)


def main(folder: Path, window_rows: int) -> None:
    """Print in which windows any column drifted, any that is free of the clock, and the dataset as a whole."""
    reference, served = dataset(read(folder / "holdout.npz")), read(folder / "served.npz")
    told: dict[str, list[bool]] = {"any column": [], "any column but the clock's": [], "half of the columns": []}
    for begin in range(0, len(served) - window_rows + 1, window_rows):
        window = dataset(served.iloc[begin : begin + window_rows])
        items = [DriftedColumnsCount(), DriftedColumnsCount(columns=FREE)]
        every, free = (one["value"] for one in Report(items).run(window, reference).dict()["metrics"])
        if not begin:
            preset = Report([DataDriftPreset()]).run(window, reference).dict()["metrics"]
            assert every in [one["value"] for one in preset], every
        told["any column"].append(every["count"] > 0)
        told["any column but the clock's"].append(free["count"] > 0)
        told["half of the columns"].append(every["share"] >= 0.5)  # noqa: PLR2004  # the preset's default
    print(json.dumps(told))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main(Path(sys.argv[1]), int(sys.argv[2]))
