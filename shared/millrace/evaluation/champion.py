"""The champion: loading its registered version, and comparing a challenger with it on the same holdout rows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit, load_row_ids
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.evaluation.holdout import count_non_finite, measure
from millrace.evaluation_results import ChampionComparison
from millrace.features import recentre
from millrace.layout import SplitName, split_key, version_key
from millrace.metrics.catalogue import Metric
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.manifest import MANIFEST, MODEL, SIGNATURE, Manifest, Signature
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
    """The version that serves, or the obstacle to scoring the holdout's rows, of schema ``rows_schema``, with it.

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
    if version is None:
        return None

    def read(name: str, sha256: str) -> bytes:
        body = model_store.get(version_key(model_name, version, name))
        verify_sha256(body, sha256, f"version {version}'s {name}")
        return body

    try:
        manifest = Manifest.read(read(MANIFEST, registry.get_version(model_name, version).manifest_sha256))
        signature = Signature.read(read(SIGNATURE, manifest.artifacts[SIGNATURE].sha256))
        champion_schema = TableSchema.from_dict(signature.schema)
        difference = _schema_difference(champion_schema, schema)
        if difference:
            is_later = schema.version > champion_schema.version
            return Champion(version, obstacle=difference, schema_changed=is_later)
        onnx_bytes = read(MODEL, manifest.artifacts[MODEL].sha256)
        return Champion(version, OnnxModel.load(onnx_bytes, champion_schema), manifest, rows_schema=schema)
    except (ArtifactIntegrityError, ArtifactNotFoundError) as error:
        return Champion(version, obstacle=error.message)


def _schema_difference(before: TableSchema, after: TableSchema) -> str:
    """Return why a model trained under ``before`` cannot score rows under ``after``; empty when it can."""
    if before.task != after.task:
        return f"its task is {before.task}, now {after.task}"
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
) -> ChampionComparison:
    """Measure challenger and champion on the same draws of the rows that the champion was not trained on."""
    if champion.model is None or champion.manifest is None or count_non_finite(predictions):
        return ChampionComparison(
            champion.version, not_compared=champion.obstacle or None, schema_changed=champion.schema_changed
        )
    own = champion.model.schema
    predicted = champion.model.run(recentre(holdout.features, champion.rows_schema or own, own))
    missing = count_non_finite(predicted)
    if missing:
        obstacle = f"its prediction is not a number for {missing:,} rows"
        return ChampionComparison(champion.version, not_compared=obstacle)
    overlap = find_train_overlap(champion.manifest, split, holdout.row_ids, data_store)
    kept = np.ones(len(holdout), dtype=np.bool_) if overlap.unseen is None else overlap.unseen
    models = {"model": predictions[kept], "champion": predicted[kept]}
    both = measure(champion.model.schema, holdout.target[kept], models, spec.seed)
    gain = both["model"].gain_over(both["champion"], metric, spec.gate.confidence)
    return ChampionComparison(
        champion.version,
        gain=gain,
        not_compared=None if gain else f"{metric.name} is not defined on it",
        note=overlap.note or None,
        metrics=dict(both["champion"].metrics),
        rows=int(kept.sum()),
        may_have_seen_rows=overlap.biased,
    )


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
    try:
        stored = [data_store.get(split_key(champion.model, champion.run_id, name)) for name in _TRAINED_ON]
    except ArtifactNotFoundError:
        note = (
            f"{reason}, and the champion's training rows are no longer stored: it may have been trained on rows of "
            "this holdout, to its advantage"
        )
        return TrainOverlap(note=note, biased=True)
    unseen = ~np.isin(holdout_ids, np.concatenate([load_row_ids(body) for body in stored]))
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
