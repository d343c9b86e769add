"""Refit of a search's winner, one trial or an average of the best few, on training and validation rows.

Its metrics, calibration and held-out predictions are those of the trials: of rows that their models have not seen. Rows
that the refitted model has seen say nothing of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec.training import GateSpec
from millrace.training.candidates import ModelPipeline
from millrace.training.contenders import Contender
from millrace.training.ensemble_graph import check_average, combine_models
from millrace.training.export import MAX_PARITY_ROWS
from millrace.training.fitting import (
    MAX_THREADS,
    FittedTrial,
    append_checked,
    check_splits,
    dump_estimator,
    export_checked,
    fit_pipeline,
    join_splits,
)
from millrace.training.probability_scaling import ProbabilityScaling
from millrace.training.trial_record import EnsembleMember, ParityReport, ScalingReport

#: Rows of the batch whose time is limited, and repeats of the time of one row.
BATCH_ROWS = 1_000
ROW_REPEATS = 30


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that is fitted, exported, compared, and calibrated if it is to be."""

    onnx_bytes: bytes
    onnx: OnnxModel
    parity: ParityReport
    warnings: tuple[str, ...]
    pipelines: dict[str, ModelPipeline]


@dataclass(frozen=True, slots=True)
class _Refitter:
    """Fits recipes on training and validation rows."""

    trial: Trial
    schema: TableSchema
    rows: PreparedSplit
    validation: PreparedSplit
    #: By recipe: the best trial, which is fitted in an average, may have to stand alone.
    _fitted: dict[str, _Model] = field(default_factory=dict)

    def fit(
        self, candidate: str, parameters: dict[str, Any], scaling: ScalingReport | None, repeats: int = 1
    ) -> _Model:
        """Return the model of one recipe, the average of ``repeats`` fits."""
        recipe = repr((candidate, sorted(parameters.items()), scaling, repeats))
        if recipe not in self._fitted:
            self._fitted[recipe] = self._fit(candidate, parameters, scaling, repeats)
        return self._fitted[recipe]

    def _fit(self, candidate: str, parameters: dict[str, Any], scaling: ScalingReport | None, repeats: int) -> _Model:
        trial = replace(self.trial, candidate=candidate, parameters=parameters)
        pipeline, kinds = fit_pipeline(trial, self.schema, self.rows, repeats=repeats)
        body, model, parity = export_checked(pipeline, self.schema, self.rows, self.validation, MAX_PARITY_ROWS)
        return self._calibrated(_Model(body, model, parity, kinds, {candidate: pipeline}), scaling)

    def average(self, members: tuple[EnsembleMember, ...], scaling: ScalingReport | None) -> _Model:
        """Return the average of several recipes, which predicts as its members together."""
        models = [self.fit(member.candidate, member.parameters, member.scaling, member.repeats) for member in members]
        weights = [member.weight for member in members]
        body = combine_models([model.onnx_bytes for model in models], weights, self.schema.task)
        onnx = OnnxModel.load(body, self.schema)
        check_average([model.onnx for model in models], weights, onnx, self.validation.features)
        parity = ParityReport(
            max(model.parity.max_probability_difference for model in models),
            sum(model.parity.label_mismatches for model in models),
            models[0].parity.rows,
            passed=all(model.parity.passed for model in models),
        )
        pipelines = {
            member.trial_id: next(iter(model.pipelines.values())) for member, model in zip(members, models, strict=True)
        }
        kinds = tuple(sorted({kind for model in models for kind in model.warnings}))
        return self._calibrated(_Model(body, onnx, parity, kinds, pipelines), scaling)

    def _calibrated(self, model: _Model, report: ScalingReport | None) -> _Model:
        if report is None or report.method == "none":
            return model
        scaling = ProbabilityScaling(report.method, np.array(report.weights), np.array(report.bias))
        body, onnx = append_checked(scaling, model.onnx_bytes, model.onnx, self.validation, MAX_PARITY_ROWS)
        return replace(model, onnx_bytes=body, onnx=onnx)


def refit_winner(
    trial: Trial,
    schema: TableSchema,
    train: PreparedSplit,
    validation: PreparedSplit,
    winner: Contender,
    *,
    best: Contender | None = None,
    exceeds: Callable[[bytes], str] = lambda onnx_bytes: "",  # noqa: ARG005  # no limit
) -> FittedTrial:
    """Fit the winner on training and validation rows, export it, compare both forms and append its calibration.

    Where the winner's record names members, their average is fitted. If that ``exceeds`` a limit, which it names, the
    ``best`` trial is the winner; if the average of that one's fits exceeds it too, it is fitted once. Raises
    ``TrainingFailedError``, or ``ModelExportError`` without an ONNX form that predicts the same.
    """
    check_splits(train, validation)
    refitter = _Refitter(trial, schema, join_splits(train, validation), validation)
    members = winner.record.ensemble.members if winner.record.ensemble else ()
    with threadpool_limits(MAX_THREADS):
        model = refitter.average(members, winner.record.scaling) if members else None
        if model and best and (exceeded := exceeds(model.onnx_bytes)):
            winner, model = without_members(winner, best, exceeded), None
        record = winner.record
        if model is None:
            model = refitter.fit(trial.candidate, dict(trial.parameters), record.scaling, record.repeats)
            if best and record.repeats > 1 and exceeds(model.onnx_bytes):
                record = msgspec.structs.replace(record, repeats=1)
                model = refitter.fit(trial.candidate, dict(trial.parameters), record.scaling)
    return FittedTrial(
        model.onnx_bytes,
        model.parity,
        record.metrics,
        record.validation_metrics,
        record.fold_metrics,
        model.warnings,
        winner.held_out_bytes,
        record.scaling,
        dump_estimator(model.pipelines),
        record.iterations,
        record.ensemble,
        record.repeats,
    )


def exceeded_limit(
    onnx_bytes: bytes, schema: TableSchema, rows: PreparedSplit, gate: GateSpec, clock: Callable[[], float]
) -> str:
    """Return the limit of size or latency that a model exceeds; empty where it keeps all."""
    size = len(onnx_bytes)
    if size > gate.max_model_bytes:
        return f"its {size:,} bytes exceed the limit of {gate.max_model_bytes:,}"
    model = OnnxModel.load(onnx_bytes, schema)
    batch = rows.features.take(np.arange(BATCH_ROWS) % len(rows))
    measured = (
        ("one row", gate.max_row_milliseconds, rows.features.take(np.array([0])), ROW_REPEATS),
        (f"{BATCH_ROWS:,} rows", gate.max_batch_milliseconds, batch, 1),
    )
    for name, limit, features, repeats in measured:
        if limit is None:
            continue
        model.run(features)
        began = clock()
        for _ in range(repeats):
            model.run(features)
        taken = 1_000 * (clock() - began) / repeats
        if taken > limit / 2:  # the gate measures it again, and takes the 95th percentile
            return f"{taken:.1f} ms for {name} come too near to the limit of {limit:g}"
    return ""


def without_members(winner: Contender, best: Contender, reason: str) -> Contender:
    """Return the best trial in the place of an average, for this reason."""
    assert winner.record.ensemble is not None  # noqa: S101  # it is an average
    report = winner.record.ensemble
    report = msgspec.structs.replace(report, members=(), reason=f"{report.reason}; the average is not taken: {reason}")
    return Contender(msgspec.structs.replace(best.record, ensemble=report), best.held_out_bytes)
