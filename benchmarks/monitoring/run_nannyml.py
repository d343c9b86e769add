"""Estimate windows with NannyML's CBPE, or a regression's with its DLE, in its own environment; prints JSON.

A window is the chunk of one day, so that one fit serves all windows of a model.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nannyml import CBPE, DLE

_FIRST_DAY = pd.Timestamp("2020-01-01")


def join(windows: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all windows, each on a day of its own."""
    return pd.concat(
        [rows.assign(day=_FIRST_DAY + pd.Timedelta(days=place)) for place, rows in enumerate(windows)],
        ignore_index=True,
    )


def frame(path: Path) -> pd.DataFrame:
    """Return scores, decisions and, of a reference, the target."""
    stored = np.load(path)
    columns = {"score": stored["score"], "decided": (stored["score"] >= 0.5).astype(int)}  # noqa: PLR2004  # a half
    return pd.DataFrame(columns | ({"target": stored["target"]} if "target" in stored else {}))


def estimate_metrics(folder: Path) -> None:
    """Fit CBPE to each reference, and estimate its windows."""
    found: dict[str, list[float]] = {}
    for path in sorted(folder.glob("reference-*.npz")):
        for metric in ("accuracy", "roc_auc"):
            windows = sorted(folder.glob(f"{path.stem}-window-*-{metric}.npz"))
            if "-window-" in path.name or not windows:
                continue
            cbpe = CBPE(
                y_true="target",
                y_pred="decided",
                y_pred_proba="score",
                timestamp_column_name="day",
                problem_type="classification_binary",
                metrics=[metric],
                chunk_period="D",
            )
            fitted = cbpe.fit(join([frame(path)]))
            result = fitted.estimate(join([frame(window) for window in windows])).filter(period="analysis")
            columns = result.to_df()[metric][["value", "lower_confidence_boundary", "upper_confidence_boundary"]]
            found |= {window.stem: row for window, row in zip(windows, columns.to_numpy().tolist(), strict=True)}
    print(json.dumps(found))


def estimate_errors(folder: Path, windows: int) -> None:
    """Fit DLE to the reference, and estimate the root mean squared error of each window."""
    reference = pd.read_csv(folder / "reference.csv")
    dle = DLE(
        feature_column_names=[name for name in reference if name not in ("predicted", "target")],
        y_pred="predicted",
        y_true="target",
        timestamp_column_name="day",
        metrics=["rmse"],
        chunk_period="D",
    )
    rows = join([pd.read_csv(folder / f"window-{place}.csv") for place in range(windows)])
    result = dle.fit(join([reference])).estimate(rows).filter(period="analysis").to_df()
    print(json.dumps(result["rmse"]["value"].tolist()))


if __name__ == "__main__":
    if sys.argv[2:]:
        estimate_errors(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        estimate_metrics(Path(sys.argv[1]))
