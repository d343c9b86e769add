"""Assessing a run's winner: the same holdout for it, the trivial baseline and the champion; then the gate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit, load_columns, load_split
from millrace.data.reference import describe_column
from millrace.entities import Trial
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.evaluation.analysis import Examination, Splits, Subject, examine
from millrace.evaluation.champion import Champion, Overlap, find_overlap, verify_sha256
from millrace.evaluation.curves import decisions
from millrace.evaluation.gate import ChampionComparison, GateEvidence, GateResult, decide
from millrace.evaluation.holdout import Measurement, baseline_predictions, measure, unanswered
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, ErrorsByValue, PredictionHistogram, ValueHistogram
from millrace.layout import prepared_key, split_key, trial_key
from millrace.metrics.bootstrap import Interval
from millrace.metrics.catalogue import Metric
from millrace.ports import ObjectStore
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.trial import ONNX_NAME, RECORD_NAME

Array = npt.NDArray[Any]


def profile_predictions(
    schema: TableSchema,
    predictions: Array,
    target: Array,
    *,
    train_target: Array,
    threshold: float | None,
    groups: Mapping[str, Array],
) -> PredictionProfile | None:
    """Profile answers on a holdout.

    Parameters
    ----------
    predictions, target : array of shape (n_rows, n_classes) and (n_rows,)
        Of the holdout; predictions of shape (n_rows,) for regression.
    train_target : array of shape (n_train_rows,)
        A regression's predictions are counted in its bins.
    threshold : float or None
        From which probability of the second class on it is the label; None takes the likeliest.
    groups : mapping of str to array of shape (n_rows,)
        Of the declared columns of groups.

    Returns
    -------
    PredictionProfile or None
        None for a regression whose target never varied.
    """
    named = {name: group_names(values) for name, values in groups.items()}
    if schema.task == "regression":
        bins = describe_column(schema.target, train_target).make_bins()
        if not isinstance(bins, NumberBins):
            return None
        values = predictions.astype(np.float64)
        truth = target.astype(np.float64)
        return PredictionProfile(
            predictions=ValueHistogram.count(values, bins, named),
            outcomes=ErrorSums.measure(values, truth, named, bins.center),
            errors_by_value=ErrorsByValue.measure(values, truth, bins),
        )
    decided = predictions.argmax(axis=1) if threshold is None else decisions(predictions, threshold)
    counted = ClassPredictions(decided.astype(np.int64), predictions.astype(np.float64), named)
    outcomes = OutcomeHistogram.count(counted, target.astype(np.int64))
    return PredictionProfile(predictions=PredictionHistogram.count(counted), outcomes=outcomes)


def group_names(values: Array) -> Sequence[str]:
    """Return the group of each row as monitoring writes it."""
    return ["missing" if _is_missing(value) else str(value) for value in values.tolist()]


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


HOLDOUT_COLUMNS = "holdout_columns.npz"
PREPARED_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class ChampionResult:
    """The champion on the holdout.

    Parameters
    ----------
    measured : Measurement or None
        On the rows it was compared on; None when it could not be measured.
    rows : int
        That it was compared on.
    gain : Interval or None
        Of the challenger over it.
    """

    champion: Champion
    measured: Measurement | None
    rows: int
    overlap: Overlap
    gain: Interval | None
    obstacle: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """The winner on the holdout, next to what it is compared with.

    Parameters
    ----------
    measured, baseline : Measurement
        Of the winner and of the trivial baseline; the winner's is empty when it gave an answer that is no number.
    champion : ChampionResult or None
        None when there is no champion.
    examination : Examination or None
        None when it gave an answer that is no number.
    split : mapping
        How the rows were divided, from the prepared data's manifest.
    profile : PredictionProfile or None
        How it answered the holdout, for monitoring.
    """

    winner: Trial
    gate: GateResult
    splits: Splits
    model_bytes: int
    measured: Measurement
    baseline: Measurement
    champion: ChampionResult | None
    examination: Examination | None
    split: Mapping[str, Any] = field(default_factory=dict)
    profile: PredictionProfile | None = None


def assess(
    winner: Trial,
    champion: Champion | None,
    schema: TableSchema,
    metric: Metric,
    spec: ModelSpec,
    *,
    data_store: ObjectStore,
    model_store: ObjectStore,
    clock: Callable[[], float],
) -> Assessment:
    """Measure the winner, the trivial baseline and the champion on the same holdout, and ask the gate.

    Raises
    ------
    ArtifactIntegrityError
        When the winner's stored bytes are not those that its trial recorded.
    InvalidInputError
        When no rows were held out.
    """
    splits = _load_splits(winner, data_store)
    target, rows = splits.holdout.target, len(splits.holdout)
    onnx_bytes, parity = _load_winner(winner, model_store)
    model = OnnxModel.load(onnx_bytes, schema)
    predictions = model.run(splits.holdout.features)
    missing = unanswered(predictions)
    trivial = baseline_predictions(schema, splits.train.target, rows)
    measured, baseline = Measurement({}, {}), Measurement({}, {})
    if not missing:
        measured, baseline = measure(schema, target, {"model": predictions, "baseline": trivial}, spec.seed).values()
    split = _read_split(winner, data_store)
    compared = None
    if champion:
        compared = _compare(
            champion,
            predictions,
            splits.holdout,
            schema=schema,
            metric=metric,
            spec=spec,
            split=split,
            data_store=data_store,
        )
    examination = None
    if not missing:
        examination = examine(
            Subject(winner, model, schema, metric, spec, splits, predictions, measured, baseline, clock)
        )
    evidence = GateEvidence(
        task=schema.task,
        primary_metric=metric,
        metrics=measured.metrics,
        baseline_gain=None if missing else measured.gain_over(baseline, metric, spec.gate.confidence),
        champion=_comparison(compared),
        model_bytes=len(onnx_bytes),
        parity_passed=parity["passed"],
        parity_difference=parity["max_probability_difference"],
        slices=examination.slices if examination else (),
        latency={kind: taken.p95 for kind, taken in examination.latency.items()} if examination else {},
        unanswered_rows=missing,
        only_class=_only_class(schema, target),
    )
    return Assessment(
        winner=winner,
        gate=decide(evidence, spec.gate),
        splits=splits,
        model_bytes=len(onnx_bytes),
        measured=measured,
        baseline=baseline,
        champion=compared,
        examination=examination,
        split=split,
        profile=_profile(schema, predictions, splits, spec, examination),
    )


def _profile(
    schema: TableSchema, predictions: Array, splits: Splits, spec: ModelSpec, examination: Examination | None
) -> PredictionProfile | None:
    """Profile the winner's answers; there is none of answers that are no numbers."""
    if examination is None:
        return None
    threshold = examination.document.get("threshold")
    return profile_predictions(
        schema,
        predictions,
        splits.holdout.target,
        train_target=splits.train.target,
        threshold=threshold["value"] if threshold else None,
        groups={name: splits.told_apart[name] for name in spec.sensitive_groups if name in splits.told_apart},
    )


def _load_splits(winner: Trial, data_store: ObjectStore) -> Splits:
    train, validation, holdout = (
        load_split(data_store.get(split_key(winner.model, winner.run_id, name)))
        for name in ("train", "validation", "test")
    )
    if not len(holdout):
        raise InvalidInputError("the test split has no rows, so nothing can be said about a model")
    try:
        told_apart = load_columns(data_store.get(prepared_key(winner.model, winner.run_id, HOLDOUT_COLUMNS)))
    except ArtifactNotFoundError:  # prepared by an older release
        told_apart = {}
    return Splits(train, validation, holdout, told_apart)


def _load_winner(winner: Trial, model_store: ObjectStore) -> tuple[bytes, Mapping[str, Any]]:
    """Return the winner's ONNX file, verified, and the parity its record states."""
    body = model_store.get(trial_key(winner.model, winner.run_id, winner.trial_id, ONNX_NAME))
    verify_sha256(body, winner.artifacts.get(ONNX_NAME, ""), f"trial {winner.trial_id}'s {ONNX_NAME}")
    record = json.loads(model_store.get(trial_key(winner.model, winner.run_id, winner.trial_id, RECORD_NAME)))
    parity: Mapping[str, Any] = record["parity"]
    return body, parity


def _read_split(winner: Trial, data_store: ObjectStore) -> Mapping[str, Any]:
    try:
        manifest = json.loads(data_store.get(prepared_key(winner.model, winner.run_id, PREPARED_MANIFEST)))
    except ArtifactNotFoundError:
        return {}
    split: Mapping[str, Any] = manifest.get("split") or {}
    return split


def _compare(
    champion: Champion,
    predictions: Array,
    holdout: PreparedSplit,
    *,
    schema: TableSchema,
    metric: Metric,
    spec: ModelSpec,
    split: Mapping[str, Any],
    data_store: ObjectStore,
) -> ChampionResult:
    """Measure challenger and champion on the same draws of the rows that the champion has not learnt from."""
    nothing = ChampionResult(champion, None, 0, Overlap(), None, champion.obstacle)
    if champion.model is None or unanswered(predictions):
        return nothing
    answers = champion.model.run(holdout.features)
    missing = unanswered(answers)
    if missing:
        obstacle = f"its answer is not a number for {missing:,} rows"
        return ChampionResult(champion, None, 0, Overlap(), None, obstacle)
    overlap = find_overlap(
        split,
        holdout.row_ids,
        model=champion.model_name,
        champion_fingerprint=champion.split_fingerprint,
        champion_run=champion.run_id,
        data_store=data_store,
    )
    kept = np.ones(len(holdout), dtype=np.bool_) if overlap.unseen is None else overlap.unseen
    both = measure(schema, holdout.target[kept], {"model": predictions[kept], "champion": answers[kept]}, spec.seed)
    gain = both["model"].gain_over(both["champion"], metric, spec.gate.confidence)
    obstacle = "" if gain else f"{metric.name} is not defined on it"
    return ChampionResult(champion, both["champion"], int(kept.sum()), overlap, gain, obstacle)


def _comparison(result: ChampionResult | None) -> ChampionComparison | None:
    if result is None:
        return None
    champion = result.champion
    return ChampionComparison(
        champion.version, result.gain, result.obstacle, champion.schema_changed, result.overlap.note
    )


def _only_class(schema: TableSchema, target: Array) -> str | None:
    if schema.task == "regression":
        return None
    present = np.unique(target)
    return schema.classes[int(present[0])] if len(present) == 1 else None
