"""The record of a trial: everything that went into a model, and what came of it."""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import onnx
import onnxruntime
import scipy
import skl2onnx
import sklearn
import skops

import millrace
from millrace.registry.entities import Run, Trial
from millrace.schema import TableSchema
from millrace.training.fitting import FittedTrial

ONNX_NAME = "model.onnx"
ESTIMATOR_NAME = "estimator.skops"
RECORD_NAME = "trial.json"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounded a trial.

    Parameters
    ----------
    prepared : mapping of str to str
        SHA-256 of the files it read, by name.
    rows : mapping of str to int
        Used of each split.
    of_rows : mapping of str to int
        There are of each split; more than ``rows`` where it was trained on a sample.
    duration_seconds : float
        Of reading, fitting and exporting.
    peak_memory_mb : float or None
        Largest resident memory of the process.
    """

    prepared: Mapping[str, str]
    rows: Mapping[str, int]
    of_rows: Mapping[str, int]
    duration_seconds: float
    peak_memory_mb: float | None
    trained_at: datetime


def build_record(
    trial: Trial, run: Run, schema: TableSchema, fitted: FittedTrial, around: Circumstances
) -> dict[str, Any]:
    """Return ``trial.json`` as plain JSON; :mod:`millrace.training.reproduction` trains the same model from it."""
    search = run.summary.get("search", {})
    return {
        "model": trial.model,
        "run_id": trial.run_id,
        "trial_id": trial.trial_id,
        "candidate": trial.candidate,
        "parameters": dict(trial.parameters),
        "seed": trial.seed,
        "round": trial.round,
        "rounds": len(search.get("rounds", ())) or 1,
        "folds": trial.folds,
        "task": schema.task,
        "schema_version": schema.version,
        "spec_revision": search.get("spec_revision"),
        "dataset_ids": list(run.dataset_ids),
        "prepared": dict(around.prepared),
        "planned_rows": trial.rows,
        "rows": dict(around.rows),
        "of_rows": dict(around.of_rows),
        "sampled": dict(around.rows) != dict(around.of_rows),
        "metrics": dict(fitted.metrics),
        "validation_metrics": dict(fitted.validation_metrics),
        "fold_metrics": [dict(fold) for fold in fitted.fold_metrics],
        "parity": fitted.parity.to_dict(),
        "warnings": list(fitted.warnings),
        "artifacts": {ONNX_NAME: sha256_of(fitted.onnx_bytes), ESTIMATOR_NAME: sha256_of(fitted.estimator_bytes)},
        "libraries": library_versions(),
        "code_version": millrace.__version__,
        "duration_seconds": around.duration_seconds,
        "peak_memory_mb": around.peak_memory_mb,
        "trained_at": around.trained_at.isoformat(),
    }


def library_versions() -> dict[str, str]:
    """Return the versions that made a model, from the modules themselves: layers carry no package metadata."""
    modules = (millrace, np, scipy, sklearn, skl2onnx, onnx, onnxruntime, skops)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def sha256_of(body: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()
