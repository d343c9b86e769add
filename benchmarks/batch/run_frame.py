"""The same file through pandas: read whole, scored whole, written as Parquet; by MLflow's pyfunc or by scikit-learn.

Arguments: WORK KIND ROWS, and mlflow or sklearn.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from process_memory import memory_mb

work, kind, rows, tool = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
predict: Any
if tool == "mlflow":
    import mlflow

    predict = mlflow.pyfunc.load_model(str(work / kind / "mlflow_sklearn")).predict
else:
    import joblib

    predict = joblib.load(work / kind / "pipeline.joblib").predict_proba
idle = memory_mb("VmRSS")
wall, cpu = time.perf_counter(), time.process_time()
frame = pd.read_csv(work / "bucket" / "score" / "bench" / f"rows-{rows}.csv")
identifiers = frame.pop("id")
probabilities = predict(frame)
result = pd.DataFrame({"id": identifiers, "probability_0": probabilities[:, 0], "probability_1": probabilities[:, 1]})
result["prediction"] = (probabilities[:, 1] > 0.5).astype(int)  # noqa: PLR2004 - the more probable class
result.to_parquet(work / f"{tool}-{kind}.parquet")
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
assert len(result) == rows
print(json.dumps({"cpu": cpu, "wall": wall, "peak_mb": memory_mb("VmHWM"), "idle_mb": idle}))
