"""Calibration: whether what is called 30 % comes true three times in ten.

The expected calibration error is the mean distance of frequency and probability over ten cells of equal width (Naeini,
Cooper and Hauskrecht 2015, AAAI), for more than two classes the mean over the classes (Kull et al. 2019, NeurIPS).
Without any fault it is not 0 but about the sum of ``sqrt(2 p (1 - p) / (pi n))``; that is taken off. Whether it is
chance is asked of Hosmer and Lemeshow's statistic (1980, *Communications in Statistics* A9: 1043-1069), with a degree
for each cell, as for data not fitted on.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.monitoring.findings import Finding, too_few
from millrace.monitoring.tails import chi_square_tail
from millrace.sketches.outcomes import OutcomeSketch
from millrace.spec.monitoring import CalibrationWatch

CALIBRATION_CELLS = 10
_TWO = 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities and frequencies agree.

    Parameters
    ----------
    error, excess : float
        Expected calibration error, and what of it is more than chance gives.
    p_value : float
        Of Hosmer and Lemeshow's statistic; of the class that agrees least, times the number of classes.
    brier : float
        Mean squared difference of probability and outcome.
    """

    error: float
    excess: float
    p_value: float
    brier: float


def measure_calibration(sketch: OutcomeSketch) -> Calibration:
    """Return how a classifier's probabilities and the outcomes agree."""
    classes = range(1, _TWO) if len(sketch.confusion) == _TWO else range(len(sketch.confusion))
    parts = [_one_class(sketch, index) for index in classes]
    error, expected = (float(np.mean([part[place] for part in parts])) for place in (0, 1))
    p_value = min(1.0, min(part[2] for part in parts) * len(parts))
    rows = max(1, sketch.rows)
    return Calibration(error, max(0.0, error - expected), p_value, float(sketch.losses[2]) / rows)


def _one_class(sketch: OutcomeSketch, index: int) -> tuple[float, float, float]:
    totals, hits, sums = (_coarse(counts[index]) for counts in (sketch.totals, sketch.hits, sketch.probability_sums))
    used = totals > 0
    totals, hits, sums = totals[used], hits[used], sums[used]
    rows = max(1.0, float(totals.sum()))
    means = sums / totals
    variances = np.maximum(totals * means * (1.0 - means), 1e-9)
    error = float(np.abs(hits - sums).sum() / rows)
    expected = float(np.sqrt(2.0 * variances / np.pi).sum() / rows)
    # A cell in which hardly anything could come true otherwise has no normal limit to be judged by.
    judged = variances >= 1.0
    statistic = float(np.sum((hits - sums)[judged] ** 2 / variances[judged]))
    return error, expected, chi_square_tail(statistic, int(judged.sum()))


def _coarse(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.asarray(counts, dtype=np.float64).reshape(CALIBRATION_CELLS, -1).sum(axis=1))


def find_miscalibration(
    holdout: OutcomeSketch, present: OutcomeSketch, watch: CalibrationWatch, rate: float
) -> Finding:
    """Judge calibration against that on the holdout."""
    if present.rows < watch.min_rows:
        return too_few("calibration", "probabilities", present.rows, watch.min_rows, "outcomes")
    before, now = measure_calibration(holdout), measure_calibration(present)
    growth = now.excess - before.excess
    breach = growth >= watch.threshold and now.p_value <= rate
    state = "are no longer the frequencies" if breach else "agree with the frequencies"
    return Finding(
        verdict="calibration",
        subject="probabilities",
        status="breach" if breach else "ok",
        message=f"probabilities {state}: expected calibration error {before.error:.3f} on the holdout, {now.error:.3f} "
        f"on {present.rows:,} outcomes; Brier score {before.brier:.3f} → {now.brier:.3f}",
        measure="expected calibration error beyond chance",
        value=growth,
        threshold=watch.threshold,
        rows=present.rows,
        p_value=now.p_value,
        details={"before": before.error, "now": now.error, "brier_before": before.brier, "brier_now": now.brier},
    )
