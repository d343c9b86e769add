"""The champion, as it serves: loaded from its registered version, or the reason why it cannot be measured."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import load_row_ids
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.layout import SplitName, split_key, version_key
from millrace.names import CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel

#: Unseen rows with which a comparison may be made; with fewer, all rows are compared.
MIN_UNSEEN_ROWS = 100

_LEARNT: tuple[SplitName, ...] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which holdout rows a champion is compared on.

    Parameters
    ----------
    unseen : bool array of shape (n_rows,) or None
        The rows to compare on; None for all of them.
    note : str
        Why, and what it means; empty when the split has not changed.
    biased : bool
        Whether the champion may have learnt from rows it is compared on.
    """

    unseen: npt.NDArray[np.bool_] | None = None
    note: str = ""
    biased: bool = False


def find_overlap(
    split: Mapping[str, Any],
    holdout_ids: npt.NDArray[np.uint64],
    *,
    model: str,
    champion_fingerprint: str | None,
    champion_run: str | None,
    data_store: ObjectStore,
) -> Overlap:
    """Find the holdout rows that the champion may be compared on.

    Parameters
    ----------
    split : mapping
        How this run's rows were divided, with its ``fingerprint``, from the prepared data's manifest.
    holdout_ids : uint64 array of shape (n_rows,)
        Of this run's holdout.
    champion_fingerprint : str or None
        Of the champion's run; None when its version does not say.
    champion_run : str or None
        Whose prepared rows to look up.
    """
    same = bool(split.get("fingerprint")) and split.get("fingerprint") == champion_fingerprint
    if same and split.get("by") != "time":
        return Overlap()
    why = "the holdout moves with time" if same else "rows are not split as they were for the champion"
    learnt = _learnt_rows(model, champion_run, data_store)
    if learnt is None:
        note = (
            f"{why}, and what the champion learnt from is no longer kept: it may have seen rows of this holdout, "
            "which is to its advantage"
        )
        return Overlap(note=note, biased=True)
    unseen = ~np.isin(holdout_ids, learnt)
    seen = int(np.sum(~unseen))
    if not seen:
        return Overlap(note=f"{why}; the champion has seen none of these rows")
    if int(unseen.sum()) < MIN_UNSEEN_ROWS:
        note = (
            f"{why}: the champion learnt from {seen:,} of the {len(unseen):,} rows, and the others are too few to "
            "compare on, so all are compared, to its advantage"
        )
        return Overlap(note=note, biased=True)
    note = f"{why}: the {seen:,} rows that the champion learnt from are left out of the comparison"
    return Overlap(unseen, note)


def _learnt_rows(model: str, run_id: str | None, data_store: ObjectStore) -> npt.NDArray[np.uint64] | None:
    if not run_id:
        return None
    try:
        return np.concatenate([load_row_ids(data_store.get(split_key(model, run_id, name))) for name in _LEARNT])
    except ArtifactNotFoundError:
        return None


#: Column names listed in one sentence.
MAX_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves.

    Parameters
    ----------
    model : OnnxModel or None
        None when it cannot answer the holdout's rows.
    obstacle : str, default=""
        Why not.
    schema_changed : bool, default=False
        Whether that is because a later schema was adopted on purpose.
    model_name : str, default=""
        The model it is a version of.
    run_id : str or None, default=None
        The run that made it.
    split_fingerprint : str or None, default=None
        How that run's rows were divided; None for versions that do not say.
    """

    version: int
    model: OnnxModel | None
    obstacle: str = ""
    schema_changed: bool = False
    model_name: str = ""
    run_id: str | None = None
    split_fingerprint: str | None = None


def load_champion(
    model_name: str, schema: TableSchema, *, registry: Registry, model_store: ObjectStore
) -> Champion | None:
    """Load the champion for a comparison under ``schema``; None when the model has none yet.

    A champion whose artifacts are missing or damaged is an obstacle to the comparison, not a fault of this run:
    the run's own model is sound, and may be what replaces it.
    """
    version = registry.get_state(model_name).aliases.get(CHAMPION)
    if version is None:
        return None
    try:
        manifest = _read_manifest(model_name, version, registry, model_store)
        signature = _read_verified(model_name, version, "signature.json", manifest, model_store)
        champion_schema = TableSchema.from_dict(json.loads(signature)["schema"])
        difference = schema_difference(champion_schema, schema)
        if difference:
            return Champion(version, None, difference, schema_changed=schema.version > champion_schema.version)
        body = _read_verified(model_name, version, "model.onnx", manifest, model_store)
        return Champion(
            version,
            OnnxModel.load(body, champion_schema),
            model_name=model_name,
            run_id=manifest.get("run_id"),
            split_fingerprint=manifest.get("split_fingerprint"),
        )
    except (ArtifactIntegrityError, ArtifactNotFoundError) as error:
        return Champion(version, None, error.message)


def schema_difference(before: TableSchema, after: TableSchema) -> str:
    """Say what makes a model trained under ``before`` unfit for rows under ``after``; empty when nothing does."""
    if before.task != after.task:
        return f"its task is {before.task}, now {after.task}"
    if before.classes != after.classes:
        return f"it knows {len(before.classes)} classes, not the same as the present {len(after.classes)}"
    old, new = ({(column.name, column.type) for column in schema.features} for schema in (before, after))
    if old != new:
        names = sorted({name for name, _ in old ^ new})
        more = " ..." if len(names) > MAX_NAMES_SHOWN else ""
        return f"its features are not the present ones: {', '.join(names[:MAX_NAMES_SHOWN])}{more}"
    if (before.number_names, before.string_names) != (after.number_names, after.string_names):
        return "its features stand in another order"
    return ""


def _read_manifest(model_name: str, version: int, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    body = model_store.get(version_key(model_name, version, "manifest.json"))
    verify_sha256(body, registry.get_version(model_name, version).manifest_sha256, f"version {version}'s manifest.json")
    document: dict[str, Any] = json.loads(body)
    return document


def _read_verified(
    model_name: str, version: int, name: str, manifest: dict[str, Any], model_store: ObjectStore
) -> bytes:
    body = model_store.get(version_key(model_name, version, name))
    verify_sha256(body, manifest["artifacts"].get(name, {}).get("sha256", ""), f"version {version}'s {name}")
    return body


def verify_sha256(body: bytes, expected: str, what: str) -> None:
    """Raise ``ArtifactIntegrityError`` unless ``body`` has this SHA-256."""
    if hashlib.sha256(body).hexdigest() != expected:
        raise ArtifactIntegrityError(f"the stored bytes of {what} are not those that were recorded")
