"""Training a recorded trial again: the same data, parameters and seed give the same model, byte for byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.data.prepared import load_split
from millrace.entities import Trial
from millrace.errors import ArtifactIntegrityError
from millrace.layout import SplitName
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.fitting import FittedTrial, fit_trial
from millrace.training.trial import ONNX_NAME, library_versions, load_trial_data, sha256_of


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A trial trained again, beside its record.

    Parameters
    ----------
    byte_equal : bool
        Whether the ONNX file is the one that was recorded.
    max_prediction_difference : float or None
        Between the two models on the validation split; 0.0 is bit-equal. None where the first one was not given.
    other_libraries : mapping of str to tuple of str, str
        Versions then and now, where they differ: the first thing to look at when the model does.
    fitted : FittedTrial
        The model as it is now.
    """

    byte_equal: bool
    max_prediction_difference: float | None
    other_libraries: Mapping[str, tuple[str, str]]
    fitted: FittedTrial


def reproduce_trial(
    record: Mapping[str, Any],
    schema: TableSchema,
    bodies: Mapping[SplitName, bytes],
    recorded_onnx: bytes | None = None,
) -> Reproduction:
    """Train a trial again from its record.

    Parameters
    ----------
    record : mapping
        ``trial.json``.
    schema : TableSchema
        The run's prepared ``schema.json``.
    bodies : mapping of str to bytes
        The run's prepared ``train.npz`` and ``validation.npz``.
    recorded_onnx : bytes or None, default=None
        The recorded model, to compare predictions where its bytes differ.

    Raises
    ------
    ArtifactIntegrityError
        When the prepared data, or the recorded model, is not what the record names.
    TrainingFailedError, ModelExportError
        When it cannot be fitted any more.
    """
    for name, body in bodies.items():
        if sha256_of(body) != record["prepared"][f"{name}.npz"]:
            raise ArtifactIntegrityError(f"{name}.npz is not the prepared data that the trial was trained on")
    if recorded_onnx is not None and sha256_of(recorded_onnx) != record["artifacts"][ONNX_NAME]:
        raise ArtifactIntegrityError(f"the stored {ONNX_NAME} is not the one that the trial recorded")
    trial = trial_of_record(record)
    data = load_trial_data(trial, schema, bodies)
    fitted = fit_trial(trial, schema, data.train, data.validation)
    now, then = library_versions(), record["libraries"]
    return Reproduction(
        byte_equal=sha256_of(fitted.onnx_bytes) == record["artifacts"][ONNX_NAME],
        max_prediction_difference=_difference(fitted.onnx_bytes, recorded_onnx, schema, bodies["validation"]),
        other_libraries={name: (then[name], now.get(name, "-")) for name in then if now.get(name) != then[name]},
        fitted=fitted,
    )


def trial_of_record(record: Mapping[str, Any]) -> Trial:
    """Return the trial that a record describes, as it was before it ran."""
    return Trial(
        model=record["model"],
        run_id=record["run_id"],
        trial_id=record["trial_id"],
        candidate=record["candidate"],
        parameters=record["parameters"],
        seed=record["seed"],
        round=record["round"],
        rows=record["planned_rows"],
        folds=record["folds"],
    )


def _difference(now: bytes, then: bytes | None, schema: TableSchema, validation: bytes) -> float | None:
    if then is None:
        return None
    rows = load_split(validation).features
    first, second = (OnnxModel.load(body, schema).run(rows).astype(np.float64) for body in (then, now))
    return float(np.abs(first - second).max(initial=0.0))
