"""Permutation importance: the loss of a metric when one column is shuffled (Breiman, "Random Forests", 2001).

The ONNX model that serves is measured, on holdout rows. A date is one column although the model has four numbers of it,
and so is a text with all its tokens. Columns with the same information share their importance.
"""

from collections.abc import Callable

import numpy as np

from millrace.data.prepared import PreparedSplit
from millrace.evaluation_results import FeatureImportance, ImportanceResult
from millrace.features import FeatureMatrix
from millrace.metrics.bootstrap import FloatArray, draw_weights, percentile_interval
from millrace.metrics.catalogue import METRICS, Metric
from millrace.schema import TableSchema
from millrace.serving.explain import column_groups
from millrace.serving.model import OnnxModel

#: Holdout rows that are shuffled, shuffles of each column, and bootstrap draws of the rows.
MAX_SHUFFLED_ROWS = 1_000
REPEATS = 5
RESAMPLES = 200
#: Columns are shuffled again until so many seconds have passed since the first shuffle; a wide table has fewer repeats.
REPEATED_SECONDS = 1.0


def permutation_importance(
    model: OnnxModel,
    holdout: PreparedSplit,
    metric: Metric,
    *,
    confidence: float,
    seed: int,
    seconds: float,
    clock: Callable[[], float],
) -> ImportanceResult:
    """Shuffle every column in turn, and again for a few seconds; columns that ``seconds`` was too short for are named.

    Where ``metric`` is not defined on the rows, the task's first metric that always is takes its place.
    """
    generator = np.random.default_rng(seed)
    rows = holdout
    if len(holdout) > MAX_SHUFFLED_ROWS:
        rows = holdout.take(np.sort(generator.choice(len(holdout), MAX_SHUFFLED_ROWS, replace=False)))
    weights = np.concatenate([np.ones((1, len(rows))), *draw_weights(len(rows), RESAMPLES, seed)])
    predictions = model.run(rows.features)
    present = metric.statistic(rows.target, predictions)(weights)
    if not np.isfinite(present[0]):
        metric = next(other for other in METRICS[model.schema.task] if other.always_defined)
        present = metric.statistic(rows.target, predictions)(weights)
    names = [column.name for column in model.schema.features]
    losses: dict[str, list[FloatArray]] = {name: [] for name in names}
    begun = clock()
    for number, name in enumerate(names * REPEATS):
        if clock() - begun >= (seconds if number < len(names) else min(seconds, REPEATED_SECONDS)):
            break
        shuffled = _shuffle(rows.features, model.schema, name, generator)
        after = metric.statistic(rows.target, model.run(shuffled))(weights)
        losses[name].append(present - after if metric.greater_is_better else after - present)
    measured = [_summarise(name, repeats, confidence) for name, repeats in losses.items() if repeats]
    known = sorted((one for one in measured if one is not None), key=lambda one: (-one.value, one.name))
    done = {one.name for one in known}
    return ImportanceResult(metric.name, len(rows), tuple(known), tuple(name for name in names if name not in done))


def _summarise(name: str, repeats: list[FloatArray], confidence: float) -> FeatureImportance | None:
    mean = np.mean(repeats, axis=0)
    if not np.isfinite(mean[0]):
        return None
    interval = percentile_interval(mean[1:], confidence)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return FeatureImportance(float(mean[0]), low, high, name=name, repeats=len(repeats))


def _shuffle(features: FeatureMatrix, schema: TableSchema, name: str, generator: np.random.Generator) -> FeatureMatrix:
    order = generator.permutation(len(features))
    place = [column.name for column in schema.features].index(name)
    own_numbers, own_strings = (np.flatnonzero(groups == place) for groups in column_groups(schema))
    numbers, strings = features.numbers, features.strings
    if len(own_strings):
        strings = strings.copy()
        strings[:, own_strings] = strings[np.ix_(order, own_strings)]
    else:
        numbers = numbers.copy()
        numbers[:, own_numbers] = numbers[np.ix_(order, own_numbers)]
    return FeatureMatrix(numbers, strings)
