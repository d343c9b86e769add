"""Drift with Evidently's data drift preset, told to use the population stability index as Millrace does."""

from pathlib import Path

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
from table import NUMBERS, WORDS, read
from worker import serve

DEFINITION = DataDefinition(numerical_columns=NUMBERS, categorical_columns=WORDS)


def load(folder: Path) -> tuple:
    """Read both tables."""
    return pd.DataFrame(read(folder / "reference.npz")), pd.DataFrame(read(folder / "present.npz"))


def compute(tables: tuple) -> dict[str, float]:
    """Run the preset."""
    first, second = (Dataset.from_pandas(frame, data_definition=DEFINITION) for frame in tables)
    snapshot = Report([DataDriftPreset(num_method="psi", cat_method="psi")]).run(second, first)
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric.get("config", {})
    }


if __name__ == "__main__":
    serve(load, compute, None, None)
