"""Explanations of a batch job's rows: those that requests for the same rows get, as columns.

One explanation takes as many as 20,000 evaluations of the model, and a part is scored in one call. So the rows of a
part are bounded when a job with explanations is planned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.batch.job import Part
from millrace.errors import InvalidInputError, PayloadTooLargeError
from millrace.features import FeatureMatrix, build_features
from millrace.serving.explain import Explainer
from millrace.serving.model import LoadedModel
from millrace.serving.scoring import explained_output, load_explainer

#: Evaluations of the model that the explanations of a part may take.
MAX_PART_EVALUATIONS = 50_000_000


def most_explained_rows(loaded: LoadedModel) -> int:
    """Return the rows that a part of a job with explanations may have.

    Raises ``InvalidInputError`` when the version was registered without data for explanations.
    """
    return MAX_PART_EVALUATIONS // loaded.built(load_explainer).evaluations_per_row


def check_explained_parts(parts: Iterable[Part], loaded: LoadedModel, most_files: int) -> None:
    """Raise ``PayloadTooLargeError`` when a part has more rows than it may explain.

    Rows that were not counted beforehand are an ``InvalidInputError``; of up to ``most_files`` files they are, unless
    these cannot be cut.
    """
    most = most_explained_rows(loaded)
    limit = f"with explanations of this model a file has at most {most:,}"
    evaluations = loaded.built(load_explainer).evaluations_per_row
    for part in parts:
        unknown = [piece.source.key for piece in part.pieces if piece.rows is None]
        if part.rows is None:
            raise InvalidInputError(
                f"the rows of {unknown[0]} cannot be counted beforehand, and {limit}: write at most {most_files} files "
                "of Parquet, not gzipped, or leave out explain"
            )
        if part.rows > most:
            raise PayloadTooLargeError(
                f"{part.pieces[0].source.key} has {part.rows:,} rows, and {limit}, because one takes {evaluations:,} "
                f"evaluations of it: score fewer rows, write them as several files, at most {most_files}, or leave out "
                "explain"
            )


@dataclass(frozen=True, slots=True)
class RowExplainer:
    """Explains rows of a part, one after the other."""

    loaded: LoadedModel
    explainer: Explainer

    @classmethod
    def of(cls, loaded: LoadedModel) -> Self:
        """Return that of a version; ``InvalidInputError`` when it has no rows to compare with."""
        return cls(loaded, loaded.built(load_explainer))

    def explain(
        self, columns: Mapping[str, npt.NDArray[Any]], values: npt.NDArray[Any], index: npt.NDArray[np.int64]
    ) -> dict[str, pa.Array]:
        """Return ``base_value`` and, by feature, what it adds to the prediction, which they sum to.

        Parameters
        ----------
        columns : Mapping of str to ndarray of shape (n_outputs,)
            Typed rows, as :func:`millrace.features.build_features` takes them.
        values : ndarray of shape (n_outputs,) or (n_outputs, n_classes)
            What the model predicted for them.
        index : int array of shape (n_rows,)
            The output of each row of the results, -1 for one without, which has nulls.
        """
        schema = self.loaded.schema
        features = build_features(schema, columns, len(values), texts=object)
        names = ["base_value", *(f"explanation_{column.name}" for column in schema.features)]
        found = np.zeros((len(index), len(names)))
        for row in np.flatnonzero(index >= 0).tolist():
            place = int(index[row])
            one = features.take(np.array([place]))
            _, _, output = explained_output(self.loaded, values[place].tolist())
            attribution = self.explainer.explain(FeatureMatrix(one.numbers, one.strings.astype(object)), output)
            found[row, 0], found[row, 1:] = attribution.base_value, attribution.values
        gone = index < 0
        return {name: pa.array(found[:, column], mask=gone) for column, name in enumerate(names)}
