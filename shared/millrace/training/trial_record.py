"""The record of a trial, ``trial.json``; it imports neither scikit-learn nor ONNX."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millrace.documents import Document, Record
from millrace.entities import Trial
from millrace.schema import Task
from millrace.training.early_stopping import fixed

ONNX_NAME = "model.onnx"
ESTIMATOR_NAME = "estimator.skops"
RECORD_NAME = "trial.json"
#: The candidate of a model that a user logged with MLflow.
LOGGED = "mlflow"
#: Targets and predictions of rows by models that were not fitted on them: of every fold, or the validation rows.
HELD_OUT_NAME = "held_out.npz"
#: Fields that a record has from its trial.
OF_TRIAL = ("model", "run_id", "trial_id", "candidate", "parameters", "seed", "round", "folds", "calibrate", "refit_of")


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Difference between the predictions of an ONNX model and of its estimator.

    For regression, of a value relative to its size or spread. Ties of probabilities are no label mismatches.
    """

    max_probability_difference: float
    label_mismatches: int
    rows: int
    passed: bool

    def describe(self, task: Task) -> str:
        """Return the difference as text, to follow ``differs from its estimator``."""
        largest = self.max_probability_difference
        if task == "regression":
            return f" by up to {largest:.2g} of a value's size, over {self.rows:,} rows"
        labels = f", with another label on {self.label_mismatches:,} of {self.rows:,} rows"
        return f" by up to {largest:.2g} in a probability{labels if self.label_mismatches else ''}"


ScalingMethod = Literal["none", "temperature", "platt", "beta"]


class ScalingReport(Record, frozen=True, kw_only=True):
    """Calibration of a trial's probabilities: ``softmax(weights * log(p) + bias)``, or ``none`` that pays.

    The log losses are those of ``rows`` outside the fit, calibrated by what other folds of them give, with the standard
    error of the gain.
    """

    method: ScalingMethod
    rows: int
    log_loss: float
    scaled_log_loss: float | None = None
    standard_error: float | None = None
    weights: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()


class EnsembleMember(Record, frozen=True, kw_only=True):
    """A trial whose recipe is a part of an ensemble, with its calibration, and the fits of it that are averaged."""

    trial_id: str
    weight: float
    candidate: str
    parameters: dict[str, Any]
    scaling: ScalingReport | None = None
    repeats: int = 1


class EnsembleReport(Record, frozen=True, kw_only=True):
    """Result of the search for an average of trials that is better than the best one, and its ``reason``.

    The losses are squared error or log loss of ``rows`` outside the fits: of the best trial, and of the average by
    weights that other folds of the rows chose, with the standard error of the difference. Without ``members`` the best
    trial stays alone.
    """

    rows: int
    reason: str
    loss: float | None = None
    ensemble_loss: float | None = None
    standard_error: float | None = None
    members: tuple[EnsembleMember, ...] = ()


class TrialRecord(Document, frozen=True, kw_only=True, eq=False):
    """The record of a trial; :func:`millrace.training.trial.reproduce_trial` trains the same model from it.

    ``prepared`` and ``artifacts`` have the SHA-256 of the files it read and wrote; ``rows`` are used of ``of_rows``, by
    split; ``metrics`` rank the trial: the mean over the folds, or with one fold the validation metrics.
    """

    model: str
    run_id: str
    trial_id: str
    candidate: str
    parameters: dict[str, Any]
    seed: int
    round: int
    rounds: int
    folds: int
    task: Task
    schema_version: int
    spec_revision: int | None
    dataset_ids: tuple[str, ...]
    prepared: dict[str, str]
    planned_rows: int | None
    rows: dict[str, int]
    of_rows: dict[str, int]
    sampled: bool
    metrics: dict[str, float]
    validation_metrics: dict[str, float]
    fold_metrics: tuple[dict[str, float], ...]
    parity: ParityReport
    warnings: tuple[str, ...]
    artifacts: dict[str, str]
    libraries: dict[str, str]
    code_version: str
    duration_seconds: float
    peak_memory_mb: float | None
    trained_at: datetime
    calibrate: bool = False
    #: Trials whose recipe this one fits on training and validation rows; metrics and scaling are theirs, of rows that
    #: their models have not seen.
    refit_of: tuple[str, ...] = ()
    iterations: int | None = None  # at which boosting stopped
    scaling: ScalingReport | None = None  # of classes, where the trial was to ``calibrate``
    ensemble: EnsembleReport | None = None  # of the trials of a search, where their winner is refitted
    repeats: int = 1  # fits of a network, each with a seed of its own, that the refit of a winner alone averages

    @property
    def final_parameters(self) -> dict[str, Any]:
        """The parameters of a fit on more rows, with a fixed number of iterations where boosting stopped early."""
        return fixed(self.parameters, self.iterations)

    @property
    def trial(self) -> Trial:
        """The trial as it was planned."""
        return Trial(rows=self.planned_rows, **{name: getattr(self, name) for name in OF_TRIAL})
