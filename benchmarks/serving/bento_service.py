"""A BentoML service: one frame in, probabilities out; ``BENCH_FOLDER`` and ``BENCH_INSIDE`` say of which model."""

import os
from pathlib import Path

import bentoml
import numpy as np
import pandas as pd

FOLDER, INSIDE = Path(os.environ["BENCH_FOLDER"]), os.environ["BENCH_INSIDE"]


@bentoml.service
class Churn:
    """Serves one model."""

    def __init__(self) -> None:
        if INSIDE == "sklearn":
            import joblib

            self.pipeline = joblib.load(FOLDER / "pipeline.joblib")
        else:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(FOLDER / "model.onnx", options)

    @bentoml.api
    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        """Return probabilities."""
        if INSIDE == "sklearn":
            return self.pipeline.predict_proba(rows)
        numbers, words = rows.iloc[:, :9].to_numpy(np.float32), rows.iloc[:, 9:].to_numpy(object)
        return self.session.run(["probabilities"], {"numbers": numbers, "strings": words})[0]
