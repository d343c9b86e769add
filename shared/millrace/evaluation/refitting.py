"""Fitting the winner's recipe once more on fewer rows; nothing of it is stored or served."""

import warnings
from collections.abc import Mapping

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.registry.entities import Trial
from millrace.schema import TableSchema
from millrace.training.candidates import get_candidate
from millrace.training.export import predict_estimator
from millrace.training.fitting import MAX_THREADS
from millrace.training.metrics import compute_metrics
from millrace.training.preprocessing import FeatureTable


def refit(
    trial: Trial, schema: TableSchema, train: PreparedSplit, splits: list[PreparedSplit]
) -> list[Mapping[str, float]]:
    """Fit a trial's recipe on ``train`` and measure it on each of ``splits``.

    The estimator itself is measured, without export: parity was proved for the trial.
    """
    pipeline = get_candidate(trial.candidate, schema.task).build(
        schema.task, train.features, trial.parameters, trial.seed
    )
    with threadpool_limits(MAX_THREADS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the trial's record has the warnings of fitting
        pipeline.fit(FeatureTable(train.features), train.target)
        return [
            compute_metrics(schema.task, split.target, predict_estimator(pipeline, split.features, schema.task))
            for split in splits
        ]
