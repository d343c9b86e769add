"""MAPIE's intervals and sets from stored predictions: one JSON line for each request on standard input."""

import json
import sys

import numpy as np
from mapie.classification import SplitConformalClassifier
from mapie.regression import SplitConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin


class Stored(RegressorMixin, BaseEstimator):
    """A fitted regressor whose features are its predictions."""

    def fit(self, _rows, _target):
        """Do nothing."""
        return self

    def __sklearn_is_fitted__(self):
        """Return that it is."""
        return True

    def predict(self, rows):
        """Return the first column."""
        return rows[:, 0]


class StoredClasses(ClassifierMixin, Stored):
    """A fitted classifier whose features are its probabilities."""

    def __init__(self, classes=2):
        self.classes = classes
        self.classes_ = np.arange(classes)
        self.n_features_in_ = classes

    def predict_proba(self, rows):
        """Return the features, as probabilities that sum to one in float64."""
        return rows / rows.sum(axis=1, keepdims=True)

    def predict(self, rows):
        """Return the likeliest class."""
        return rows.argmax(axis=1)


def respond(request: dict) -> dict:
    """Calibrate on the first rows of each seed's order, and measure on the next."""
    stored = np.load(request["file"])
    predictions, target, groups = stored["predictions"].astype(np.float64), stored["target"], stored["groups"]
    levels, rows, tested = request["levels"], request["rows"], request["tested"]
    measured = []
    for seed in range(request["seeds"]):
        order = np.random.default_rng(seed).permutation(len(target))[: rows + tested]
        first, second = order[:rows], order[rows:]
        if predictions.ndim == 1:
            wide = predictions[:, None]
            tool = SplitConformalRegressor(Stored(), confidence_level=levels, conformity_score=request["score"])
            tool.conformalize(wide[first], target[first])
            ends = tool.predict_interval(wide[second])[1]
            truth = target[second, None]
            covered = (ends[:, 0] <= truth) & (truth <= ends[:, 1])
            sizes = (ends[:, 1] - ends[:, 0]).mean(axis=0)
        else:
            tool = SplitConformalClassifier(
                StoredClasses(predictions.shape[1]), confidence_level=levels, conformity_score=request["score"]
            )
            tool.conformalize(predictions[first], target[first])
            sets = tool.predict_set(predictions[second])[1]
            covered = sets[np.arange(tested), target[second]]
            sizes = sets.sum(axis=1).mean(axis=0)
        of_groups = [covered[groups[second] == group].mean(axis=0).tolist() for group in np.unique(groups)]
        measured.append({"coverage": covered.mean(axis=0).tolist(), "size": sizes.tolist(), "groups": of_groups})
    return {"measured": measured}


for line in sys.stdin:
    print(json.dumps(respond(json.loads(line))), flush=True)
