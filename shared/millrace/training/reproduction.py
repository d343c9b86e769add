"""Reproduction of a recorded trial: the same data, parameters and seed give the same model, byte for byte."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from millrace.data.prepared import load_split
from millrace.errors import ArtifactIntegrityError
from millrace.layout import SplitName
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.fitting import FittedTrial, fit_trial
from millrace.training.trial import library_versions, load_trial_data, sha256_of
from millrace.training.trial_record import ONNX_NAME, TrialRecord


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A trial trained again, compared with its record; the predictions are those on the validation split.

    ``other_libraries`` have the versions then and now, where they differ.
    """

    byte_equal: bool
    max_prediction_difference: float | None
    other_libraries: Mapping[str, tuple[str, str]]
    fitted: FittedTrial


def reproduce_trial(
    record: TrialRecord, schema: TableSchema, bodies: Mapping[SplitName, bytes], recorded_onnx: bytes | None = None
) -> Reproduction:
    """Train a trial again from its record.

    Parameters
    ----------
    schema : TableSchema
        The run's prepared ``schema.json``.
    bodies : mapping of str to bytes
        The run's prepared ``train.npz`` and ``validation.npz``.
    recorded_onnx : bytes or None, default=None
        The recorded model, to compare predictions.

    Raises
    ------
    ArtifactIntegrityError
        When the prepared data, or the recorded model, is not what the record names.
    TrainingFailedError, ModelExportError
        When it can no longer be fitted.
    """
    for name, body in bodies.items():
        if sha256_of(body) != record.prepared[f"{name}.npz"]:
            raise ArtifactIntegrityError(f"{name}.npz is not the prepared data that the trial was trained on")
    if recorded_onnx is not None and sha256_of(recorded_onnx) != record.artifacts[ONNX_NAME]:
        raise ArtifactIntegrityError(f"the stored {ONNX_NAME} is not the one that the trial recorded")
    data = load_trial_data(record.trial, schema, bodies)
    fitted = fit_trial(record.trial, schema, data.train, data.validation)
    now, then = library_versions(), record.libraries
    difference = None
    if recorded_onnx is not None:
        rows = load_split(bodies["validation"]).features
        models = (OnnxModel.load(body, schema) for body in (recorded_onnx, fitted.onnx_bytes))
        first, second = (model.run(rows).astype(np.float64) for model in models)
        difference = float(np.abs(first - second).max(initial=0.0))
    return Reproduction(
        byte_equal=sha256_of(fitted.onnx_bytes) == record.artifacts[ONNX_NAME],
        max_prediction_difference=difference,
        other_libraries={name: (then[name], now.get(name, "-")) for name in then if now.get(name) != then[name]},
        fitted=fitted,
    )
