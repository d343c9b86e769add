"""The best trials of a search, which the refit fits again: the winner alone, or an average of the best few.

Metrics, calibration and held-out predictions of what is refitted come from the trials' own predictions of rows that
their models have not seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit
from millrace.metrics.catalogue import Metric, compute_metrics
from millrace.schema import TableSchema
from millrace.training.ensemble import EnsembleChoice, HeldOutPredictions, choose_ensemble
from millrace.training.fitting import HeldOutRows, mean_metrics, measure_folds
from millrace.training.probability_scaling import choose_scaling
from millrace.training.repeated_fits import count_repeats
from millrace.training.trial_record import EnsembleMember, TrialRecord


@dataclass(frozen=True, slots=True)
class Contender:
    """The record of a trial of a search, and its held-out predictions."""

    record: TrialRecord
    held_out_bytes: bytes


def choose_contender(
    contenders: Sequence[Contender], schema: TableSchema, validation: PreparedSplit, metric: Metric
) -> Contender:
    """Return the winner, or the average of some contenders as one: its record names them as members.

    ``contenders`` are the trials of the last round that succeeded, the best first.
    """
    best, held_out = contenders[0], [HeldOutRows.load(one.held_out_bytes) for one in contenders]
    # What an earlier release recorded, or another sample of the rows, cannot be averaged.
    alike = [
        (one, rows)
        for one, rows in zip(contenders, held_out, strict=True)
        if np.array_equal(rows.target, held_out[0].target) and np.array_equal(rows.fold_of, held_out[0].fold_of)
    ]
    predictions = {one.record.trial_id: rows.predictions for one, rows in alike}
    first = held_out[0]
    candidates = {one.record.trial_id: one.record.candidate for one, _ in alike}
    rows_outside = HeldOutPredictions(schema.task, first.target, first.fold_of, predictions, candidates)
    choice = choose_ensemble(rows_outside, metric, best.record.seed)
    if len(choice.weights) == 1:
        return Contender(msgspec.structs.replace(best.record, ensemble=choice.report), best.held_out_bytes)
    records = {one.record.trial_id: one.record for one, _ in alike}
    ensemble = msgspec.structs.replace(choice.report, members=_members(records, choice))
    record = msgspec.structs.replace(best.record, ensemble=ensemble)
    return _average(record, replace(first, predictions=choice.predictions), schema, len(validation))


def with_repeats(contender: Contender, rows: int) -> Contender:
    """Return a contender whose refit averages several fits of a network, each with a seed of its own."""
    record, ensemble = contender.record, contender.record.ensemble
    if ensemble:
        members = (
            msgspec.structs.replace(member, repeats=count_repeats(member.candidate, rows, member.weight))
            for member in ensemble.members
        )
        ensemble = msgspec.structs.replace(ensemble, members=tuple(members))
    record = msgspec.structs.replace(record, ensemble=ensemble, repeats=count_repeats(record.candidate, rows))
    return replace(contender, record=record)


def _members(records: dict[str, TrialRecord], choice: EnsembleChoice) -> tuple[EnsembleMember, ...]:
    return tuple(
        EnsembleMember(
            trial_id=name,
            weight=weight,
            candidate=records[name].candidate,
            parameters=records[name].final_parameters,
            scaling=records[name].scaling,
        )
        for name, weight in choice.weights.items()
    )


def _average(best: TrialRecord, held: HeldOutRows, schema: TableSchema, validation_rows: int) -> Contender:
    """Return an average with its own calibration and metrics, in the place of the best trial's."""
    scaling = None
    if best.calibrate and schema.task != "regression":
        scaled = choose_scaling(held.target, held.predictions, held.fold_of)
        scaling = scaled.report
        if scaled.scaling:
            held = replace(held, predictions=scaled.probabilities)
    # Those of the validation rows come last, after the training rows where there are folds.
    last: npt.NDArray[Any] = np.arange(len(held.target) - validation_rows, len(held.target))
    measured = compute_metrics(schema.task, held.target[last], held.predictions[last])
    folds = measure_folds(schema, held) if best.folds > 1 else ()
    record = msgspec.structs.replace(
        best,
        metrics=mean_metrics(folds) if folds else measured,
        validation_metrics=measured,
        fold_metrics=tuple(dict(fold) for fold in folds),
        scaling=scaling,
        iterations=None,
    )
    return Contender(record, held.dump())
