"""Refit of a search's winner on training and validation rows.

Its metrics, calibration and held-out predictions are those of the winner: of rows that the winner's models have not
seen. Rows that the refitted model has seen say nothing of it.
"""

from dataclasses import dataclass

import numpy as np
import skops.io
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.schema import TableSchema
from millrace.training.export import MAX_PARITY_ROWS
from millrace.training.fitting import (
    MAX_THREADS,
    FittedTrial,
    append_checked,
    check_splits,
    export_checked,
    fit_pipeline,
    join_splits,
)
from millrace.training.probability_scaling import ProbabilityScaling
from millrace.training.trial_record import TrialRecord


@dataclass(frozen=True, slots=True)
class WinningTrial:
    """The record of a trial that won its search, and its held-out predictions."""

    record: TrialRecord
    held_out_bytes: bytes


def refit_winner(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit, winner: WinningTrial
) -> FittedTrial:
    """Fit a winner's recipe on training and validation rows, export it, compare both forms and append its calibration.

    Raises ``TrainingFailedError``, or ``ModelExportError`` without an ONNX form that predicts the same.
    """
    check_splits(train, validation)
    rows, record = join_splits(train, validation), winner.record
    with threadpool_limits(MAX_THREADS):
        pipeline, kinds = fit_pipeline(trial, schema, rows)
        onnx_bytes, onnx_model, parity = export_checked(pipeline, schema, rows, validation, MAX_PARITY_ROWS)
        if record.scaling and record.scaling.method != "none":
            weights, bias = np.array(record.scaling.weights), np.array(record.scaling.bias)
            scaling = ProbabilityScaling(record.scaling.method, weights, bias)
            onnx_bytes, _ = append_checked(scaling, onnx_bytes, onnx_model, validation, MAX_PARITY_ROWS)
    return FittedTrial(
        onnx_bytes,
        parity,
        record.metrics,
        record.validation_metrics,
        record.fold_metrics,
        kinds,
        winner.held_out_bytes,
        record.scaling,
        bytes(skops.io.dumps(pipeline)),
        record.iterations,
    )
