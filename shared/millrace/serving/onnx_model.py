"""A model as it serves: ONNX in, numbers out.

Evaluation measures models through this very class, so what was measured is what serves.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from millrace.features import FeatureMatrix
from millrace.schema import TableSchema

#: The names that every exported model's inputs and outputs have.
NUMBERS_INPUT = "numbers"
STRINGS_INPUT = "strings"
PROBABILITIES_OUTPUT = "probabilities"
VALUE_OUTPUT = "value"


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX Runtime session and the schema it was trained under."""

    session: Any
    schema: TableSchema

    @classmethod
    def load(cls, body: bytes, schema: TableSchema) -> "OnnxModel":
        """Open a session on one thread: a function has about one core, and rows are few."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        return cls(session, schema)

    def run(self, features: FeatureMatrix) -> npt.NDArray[np.float32]:
        """Score rows.

        Returns
        -------
        float32 array
            Probabilities of shape (n_rows, n_classes), in the order of ``schema.classes``; for regression,
            values of shape (n_rows,).
        """
        inputs: dict[str, Any] = {}
        if features.numbers.shape[1]:
            inputs[NUMBERS_INPUT] = features.numbers
        if features.strings.shape[1]:
            inputs[STRINGS_INPUT] = features.strings.astype(object, copy=False)
        if self.schema.task == "regression":
            (values,) = self.session.run([VALUE_OUTPUT], inputs)
            return np.asarray(values, dtype=np.float32).reshape(len(features))
        (probabilities,) = self.session.run([PROBABILITIES_OUTPUT], inputs)
        return np.asarray(probabilities, dtype=np.float32)
