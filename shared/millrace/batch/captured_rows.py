"""Captured rows of a batch job: histograms of what was scored, by parts, in the bins of the version's training data.

They are counted while a part is scored and travel in its receipt, so they are there once for each row, however often a
part was scored. Nothing of them goes to ``captures/``, where monitoring reads requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.batch.job import BatchJob
from millrace.data.typed_batches import TypedBatch
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.histograms.predictions import (
    AnyPredictions,
    ClassPredictions,
    PredictionHistogram,
    Traffic,
    ValueHistogram,
)
from millrace.histograms.tables import Reference, ReferenceDocument, count_in_bins
from millrace.serving.model import LoadedModel
from millrace.serving.scoring import decide_classes


def load_reference(loaded: LoadedModel) -> Reference:
    """Return the distributions of a version's training data.

    Raises ``ArtifactNotFoundError`` for a version that was registered without them.
    """
    if loaded.read_reference is None:
        raise ArtifactNotFoundError(f"reference.json of version {loaded.version}")
    return Reference.build(ReferenceDocument.read(loaded.read_reference()), loaded.schema)


def describe_obstacle(loaded: LoadedModel) -> str:
    """Return why the rows of a version's jobs cannot be captured; empty where they can."""
    try:
        loaded.built(load_reference)
    except (ArtifactNotFoundError, ArtifactIntegrityError, ValueError):
        return f"version {loaded.version} has no readable reference.json to compare with: its rows are not captured"
    return ""


@dataclass(slots=True)
class RowCounter:
    """Counts the rows of a part that have a prediction."""

    loaded: LoadedModel
    reference: Reference
    counts: Traffic | None = None

    @classmethod
    def of(cls, job: BatchJob, loaded: LoadedModel) -> Self | None:
        """Return that of a job; None where its rows are not captured, or cannot be."""
        if job.capture == "none" or describe_obstacle(loaded):
            return None
        return cls(loaded, loaded.built(load_reference))

    def add(
        self,
        batch: TypedBatch,
        names: Sequence[str],
        values: npt.NDArray[Any],
        index: npt.NDArray[np.int64],
    ) -> None:
        """Count a block; ``index`` has the output of each row, -1 for one without, and ``names`` the file's columns."""
        scored = index[batch.places] >= 0
        n_rows = int(np.count_nonzero(scored))
        if not n_rows:
            return
        present = frozenset(names)
        columns = {
            name: found if n_rows == len(found) else found[scored]
            for name, found in batch.columns.items()
            if name in present
        }
        features = count_in_bins(columns, n_rows, self.reference.bins, self.reference.plan)
        predictions = self._count_predictions(values if n_rows == len(values) else values[scored])
        more = Traffic(features=features, predictions=predictions)
        self.counts = more if self.counts is None else self.counts + more

    def _count_predictions(self, values: npt.NDArray[Any]) -> AnyPredictions | None:
        known = values.astype(np.float64)
        if self.loaded.schema.classes:
            decided = decide_classes(values, self.loaded.threshold).astype(np.int64)
            return PredictionHistogram.count(ClassPredictions(decided, known))
        return None if self.reference.target is None else ValueHistogram.count(known, self.reference.target)
