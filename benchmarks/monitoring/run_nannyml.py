"""Estimate windows with NannyML's CBPE, in its own environment; prints one line of JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from nannyml import CBPE


def frame(stored: np.lib.npyio.NpzFile) -> pd.DataFrame:
    """Return scores, decisions and, of a reference, the target."""
    columns = {"score": stored["score"], "decided": (stored["score"] >= 0.5).astype(int)}  # noqa: PLR2004  # a half
    return pd.DataFrame(columns | ({"target": stored["target"]} if "target" in stored else {}))


def main(folder: Path) -> None:
    """Fit CBPE to each reference, and estimate each of its windows as one chunk."""
    found: dict[str, tuple[float, float, float]] = {}
    for path in sorted(folder.glob("reference-*.npz")):
        if "-window-" in path.name:
            continue
        reference = frame(np.load(path))
        for window in sorted(folder.glob(f"{path.stem}-window-*.npz")):
            rows = frame(np.load(window))
            metric = window.stem.rpartition("-")[2]
            cbpe = CBPE(
                y_true="target",
                y_pred="decided",
                y_pred_proba="score",
                problem_type="classification_binary",
                metrics=[metric],
                chunk_size=len(rows),
            )
            result = cbpe.fit(reference).estimate(rows).filter(period="analysis").to_df()[metric].iloc[0]
            bounds = (result["lower_confidence_boundary"], result["upper_confidence_boundary"])
            found[window.stem] = (float(result["value"]), float(bounds[0]), float(bounds[1]))
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
