"""Split-conformal calibration: coverage of exchangeable rows, documents, refusals."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace import conformal
from millrace.conformal import ConformalCalibration, fit_classes, fit_regression
from millrace.errors import InvalidInputError

LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99)


def uneven_rows(rng, rows):
    """Return true and predicted values whose errors grow with the prediction."""
    predictions = rng.gamma(2.0, 3.0, rows)
    return predictions + rng.normal(size=rows) * (0.2 + predictions), predictions


def labelled_rows(rng, rows, classes=3):
    shares = rng.dirichlet(np.ones(classes), rows)
    return (shares.cumsum(axis=1) > rng.random(rows)[:, None]).argmax(axis=1), shares


@pytest.mark.parametrize("rows", [200, 1_000, 5_000])
@pytest.mark.parametrize("scaled", [True, False])
def test_intervals_cover_the_share_of_their_level(rows, scaled):
    """The mean over calibrations; one of 200 rows varies by two points by nature."""
    rng = np.random.default_rng(7)
    new_target, new_predictions = uneven_rows(rng, 20_000)
    fitted = [fit_regression(*uneven_rows(rng, rows), seed, scaled=scaled) for seed in range(30)]
    for level in LEVELS[1:4]:
        covered = np.mean([one.covered(new_predictions, new_target, level).mean() for one in fitted])
        assert covered == pytest.approx(level, abs=0.015)


@pytest.mark.parametrize("rows", [200, 1_000])
def test_sets_cover_the_share_of_their_level(rows):
    rng = np.random.default_rng(7)
    new_target, new_shares = labelled_rows(rng, 20_000)
    fitted = [fit_classes(*labelled_rows(rng, rows)) for _ in range(30)]
    for level in LEVELS[1:4]:
        covered = np.mean([one.covered(new_shares, new_target, level).mean() for one in fitted])
        assert covered == pytest.approx(level, abs=0.015)


def test_a_scale_covers_small_and_large_predictions_alike():
    rng = np.random.default_rng(3)
    target, predictions = uneven_rows(rng, 20_000)
    small = predictions < np.quantile(predictions, 1 / 3)
    by_scale = {}
    for scaled in (True, False):
        covered = fit_regression(*uneven_rows(rng, 2_000), 0, scaled=scaled).covered(predictions, target, 0.9)
        by_scale[scaled] = covered[small].mean(), covered[~small].mean()
    assert by_scale[True] == pytest.approx((0.9, 0.9), abs=0.03)
    assert by_scale[False][0] > 0.99


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1e12, allow_subnormal=False), min_size=1, max_size=60),
    repeated=st.sampled_from([1, 2, 90]),
    level=st.floats(0.5, 0.99),
)
def test_the_stored_quantile_is_never_below_the_exact_one(scores, repeated, level):
    """And hardly above it: the ranks kept of many rows cost 0.2 points, the digits one part in 100,000."""
    scores = np.sort(np.repeat(scores, repeated))
    rows = len(scores)
    calibration = fit_regression(scores, np.zeros(rows), 0)
    rank = math.ceil((rows + 1) * level - 1e-9 * rows)
    if rank > rows:
        with pytest.raises(InvalidInputError, match=f"{rows} calibration row"):
            calibration.quantile(level)
        return
    quantile = calibration.quantile(level)
    assert scores[rank - 1] <= quantile <= scores[min(rows - 1, rank - 1 + math.ceil(rows * 0.002))] * (1 + 1.1e-5)
    assert ConformalCalibration.from_document(json.loads(json.dumps(calibration.to_document()))).quantile(level) == (
        quantile
    )


@settings(max_examples=60, deadline=None)
@given(start=st.sampled_from([0.999, 9.9998, 1.0]) | st.floats(1e-6, 1e6), step=st.floats(1e-9, 3e-6))
def test_scores_that_hardly_differ_stay_in_order(start, step):
    """Rounding up must not move a score past its neighbour: a document out of order is not read."""
    scores = start * (1.0 + step * np.arange(200))
    document = fit_regression(scores, np.zeros(200), 0, scaled=False).to_document()
    assert document["scores"] == sorted(document["scores"])
    assert ConformalCalibration.from_document(document).to_document() == document


@pytest.mark.parametrize("rows", [150, 900, 30_000])
def test_quantiles_ascend_with_the_level_and_documents_stay_small(rows):
    rng = np.random.default_rng(1)
    for calibration in (fit_regression(*uneven_rows(rng, rows), 0), fit_classes(*labelled_rows(rng, rows))):
        quantiles = [calibration.quantile(level) for level in np.linspace(0.5, 0.99, 50)]
        assert quantiles == sorted(quantiles)
        document = calibration.to_document()
        assert len(json.dumps({"confidence": document}, indent=2)) < 20_000
        read = ConformalCalibration.from_document(json.loads(json.dumps(document)))
        assert read.to_document() == document


def test_sets_hold_the_likeliest_class_always_and_grow_with_the_level():
    rng = np.random.default_rng(5)
    target = rng.integers(0, 3, 500)
    calibration = fit_classes(target, np.eye(3)[target] * 0.97 + 0.01)
    shares = rng.dirichlet(np.ones(3), 200)
    inside = [calibration.sets(shares, level) for level in LEVELS]
    assert all((sets[np.arange(200), shares.argmax(axis=1)]).all() for sets in inside)
    assert all((smaller <= larger).all() for smaller, larger in pairwise(inside))
    assert inside[2].sum(axis=1).max() == 1  # the model is nearly perfect


def test_rows_at_the_edge_of_an_interval_are_covered_and_ties_count_once():
    calibration = fit_regression(np.array([1.0] * 19), np.zeros(19), 0)
    assert calibration.quantile(0.95) == pytest.approx(1.0)
    assert calibration.covered([0.0, 0.0], [1.0, -1.0], 0.95).all()
    assert fit_regression(np.zeros(19), np.zeros(19), 0).quantile(0.95) == 0.0


@pytest.mark.parametrize(("level", "rows"), [(0.49, 500), (0.999, 5_000), (float("nan"), 500)])
def test_levels_out_of_range_are_refused(level, rows):
    with pytest.raises(InvalidInputError, match=r"between 0\.5 and 0\.99"):
        fit_regression(np.arange(rows), np.zeros(rows), 0).quantile(level)


@pytest.mark.parametrize(("rows", "greatest"), [(1, 0.5), (18, 0.947), (19, 0.95), (98, 0.989), (99, 0.99)])
def test_the_refusal_of_a_level_names_the_greatest_that_is_possible(rows, greatest):
    calibration = fit_regression(np.arange(rows), np.zeros(rows), 0)
    assert calibration.greatest_level == greatest
    assert calibration.quantile(greatest) >= 0.0
    if greatest < conformal.MAX_LEVEL:
        with pytest.raises(InvalidInputError, match=f"at most {greatest}"):
            calibration.quantile(greatest + 0.001)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(wrong):
    with pytest.raises(InvalidInputError, match="finite"):
        fit_regression([1.0, wrong], [1.0, 2.0], 0)
    with pytest.raises(InvalidInputError, match="finite"):
        fit_regression([1.0, 2.0], [wrong, 2.0], 0)
    with pytest.raises(InvalidInputError, match="finite"):
        fit_classes([0, 1], [[0.5, 0.5], [wrong, 0.5]])
    for fit in (lambda: fit_regression([], [], 0), lambda: fit_classes([], np.empty((0, 2)))):
        with pytest.raises(InvalidInputError, match="needs rows"):
            fit()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"method": "other"},
        {"scores": [2.0, 1.0]},
        {"scores": [1.0, float("nan")]},
        {"ranks": [1, 3]},
        {"ranks": [2, 2]},
        {"ranks": [2]},
        {"scores": [], "ranks": []},
        {"scale": {"edges": [1.0], "values": [1.0]}},
        {"scale": {"edges": [1.0], "values": [1.0, 0.0]}},
        {"scale": {"edges": [2.0, 1.0], "values": [1.0, 1.0, 1.0]}},
    ],
)
def test_damaged_documents_are_refused(change):
    document = {"format": 1, "rows": 2, "method": "absolute_residual", "scores": [1.0, 2.0], "ranks": [1, 2]}
    assert ConformalCalibration.from_document(document).quantile(0.5) == 2.0
    with pytest.raises(ValueError, match="confidence"):
        ConformalCalibration.from_document(document | change)
