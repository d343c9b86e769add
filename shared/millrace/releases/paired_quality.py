"""Quality of a candidate on the rows that both versions scored: tests by betting, and the guards of a replay.

The statistic of a row is the difference of two bounded losses, champion's less candidate's, between -1 and 1: above
zero the candidate is better. Two capital processes bet against "not worse than ``-margin``", whose growth rolls back,
and against "not better than ``-margin``", whose growth says that the candidate is safe (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", *Journal of the Royal Statistical Society B* 86, 2024: 1-27;
bets by aGRAPA, their section B.3). Each is a test supermartingale, so by Ville's inequality it exceeds ``1 / alpha`` at
any time with a probability of ``alpha`` at most, however often it is looked at. The bets of a row depend on earlier
rows alone; rows come in the order in which their ground truth arrived.

=============  ======================================================  ==============================
metric         loss of a row                                           1 stands for
=============  ======================================================  ==============================
``accuracy``   0 if the decision is right, else 1                      a wrong decision
``log_loss``   ``-ln max(p, 0.01)`` of the true class                  ``ln 100`` = 4.6 nats
``brier``      half the squared distance of the probabilities          the opposite, with certainty
``mae``        the absolute error, at most ``scale``                   ``scale``
``rmse``       the squared error, at most ``scale`` squared            ``scale`` squared
=============  ======================================================  ==============================

``scale`` is four times the champion's RMSE on its holdout: a normal error exceeds that once in 16,000 rows, and of any
distribution at most one in 16 does (Chebyshev). It is fixed before the first row is judged, as the theorem wants. A
narrower one cuts the differences that matter.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.catalogue import ACCURACY, BRIER, LOG_LOSS, RMSE
from millrace.releases.replay_evidence import PairedQuality, ReplayEvidence
from millrace.spec.data import LARGE_SHIFT
from millrace.spec.release import GuardName, GuardSpec

Floats = npt.NDArray[np.float64]

#: Least probability of the true class that a loss of classification is taken of.
LEAST_PROBABILITY = 0.01
#: A regression's errors count up to so many times the champion's RMSE on its holdout.
SCALE_OF_RMSE = 4.0
#: Default margin: a point of accuracy; of losses and errors, a twentieth of the champion's own.
MARGIN, RELATIVE_MARGIN = 0.01, 0.05
#: Default of the guard ``estimate``: as of monitoring's rule.
DROP = 0.05
#: Largest share of the capital that a bet may lose (the paper's ``c``).
_STAKE = 0.5
#: Means that an interval is searched among, and pairs that it is made of.
_GRID = 401
_MAX_INTERVAL_PAIRS = 50_000
_TWO = 2
#: Pairs without which nothing is said.
MIN_PAIRS = 20


def classification_losses(metric: str, outcomes: npt.NDArray[np.int64], decided: Any, probabilities: Floats) -> Floats:
    """Return each row's loss, from 0 to 1; see the table of the module.

    Parameters
    ----------
    outcomes, decided : arrays of shape (n_rows,)
        Indices of the true and of the decided class.
    probabilities : array of shape (n_rows, n_classes)
    """
    if metric == ACCURACY.name:
        return np.asarray(decided != outcomes, dtype=np.float64)
    rows = np.arange(len(outcomes))
    if metric == LOG_LOSS.name:
        kept = np.clip(probabilities[rows, outcomes].astype(np.float64), LEAST_PROBABILITY, 1.0)
        return np.asarray(np.log(kept) / math.log(LEAST_PROBABILITY))
    truth = np.zeros(probabilities.shape)
    truth[rows, outcomes] = 1.0
    return np.asarray(np.clip(((probabilities - truth) ** 2).sum(axis=1) / 2.0, 0.0, 1.0))


def regression_losses(metric: str, outcomes: Floats, values: Floats, scale: float) -> Floats:
    """Return each row's loss, from 0 to 1: the error as a share of ``scale``, squared for ``rmse``."""
    if scale <= 0.0:
        return np.asarray(values != outcomes, dtype=np.float64)
    share = np.minimum(np.abs(values - outcomes) / scale, 1.0)
    return share**2 if metric == RMSE.name else share


def loss_unit(metric: str, classes: int, scale: float) -> float:
    """Return a loss of 1 in the unit of a metric: of ``rmse``, in squared units."""
    halves = 1.0 if classes == _TWO else 2.0
    units = {ACCURACY.name: 1.0, LOG_LOSS.name: -math.log(LEAST_PROBABILITY), BRIER.name: halves}
    return units.get(metric, scale**2 if metric == RMSE.name else scale)


def log_wealth(differences: Floats, mean: float, *, is_above: bool) -> Floats:
    """Return the logarithm of the capital after each row.

    Parameters
    ----------
    differences : array of shape (n_rows,)
        Values between -1 and 1, in the order of the bets.
    mean : float
        The hypothesis is that their conditional mean is at most this, or at least this.
    is_above : bool
        True bets that the mean is above ``mean``; False, that it is below.
    """
    values, null = (differences + 1.0) / 2.0, (mean + 1.0) / 2.0
    rows = np.arange(1, len(values) + 1)
    means = (0.5 + np.cumsum(values)) / (rows + 1.0)
    variances = (0.25 + np.cumsum((values - means) ** 2)) / (rows + 1.0)
    before = np.concatenate([[0.5], means])[:-1]
    spread = np.concatenate([[0.25], variances])[:-1]
    sign = 1.0 if is_above else -1.0
    edge = sign * (before - null)
    limit = _STAKE / max(null if is_above else 1.0 - null, 1e-12)
    bets = np.clip(edge / (spread + edge**2), 0.0, limit)
    return np.asarray(np.cumsum(np.log1p(sign * bets * (values - null))))


def confidence_sequence(differences: Floats, alpha: float) -> tuple[float, float]:
    """Return an interval that holds the mean at all times together with a probability of ``1 - alpha`` at least.

    It holds the means that neither bet has refuted, each at ``alpha / 2``: on a grid of step 0.005, widened by a step.
    """
    if not len(differences):
        return -1.0, 1.0
    differences = differences[:_MAX_INTERVAL_PAIRS]
    grid = np.linspace(-1.0, 1.0, _GRID)
    step = float(grid[1] - grid[0])
    limit = math.log(2.0 / alpha)

    def is_kept(mean: float) -> bool:
        above, below = (log_wealth(differences, mean, is_above=side).max() for side in (True, False))
        return bool(max(above, below) < limit)

    middle = int(np.clip(round((float(differences.mean()) + 1.0) / step), 0, _GRID - 1))
    low = _last_kept(middle, 0, -1, grid, is_kept)
    high = _last_kept(middle, _GRID - 1, 1, grid, is_kept)
    return max(-1.0, float(grid[low]) - step), min(1.0, float(grid[high]) + step)


def _last_kept(begin: int, end: int, direction: int, grid: Floats, is_kept: Any) -> int:
    """Return the place farthest from ``begin`` that is kept, by bisection: farther means are refuted sooner."""
    inner, outer = 0, abs(end - begin)
    while inner < outer:
        middle = (inner + outer + 1) // 2
        if is_kept(float(grid[begin + direction * middle])):
            inner = middle
        else:
            outer = middle - 1
    return begin + direction * inner


def compare_losses(
    metric: str, champion: Floats, candidate: Floats, margin: float, *, alpha: float = 0.05, unit: float = 1.0
) -> PairedQuality:
    """Test the paired losses of labelled rows, in the order in which their ground truth arrived.

    Parameters
    ----------
    champion, candidate : arrays of shape (n_pairs,)
        Losses from 0 to 1.
    margin : float
        Tolerated loss of quality, in the losses' own unit.
    unit : float
        Of a loss of 1, for the numbers that people read.
    """
    differences = champion - candidate
    low, high = confidence_sequence(differences, alpha)
    worse, safe = (log_wealth(differences, -margin, is_above=side) for side in (False, True))
    pairs = len(differences)
    return PairedQuality(
        metric=metric,
        pairs=pairs,
        margin=margin * unit,
        champion_loss=float(champion.mean()) * unit if pairs else 0.0,
        candidate_loss=float(candidate.mean()) * unit if pairs else 0.0,
        gain=float(differences.mean()) * unit if pairs else 0.0,
        low=low * unit,
        high=high * unit,
        log_e_worse=float(worse[-1]) if pairs else 0.0,
        log_e_safe=float(safe[-1]) if pairs else 0.0,
    )


def find_worse_by_replay(
    evidence: ReplayEvidence, guards: Mapping[str, GuardSpec | None], alpha_share: float
) -> tuple[GuardName, dict[str, Any]] | None:
    """Return the guard by which a replay finds the candidate worse, and facts for the ledger; None where none does.

    Only labelled quality ends a release: shifts of outputs and estimates without ground truth hold it at most. A replay
    that is void is no evidence.

    Parameters
    ----------
    guards : mapping
        Those of the spec that are on, by name.
    alpha_share : float
        Probability at which this guard may be wrong: the release's, divided by the number of its guards.
    """
    quality = evidence.quality
    if "quality" not in guards or quality is None or evidence.status == "void":
        return None
    if quality.pairs < MIN_PAIRS or quality.log_e_worse < math.log(1.0 / alpha_share):
        return None
    details: dict[str, Any] = {"guard": "quality", "log_e": quality.log_e_worse, "metric": quality.metric}
    details |= {"pairs": quality.pairs, "gain": quality.gain, "margin": quality.margin}
    return "quality", details


def find_hold_by_replay(evidence: ReplayEvidence, guards: Mapping[str, GuardSpec | None]) -> str | None:
    """Return the reason for which a replay holds a release; None where it does not object."""
    if evidence.status == "void":
        return f"the replay is void: {evidence.reason}"
    output, estimate = guards.get("output"), guards.get("estimate")
    shift = (output.shift or LARGE_SHIFT) if output else None
    if shift is not None and evidence.output_shift is not None and evidence.output_shift >= shift:
        return f"the outputs shift: PSI {evidence.output_shift:.3f} beyond chance, {shift:g} is tolerated"
    drop, lost = (estimate.drop or DROP) if estimate else None, evidence.estimated_drop
    if drop is not None and lost is not None and lost >= drop:
        return f"without ground truth the candidate is estimated {lost:.3f} below the champion, {drop:g} is tolerated"
    return None
