"""``mlflow models serve``: its application, in process; ``save`` writes the models that it serves."""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd

NUMBERS, WORDS = 9, 5


class OnnxPipeline(mlflow.pyfunc.PythonModel):
    """The ONNX model behind MLflow's own interface."""

    def load_context(self, context: Any) -> None:
        """Open the session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(context.artifacts["onnx"], options)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002 - its own
        """Return probabilities."""
        numbers = model_input.iloc[:, :NUMBERS].to_numpy(np.float32)
        words = model_input.iloc[:, NUMBERS:].to_numpy(object)
        return self.session.run(["probabilities"], {"numbers": numbers, "strings": words})[0]


def save(folder: Path) -> None:
    """Write the pipeline and the ONNX model as MLflow models, each with a signature, as its manual asks for."""
    import joblib

    pipeline = joblib.load(folder / "pipeline.joblib")
    example = pd.DataFrame(json.loads((folder / "example.json").read_text()))
    signature = mlflow.models.infer_signature(example, pipeline.predict_proba(example))
    mlflow.sklearn.save_model(
        pipeline,
        str(folder / "mlflow_sklearn"),
        signature=signature,
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=["mlflow"],
    )
    mlflow.pyfunc.save_model(
        str(folder / "mlflow_onnx"),
        python_model=OnnxPipeline(),
        artifacts={"onnx": str(folder / "model.onnx")},
        signature=signature,
        pip_requirements=["mlflow"],
    )


def make_app(inside: str) -> Any:
    """Return what loads one of them."""

    def make(folder: Path) -> Any:
        from asgi import asker
        from mlflow.pyfunc.scoring_server import init

        return asker(init(mlflow.pyfunc.load_model(str(folder / f"mlflow_{inside}"))), "/invocations")

    return make


if __name__ == "__main__":
    if sys.argv[2] == "save":
        save(Path(sys.argv[1]))
    else:
        import worker

        worker.run(make_app(sys.argv[2]))
