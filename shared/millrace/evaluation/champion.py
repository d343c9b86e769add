"""The champion and the best champion so far: loading their versions, and comparing a challenger with both.

The best champion so far is the one that no later champion was clearly better than. Each version's manifest names it
(``best_version``), so that a chain of challengers, each a little worse than the last, is measured against one and the
same model. A best version that is retired or damaged, or that this holdout cannot measure, is replaced by the champion.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit, load_row_ids
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, VersionNotFoundError
from millrace.evaluation.holdout import Measurement, count_non_finite, measure
from millrace.evaluation_results import BestComparison, ChampionComparison
from millrace.features import recentre
from millrace.layout import SplitName, split_key, version_key
from millrace.manifest import MANIFEST, MODEL, SIGNATURE, Manifest, Signature
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.catalogue import Metric
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec

#: Holdout rows unseen by the champion that a comparison needs; with fewer, all rows are compared.
MIN_UNSEEN_ROWS = 100
#: Column names listed in one sentence.
MAX_NAMES_SHOWN = 10

_TRAINED_ON: tuple[SplitName, ...] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Champion:
    """A version that serves or served, or the obstacle to scoring the holdout's rows, of ``rows_schema``, with it.

    ``schema_changed`` when the obstacle is a later schema, adopted on purpose.
    """

    version: int
    model: OnnxModel | None = None
    manifest: Manifest | None = None
    obstacle: str = ""
    schema_changed: bool = False
    rows_schema: TableSchema | None = None


def load_champion(
    model_name: str, schema: TableSchema, *, registry: Registry, model_store: ObjectStore
) -> Champion | None:
    """Load the champion for a comparison under ``schema``; None when the model has none yet.

    Missing or damaged artifacts of the champion are an obstacle to the comparison and no error of this run, whose own
    model may replace it.
    """
    version = registry.get_state(model_name).aliases.get(CHAMPION)
    return None if version is None else _load_version(model_name, version, schema, registry, model_store)


def load_best(
    model_name: str, champion: Champion, schema: TableSchema, *, registry: Registry, model_store: ObjectStore
) -> Champion | None:
    """Load the best champion so far; None when that is the champion itself, or it cannot be compared."""
    version = champion.manifest.best_version if champion.manifest else None
    if version is None:
        return None
    try:
        if registry.get_version(model_name, version).status == "retired":
            return Champion(version, obstacle="it is retired")
        return _load_version(model_name, version, schema, registry, model_store)
    except VersionNotFoundError as error:
        return Champion(version, obstacle=error.message)


def _load_version(
    model_name: str, version: int, schema: TableSchema, registry: Registry, model_store: ObjectStore
) -> Champion:
    def read(name: str, sha256: str) -> bytes:
        body = model_store.get(version_key(model_name, version, name))
        verify_sha256(body, sha256, f"version {version}'s {name}")
        return body

    try:
        manifest = Manifest.read(read(MANIFEST, registry.get_version(model_name, version).manifest_sha256))
        signature = Signature.read(read(SIGNATURE, manifest.artifacts[SIGNATURE].sha256))
        champion_schema = _read_schema(signature, version)
        difference = _schema_difference(champion_schema, schema)
        if difference:
            is_later = schema.version > champion_schema.version
            return Champion(version, obstacle=difference, schema_changed=is_later)
        onnx_bytes = read(MODEL, manifest.artifacts[MODEL].sha256)
        return Champion(version, OnnxModel.load(onnx_bytes, champion_schema), manifest, rows_schema=schema)
    except (ArtifactIntegrityError, ArtifactNotFoundError) as error:
        return Champion(version, obstacle=error.message)


def _read_schema(signature: Signature, version: int) -> TableSchema:
    try:
        return TableSchema.from_dict(signature.schema)
    except (KeyError, TypeError, ValueError) as error:  # as that of a later release
        raise ArtifactIntegrityError(
            f"version {version}'s {SIGNATURE} holds no schema that this release reads"
        ) from error


def _schema_difference(before: TableSchema, after: TableSchema) -> str:
    """Return why a model trained under ``before`` cannot score rows under ``after``; empty when it can."""
    if before.task != after.task:
        return f"its task is {before.task}, now {after.task}"
    if before.target.name != after.target.name:
        return f"its target is {before.target.name}, now {after.target.name}"
    if before.classes != after.classes:
        return f"its {len(before.classes)} classes are not the present {len(after.classes)}"
    old, new = ({(column.name, column.type) for column in schema.features} for schema in (before, after))
    if old != new:
        names = sorted({name for name, _ in old ^ new})
        more = " ..." if len(names) > MAX_NAMES_SHOWN else ""
        return f"its features are not the present ones: {', '.join(names[:MAX_NAMES_SHOWN])}{more}"
    if (before.number_names, before.string_names) != (after.number_names, after.string_names):
        return "its features have another order"
    return ""


def verify_sha256(body: bytes, expected: str, name: str) -> None:
    """Raise ``ArtifactIntegrityError`` unless ``body`` has this SHA-256."""
    if hashlib.sha256(body).hexdigest() != expected:
        raise ArtifactIntegrityError(f"the stored bytes of {name} do not match the recorded SHA-256")


def compare_with_champion(
    champion: Champion,
    predictions: npt.NDArray[Any],
    holdout: PreparedSplit,
    *,
    metric: Metric,
    spec: ModelSpec,
    split: Mapping[str, Any],
    data_store: ObjectStore,
    best: Champion | None = None,
) -> ChampionComparison:
    """Measure challenger, champion and best champion so far on the same draws of rows that neither was trained on."""
    if champion.model is None or champion.manifest is None or count_non_finite(predictions):
        return ChampionComparison(
            champion.version, not_compared=champion.obstacle or None, schema_changed=champion.schema_changed
        )
    predicted = predict_rows(champion, champion.model, holdout)
    if obstacle := _describe_non_finite(predicted):
        return ChampionComparison(champion.version, not_compared=obstacle)
    overlap = find_train_overlap(champion.manifest, split, holdout.row_ids, data_store)
    kept = np.ones(len(holdout), dtype=np.bool_) if overlap.unseen is None else overlap.unseen
    models = {"model": predictions, "champion": predicted}
    compared_best = None
    if best is not None:
        compared_best = BestComparison(best.version)
        scored = _score_best(best, kept, split=split, holdout=holdout, data_store=data_store)
        if isinstance(scored, str):
            compared_best = BestComparison(best.version, not_compared=scored)
        else:
            models["best"], kept = scored
    measured = measure(
        champion.model.schema, holdout.target[kept], {name: rows[kept] for name, rows in models.items()}, spec.seed
    )
    gains = {name: _compare(measured["model"], measured[name], metric, spec) for name in models if name != "model"}
    if compared_best is not None and "best" in models:
        gain, measured_gain, obstacle = gains["best"]
        compared_best = BestComparison(
            compared_best.version, gain, measured_gain, obstacle, dict(measured["best"].metrics)
        )
    gain, measured_gain, obstacle = gains["champion"]
    return ChampionComparison(
        champion.version,
        gain=gain,
        not_compared=obstacle,
        note=overlap.note or None,
        metrics=dict(measured["champion"].metrics),
        rows=int(kept.sum()),
        may_have_seen_rows=overlap.biased,
        measured_gain=measured_gain,
        best=compared_best,
    )


def predict_rows(version: Champion, model: OnnxModel, rows: PreparedSplit) -> npt.NDArray[Any]:
    """Return a version's predictions of prepared rows; ``model`` is the version's own."""
    return model.run(recentre(rows.features, version.rows_schema or model.schema, model.schema))


def _describe_non_finite(predictions: npt.NDArray[Any]) -> str | None:
    missing = count_non_finite(predictions)
    return f"its prediction is not a number for {missing:,} rows" if missing else None


def _score_best(
    best: Champion,
    kept: npt.NDArray[np.bool_],
    *,
    split: Mapping[str, Any],
    holdout: PreparedSplit,
    data_store: ObjectStore,
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] | str:
    """Return the best version's predictions and the rows to compare on, or the reason not to compare with it.

    A champion that may have been trained on the holdout serves nevertheless, and has to be compared with. A best
    version that may have been is no measure of anything.
    """
    if best.model is None or best.manifest is None:
        return best.obstacle
    overlap = find_train_overlap(best.manifest, split, holdout.row_ids, data_store)
    rows = kept if overlap.unseen is None else kept & overlap.unseen
    if overlap.biased:
        return "it may have been trained on rows of this holdout"
    if rows.sum() < min(MIN_UNSEEN_ROWS, kept.sum()):
        return f"it was trained on all but {rows.sum():,} of the rows"
    predicted = predict_rows(best, best.model, holdout)
    return _describe_non_finite(predicted) or (predicted, rows)


def _compare(
    model: Measurement, other: Measurement, metric: Metric, spec: ModelSpec
) -> tuple[ConfidenceInterval | None, float | None, str | None]:
    """Return the interval of the gain, the measured gain, and the reason for no interval."""
    gain = model.gain_over(other, metric, spec.gate.confidence)
    if gain is None or not {metric.name} <= model.metrics.keys() & other.metrics.keys():
        return None, None, f"{metric.name} is not defined on it"
    measured = metric.gain(model.metrics[metric.name], other.metrics[metric.name])
    if is_too_certain(gain, metric, model.predictions, other.predictions):
        return None, measured, f"its {model.rows:,} rows are too few for an interval of the gain in {metric.name}"
    return gain, measured, None


def is_too_certain(
    gain: ConfidenceInterval, metric: Metric, predictions: npt.NDArray[Any], others: npt.NDArray[Any]
) -> bool:
    """Return True where models differ and every draw gives the same gain: the rows are too few for an interval.

    The bootstrap's interval has no width then, and claims a certainty that they do not support. Models that a metric
    cannot tell apart do not differ.
    """
    return gain.low == gain.high and not metric.sees_alike(predictions, others)


def _begins_later(holdout_from: str | float | None, trained_before: str | float | None) -> bool:
    """Return True when a holdout begins where a version's training rows end, or later."""
    if isinstance(holdout_from, str) and isinstance(trained_before, str):
        return holdout_from >= trained_before  # ISO 8601 in UTC, to the second
    if isinstance(holdout_from, float | int) and isinstance(trained_before, float | int):
        return holdout_from >= trained_before
    return False


@dataclass(frozen=True, slots=True)
class TrainOverlap:
    """Overlap of the holdout with a champion's training rows.

    ``unseen`` is a mask of the rows to compare on, None for all; ``biased`` when the champion may have been
    trained on some of them.
    """

    unseen: npt.NDArray[np.bool_] | None = None
    note: str = ""
    biased: bool = False


def find_train_overlap(
    champion: Manifest, split: Mapping[str, Any], holdout_ids: npt.NDArray[np.uint64], data_store: ObjectStore
) -> TrainOverlap:
    """Find the holdout rows that the champion was not trained on, from the way in which the rows are ``split`` now."""
    same = bool(split.get("fingerprint")) and split.get("fingerprint") == champion.split_fingerprint
    if same and split.get("by") != "time":
        return TrainOverlap()
    reason = "the holdout moves with time" if same else "rows are not split as they were for the champion"
    if same and _begins_later(split.get("test_from"), champion.trained_before):
        return TrainOverlap(note=f"{reason}; the champion was trained on none of these rows")
    trained_ids = load_trained_ids(champion, data_store)
    if trained_ids is None:
        note = (
            f"{reason}, and the champion's training rows are no longer stored: it may have been trained on rows of "
            "this holdout, to its advantage"
        )
        return TrainOverlap(note=note, biased=True)
    unseen = ~np.isin(holdout_ids, trained_ids)
    seen = int(np.sum(~unseen))
    if not seen:
        return TrainOverlap(note=f"{reason}; the champion was trained on none of these rows")
    if int(unseen.sum()) < MIN_UNSEEN_ROWS:
        note = (
            f"{reason}: the champion was trained on {seen:,} of the {len(unseen):,} rows, and the others are too few "
            "to compare on, so all are compared, to its advantage"
        )
        return TrainOverlap(note=note, biased=True)
    return TrainOverlap(unseen, f"{reason}: the {seen:,} rows that the champion was trained on are left out")


def load_trained_ids(version: Manifest, data_store: ObjectStore) -> npt.NDArray[np.uint64] | None:
    """Return the ids of the rows that a version was trained on; None where they are no longer stored."""
    try:
        stored = [data_store.get(split_key(version.model, version.run_id, name)) for name in _TRAINED_ON]
    except ArtifactNotFoundError:
        return None
    return np.concatenate([load_row_ids(body) for body in stored])
