"""Calibration of the winner's intervals or prediction sets, and their coverage of the holdout."""

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from millrace.conformal import ConformalCalibration, fit_classes, fit_regression
from millrace.evaluation.fairness import MAX_GROUPS, group_labels
from millrace.evaluation.slices import Columns, Slice
from millrace.evaluation_results import GroupCoverage, IntervalCoverage, MetricEstimate, PredictionIntervals
from millrace.metrics.bootstrap import wilson
from millrace.schema import TableSchema

Array = npt.NDArray[Any]
Source = Literal["validation", "out_of_fold"]
#: Kind and name of a part of the holdout, with its rows.
Part = tuple[Literal["slice", "group", "class", "prediction"], str, npt.NDArray[np.bool_]]

#: Levels measured on the whole holdout, and the one measured by group.
LEVELS, GROUP_LEVEL = (0.8, 0.9, 0.95), 0.9
#: Classes whose coverage is shown, the most frequent first.
MAX_CLASSES = 20
_THIRDS = ("lowest", "middle", "highest")


def calibrate(schema: TableSchema, target: Array, predictions: Array, seed: int) -> ConformalCalibration | None:
    """Calibrate on rows that the model was not fitted on; None where there are none, or a prediction is no number."""
    if not len(target) or not np.isfinite(predictions).all():
        return None
    if schema.task == "regression":
        return fit_regression(target, predictions, seed)
    return fit_classes(target, predictions)


def holdout_parts(
    schema: TableSchema,
    target: Array,
    predictions: Array,
    *,
    slices: Sequence[Slice],
    sensitive: Sequence[str],
    columns: Columns,
) -> Iterator[Part]:
    """Yield the parts of a holdout: slices, groups of sensitive columns, and classes or thirds of the predictions.

    Names show no value of a sensitive column.
    """
    for part in slices:
        yield "slice", part.name, part.mask(columns, len(target))
    for name in sensitive:
        if name in columns:
            column = schema.column(name)
            labels = group_labels(column, columns[name])
            names, counts = np.unique(labels, return_counts=True)
            for number, group in enumerate(names[np.argsort(-counts, kind="stable")][:MAX_GROUPS], start=1):
                yield "group", f"{name}: {f'group {number}' if column.sensitive else group}", labels == group
    if schema.task == "regression":
        thirds = np.searchsorted(np.quantile(predictions, [1 / 3, 2 / 3]), predictions)
        for position, third in enumerate(_THIRDS):
            yield "prediction", f"{third} third of the predictions", thirds == position
    else:
        counts = np.bincount(target, minlength=len(schema.classes))
        for index in np.sort(np.argsort(-counts, kind="stable")[:MAX_CLASSES]).tolist():
            yield "class", schema.class_names[index], target == index


def measure_coverage(
    calibration: ConformalCalibration,
    source: Source,
    target: Array,
    predictions: Array,
    parts: Iterator[Part],
    *,
    min_rows: int,
    confidence: float,
) -> PredictionIntervals:
    """Measure coverage and width on the holdout, whole and by part; parts of fewer than ``min_rows`` are left out."""
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)

    def measured(level: float, covered: Array, sizes: Array) -> dict[str, Any]:
        share = float(covered.mean())
        estimate = MetricEstimate(share, *wilson(share, len(covered), quantile))
        return {"level": level, "rows": len(covered), "covered": estimate, "size": float(sizes.mean())}

    levels, groups = [], []
    for level in (level for level in LEVELS if level <= calibration.greatest_level):
        covered, sizes = calibration.covered(predictions, target, level), _sizes(calibration, predictions, level)
        levels.append(IntervalCoverage(**measured(level, covered, sizes)))
        if level == GROUP_LEVEL:
            groups = [
                GroupCoverage(kind=kind, name=name, **measured(level, covered[inside], sizes[inside]))
                for kind, name, inside in parts
                if inside.sum() >= min_rows
            ]
    return PredictionIntervals(
        rows=calibration.rows,
        source=source,
        greatest_level=calibration.greatest_level,
        levels=tuple(levels),
        groups=tuple(groups),
    )


def _sizes(calibration: ConformalCalibration, predictions: Array, level: float) -> Array:
    """Return the width of each interval, or the number of classes in each set."""
    if calibration.method == "label":
        return np.asarray(calibration.sets(predictions, level).sum(axis=1))
    low, high = calibration.intervals(predictions, level)
    return np.asarray(high - low)
