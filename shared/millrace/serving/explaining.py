"""Explanations: how much each feature moved a prediction away from what the model says on average.

Shapley values of the model's output, by sampling permutations (Castro, Gómez and Tejada, "Polynomial calculation of the
Shapley value based on sampling", Computers & Operations Research 36, 2009; Štrumbelj and Kononenko, "Explaining
prediction models and individual predictions with feature contributions", Knowledge and Information Systems 41, 2014).
A permutation starts from a row of the background and gives it the values of the row to explain, one feature after
another; what the output moves by is that feature's contribution. Each permutation is followed by its reverse, which
takes away most of the error (Mitchell, Cooper, Frank and Holmes, "Sampling permutations for Shapley value estimation",
Journal of Machine Learning Research 23, 2022; Covert and Lee, "Improving KernelSHAP", AISTATS 2021, on pairing).

Along a permutation the contributions sum to the prediction less the output for the background row, exactly. Every row
of the background is drawn equally often. Therefore attributions and base value sum to the prediction, whatever the
sampling error of each; and that error comes from the permutations alone.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.errors import InvalidInputError
from millrace.features import FeatureMatrix
from millrace.schema import TableSchema
from millrace.serving.background import PAIRS_A_ROW, column_groups

#: Evaluations of a model that one request may take.
MAX_EVALUATIONS = 200_000
#: Cells of the matrices that are made at once.
_CHUNK_CELLS = 500_000

FloatArray = npt.NDArray[np.float64]
#: Scores rows: one number each.
Output = Callable[[FeatureMatrix], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Attribution:
    """One explanation.

    Parameters
    ----------
    base_value : float
        The mean output over the background.
    values : float array of shape (n_features,)
        In the order of the schema's features; with the base value they sum to the prediction.
    standard_errors : float array of shape (n_features,)
        Of the values, from sampling.
    """

    base_value: float
    values: FloatArray
    standard_errors: FloatArray


class Explainer:
    """Explains one model's predictions; built once for a version.

    Parameters
    ----------
    schema : TableSchema
        That the model was trained under.
    background : FeatureMatrix
        Rows to compare with.
    """

    def __init__(self, schema: TableSchema, background: FeatureMatrix) -> None:
        self._background = background
        self._number_groups, self._string_groups = column_groups(schema)
        self._n_features = len(schema.features)

    @property
    def evaluations_a_row(self) -> int:
        """How often the model is evaluated to explain one row."""
        return 2 * PAIRS_A_ROW * len(self._background) * max(1, self._n_features - 1)

    def check_cost(self, n_rows: int) -> None:
        """Raise ``InvalidInputError`` when so many rows are too many to be explained at once."""
        most = max(1, MAX_EVALUATIONS // self.evaluations_a_row)
        if n_rows > most:
            raise InvalidInputError(
                f"explaining {n_rows} rows would take {n_rows * self.evaluations_a_row} evaluations of the model, and"
                f" {MAX_EVALUATIONS} may be asked for at once: send at most {most} rows, or leave out explain"
            )

    def explain(self, row: FeatureMatrix, output: Output) -> Attribution:
        """Explain the output for one row; the same row is always explained alike.

        Parameters
        ----------
        row : FeatureMatrix
            Of one row.
        output : callable
            The number to explain.
        """
        n_rows, n_features = len(self._background), self._n_features
        ends = output(_stack(self._background, row)).astype(np.float64)
        background = np.repeat(np.arange(n_rows), PAIRS_A_ROW)
        rng = np.random.default_rng(_seed(row))
        forward = rng.permuted(np.tile(np.arange(n_features), (len(background), 1)), axis=1)
        pairs = [
            self._contributions(ranks, background, row, ends, output) for ranks in (forward, n_features - 1 - forward)
        ]
        contributions = ((pairs[0] + pairs[1]) / 2).reshape(n_rows, PAIRS_A_ROW, n_features)
        # The background is fixed and each of its rows drawn equally often: only the permutations vary.
        within = contributions.var(axis=1, ddof=1).mean(axis=0)
        return Attribution(
            base_value=float(ends[:-1].mean()),
            values=contributions.mean(axis=(0, 1)),
            standard_errors=np.sqrt(within / len(background)),
        )

    def _contributions(
        self,
        ranks: npt.NDArray[np.int64],
        background: npt.NDArray[np.intp],
        row: FeatureMatrix,
        ends: FloatArray,
        output: Output,
    ) -> FloatArray:
        """Return what each feature moves the output by, along each permutation; ``ranks`` says when its turn is."""
        n_permutations, n_features = ranks.shape
        outputs = np.empty((n_permutations, n_features + 1))
        outputs[:, 0] = ends[background]
        outputs[:, -1] = ends[-1]
        steps = np.arange(1, n_features)
        width = len(self._number_groups) + len(self._string_groups)
        size = max(1, _CHUNK_CELLS // max(1, width * len(steps)))
        for start in range(0, n_permutations if len(steps) else 0, size):
            chunk = slice(start, start + size)
            taken = ranks[chunk, None, :] < steps[None, :, None]
            mixed = self._mix(taken, background[chunk], row)
            outputs[chunk, 1:-1] = output(mixed).reshape(-1, len(steps))
        moved = np.diff(outputs, axis=1)
        return np.take_along_axis(moved, ranks, axis=1)

    def _mix(self, taken: npt.NDArray[np.bool_], background: npt.NDArray[np.intp], row: FeatureMatrix) -> FeatureMatrix:
        """Return rows that have the features ``taken`` from the row and the others from the background."""
        numbers = np.where(
            taken[:, :, self._number_groups], row.numbers, self._background.numbers[background][:, None, :]
        )
        strings = np.where(
            taken[:, :, self._string_groups], row.strings, self._background.strings[background][:, None, :]
        )
        n_mixed = taken.shape[0] * taken.shape[1]
        return FeatureMatrix(numbers.reshape(n_mixed, -1), strings.reshape(n_mixed, -1))


def _stack(background: FeatureMatrix, row: FeatureMatrix) -> FeatureMatrix:
    return FeatureMatrix(
        np.concatenate([background.numbers, row.numbers]), np.concatenate([background.strings, row.strings])
    )


def _seed(row: FeatureMatrix) -> int:
    content = row.numbers.tobytes() + "\x1f".join(map(str, row.strings.ravel().tolist())).encode(errors="replace")
    return int.from_bytes(hashlib.sha256(content).digest()[:8])
