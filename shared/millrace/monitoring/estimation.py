"""An estimate of quality without labels, from the model's own confidence.

Confidence-based performance estimation: where probabilities are calibrated, the expected confusion matrix follows from
them alone (Guillory et al. 2021, *Predicting with Confidence on Unseen Distributions*; NannyML's CBPE). Probabilities
are first calibrated by what the holdout showed of each cell. It sees what a shift of the inputs does to a model, and
nothing of a changed relation between inputs and outcome: for that there must be labels.

Of a regression there is no confidence. What can be expected of its errors is what they were on the holdout where the
same values were predicted (direct loss estimation with the predicted value as its one feature; NannyML's DLE takes all
of them). It sees that a model is asked more often where it errs more, as with prices, whose errors grow with them.
"""

import numpy as np

from millrace.monitoring.performance import Estimate, Floats, area_under_curve, proportion
from millrace.sketches.cells import NumberCells
from millrace.sketches.outcomes import OutcomeSketch
from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.tables import ColumnSketch
from millrace.sketches.values import ErrorsByValue

#: Rows' weight of a cell's own probability beside what the holdout showed.
_PRIOR_ROWS = 10.0
_TWO = 2


def calibration_map(holdout: OutcomeSketch) -> Floats:
    """Return, by class and cell of probability, how often the class came true, leaning on the probability itself."""
    classes, cells = holdout.totals.shape
    middles = np.tile((np.arange(cells) + 0.5) / cells, (classes, 1))
    means = np.divide(holdout.probability_sums, holdout.totals, out=middles, where=holdout.totals > 0)
    return np.asarray((holdout.hits + _PRIOR_ROWS * means) / (holdout.totals + _PRIOR_ROWS))


def estimate_quality(answers: AnswerSketch, calibrated: Floats) -> dict[str, Estimate]:
    """Return the metrics to be expected of answers: accuracy, and for two classes the areas, F1 and losses.

    Parameters
    ----------
    calibrated : float64 array of shape (n_classes, n_cells)
        From :func:`calibration_map`.
    """
    rows = answers.rows
    if not rows:
        return {}
    right = answers.decided * calibrated
    hits = float(right.sum())
    expected = {"accuracy": Estimate(hits / rows, proportion(round(hits), rows).error, rows)}
    if len(answers.decided) != _TWO:
        return expected
    chance, counts = calibrated[1], answers.probabilities[1].astype(np.float64)
    expected["roc_auc"] = area_under_curve(counts * chance, counts * (1.0 - chance))
    true_positives = float(right[1].sum())
    union = float(answers.decided[1].sum() + answers.decided[0].sum() - right[0].sum())
    if union > 0:
        part = true_positives / union
        error = 2.0 / (1.0 + part) ** 2 * proportion(round(true_positives), max(1, round(union))).error
        expected["f1"] = Estimate(2.0 * part / (1.0 + part), error, rows)
    cells = len(chance)
    stated = (np.arange(cells) + 0.5) / cells
    losses = {
        "log_loss": -(chance * np.log(stated) + (1.0 - chance) * np.log(1.0 - stated)),
        "brier": chance * (1.0 - stated) ** 2 + (1.0 - chance) * stated**2,
    }
    for name, loss in losses.items():
        mean = float(np.sum(counts * loss) / rows)
        deviation = float(np.sqrt(np.sum(counts * (loss - mean) ** 2) / rows))
        expected[name] = Estimate(mean, max(deviation, mean) / np.sqrt(rows), rows)
    return expected


def estimate_errors(answers: ColumnSketch, errors: ErrorsByValue, cells: NumberCells) -> dict[str, Estimate]:
    """Return the errors to be expected of a regression's answers: mean absolute error and root mean squared error.

    Parameters
    ----------
    answers : ColumnSketch
        In the target's cells.
    errors : ErrorsByValue
        Of the holdout, in the same cells. Values beyond all that it had are taken for those at its end.
    """
    counts = cells.coarse(answers.counts)
    rows, holdout = float(counts.sum()), np.stack([cells.coarse(kind) for kind in errors.sums])
    if not rows or not holdout[0].sum():
        return {}
    overall = holdout.sum(axis=1) / holdout[0].sum()
    # A cell that the holdout hardly had leans on all of it.
    means = (holdout + _PRIOR_ROWS * overall[:, np.newaxis]) / (holdout[0] + _PRIOR_ROWS)
    absolute, square = (float(np.sum(counts * mean) / rows) for mean in means[1:])
    if square <= 0.0:
        return {}
    root = float(np.sqrt(square))
    error = float(np.sqrt(max(0.0, square - absolute**2) / rows))
    # Of squares of normal errors the deviation is sqrt(2) times the mean.
    return {
        "mae": Estimate(absolute, error, int(rows)),
        "rmse": Estimate(root, float(np.sqrt(2.0 / rows)) * square / (2.0 * root), int(rows)),
    }
