"""Judge the windows of a bike stream with NannyML and its defaults, in its own environment; prints JSON.

Univariate drift, the performance that DLE and CBPE estimate, and the realised one, each with the limits that NannyML
sets from the chunks of a reference: a period of production, and the holdout where it has enough of them.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from nannyml import CBPE, DLE, PerformanceCalculator, UnivariateDriftCalculator

CATEGORIES = ["season", "holiday", "workingday", "weathersit"]
NUMBERS = ["mnth", "hr", "weekday", "temp", "atemp", "hum", "windspeed"]
LEAST_CHUNKS = 5
#: What the clock does not say.
FREE = ["weathersit", "temp", "atemp", "hum", "windspeed", "predicted"]


def read(path: Path) -> pd.DataFrame:
    """Return features, predictions and outcomes."""
    stored = np.load(path)
    return pd.DataFrame({name: stored[name] for name in stored.files}).assign(
        decided=(stored["score"] >= 0.5).astype(int)  # noqa: PLR2004  # a half
    )


def main(folder: Path, window_rows: int) -> None:
    """Print by way of telling in which windows anything is beyond its limits, for each reference that has some."""
    served = whole(read(folder / "served.npz"), window_rows)
    told = {}
    for name in ("period", "holdout"):
        reference = whole(read(folder / f"{name}.npz"), window_rows)
        if len(reference) >= LEAST_CHUNKS * window_rows:
            found = judge(reference, served, window_rows)
            told |= {f"{way} ({name})": windows.tolist() for way, windows in found.items()}
    print(json.dumps(told))


def whole(rows: pd.DataFrame, window_rows: int) -> pd.DataFrame:
    """Return the rows of whole windows."""
    return rows.iloc[: len(rows) // window_rows * window_rows]


def judge(reference: pd.DataFrame, served: pd.DataFrame, window_rows: int) -> dict[str, pd.Series]:
    """Return by way of telling whether each window is beyond the limits of a reference's."""
    watched = [*NUMBERS, *CATEGORIES, "predicted"]
    drift = UnivariateDriftCalculator(watched, treat_as_categorical=CATEGORIES, chunk_size=window_rows)
    frame = alerts(drift.fit(reference).calculate(served))
    told = {"any column": frame.any(axis=1), "any column but the clock's": frame[FREE].any(axis=1)}

    regression = {"y_pred": "predicted", "y_true": "target", "chunk_size": window_rows}
    dle = DLE(feature_column_names=[*NUMBERS, *CATEGORIES], metrics=["rmse", "mae"], **regression)
    told["DLE: RMSE, MAE"] = alerts(dle.fit(reference).estimate(served)).any(axis=1)
    realised = PerformanceCalculator(problem_type="regression", metrics=["rmse", "mae"], **regression)
    told["realised RMSE, MAE"] = alerts(realised.fit(reference).calculate(served)).any(axis=1)

    binary = {"y_pred": "decided", "y_true": "above", "y_pred_proba": "score", "chunk_size": window_rows}
    binary |= {"problem_type": "classification_binary", "metrics": ["roc_auc", "accuracy"]}
    told["CBPE: AUC, accuracy"] = alerts(CBPE(**binary).fit(reference).estimate(served)).any(axis=1)
    realised = PerformanceCalculator(**binary)
    told["realised AUC, accuracy"] = alerts(realised.fit(reference).calculate(served)).any(axis=1)
    return told


def alerts(result) -> pd.DataFrame:  # NannyML's results have no common type
    """Return whether a column or a metric is beyond its limits, a row for each window."""
    frame = result.filter(period="analysis").to_df()
    chosen = [column for column in frame.columns if column[-1] == "alert"]
    return frame[chosen].set_axis([column[0] for column in chosen], axis=1).astype(bool)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), int(sys.argv[2]))
