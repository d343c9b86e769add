"""Example tables of the demonstration, each split into an upload and held-back rows, and their scores."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from millrace_cli.demo.churn import TARGET as CHURN_TARGET
from millrace_cli.demo.churn import ChurnTable, add_malformed, generate_churn

SEED = 7
CHURN_ROWS = 4_000
CHURN_HELD_BACK = 400
CHURN_MALFORMED = 240
BREAST_CANCER_HELD_BACK = 0.2
#: ROC AUC of random predictions.
CHANCE_AUC = 0.5


@dataclass(frozen=True, slots=True)
class DemoDataset:
    """Example table.

    Parameters
    ----------
    upload : Path
        Training table.
    held_back : Path
        Features of rows that the stack never receives with their labels.
    truth : list of str
        Labels of the held-back rows.
    positive : str
        The class whose ROC AUC is computed.
    target : str or None
        Target column to name in the upload; None lets the stack infer it.
    """

    model: str
    title: str
    upload: Path
    held_back: Path
    truth: list[str]
    positive: str
    target: str | None = None


def make_datasets(folder: Path) -> list[DemoDataset]:
    """Write both tables under ``folder``, deterministically."""
    folder.mkdir(parents=True, exist_ok=True)
    return [make_breast_cancer(folder), make_churn(folder)]


def make_breast_cancer(folder: Path) -> DemoDataset:
    """Write scikit-learn's Wisconsin diagnostic table: 569 tumours, 30 measurements."""
    table = load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in table.feature_names]
    labels = [str(table.target_names[index]) for index in table.target]
    rows = [[repr(float(value)) for value in row] for row in table.data]
    order = np.random.default_rng(SEED).permutation(len(rows))
    cut = int(len(rows) * BREAST_CANCER_HELD_BACK)
    held_back, uploaded = order[:cut], order[cut:]
    upload, features = folder / "breast_cancer.csv", folder / "breast_cancer_held_back.csv"
    ChurnTable((*names, "target"), [[*rows[index], labels[index]] for index in uploaded]).write(upload)
    ChurnTable(tuple(names), [rows[index] for index in held_back]).write(features)
    return DemoDataset(
        model="breast-cancer",
        title="scikit-learn's breast cancer table: 30 numeric features, target inferred from its name",
        upload=upload,
        held_back=features,
        truth=[labels[index] for index in held_back],
        positive="malignant",
    )


def make_churn(folder: Path) -> DemoDataset:
    """Write the generated customers: every type of column, missing values, malformed rows."""
    table = generate_churn(CHURN_ROWS + CHURN_HELD_BACK, SEED)
    held_back, uploaded = table.rows[:CHURN_HELD_BACK], table.rows[CHURN_HELD_BACK:]
    upload, features = folder / "churn.csv", folder / "churn_held_back.csv"
    add_malformed(ChurnTable(table.header, uploaded), CHURN_MALFORMED, SEED).write(upload)
    ChurnTable(table.header[:-1], [row[:-1] for row in held_back]).write(features)
    return DemoDataset(
        model="churn",
        title=f"generated customers: dates, categories, booleans, missing values, {CHURN_MALFORMED} malformed rows",
        upload=upload,
        held_back=features,
        truth=[row[-1] for row in held_back],
        positive="yes",
        target=CHURN_TARGET,
    )


def count_rows(path: Path) -> int:
    """Count the rows of a CSV file, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


@dataclass(frozen=True, slots=True)
class PredictionScore:
    """Score of served predictions on held-back rows.

    Parameters
    ----------
    accuracy : float
        Share of correct labels.
    majority : float
        Accuracy of always predicting the majority class.
    roc_auc : float
        Area under the ROC curve of the positive class.
    """

    rows: int
    accuracy: float
    majority: float
    roc_auc: float

    @property
    def beats_majority(self) -> bool:
        """True when labels and ranking are better than always predicting the majority class."""
        return self.accuracy > self.majority and self.roc_auc > CHANCE_AUC


def score_predictions(predictions: Sequence[Mapping[str, Any]], truth: Sequence[str], positive: str) -> PredictionScore:
    """Score predictions against ground truth.

    Parameters
    ----------
    predictions : sequence of mapping
        ``label`` and ``probabilities`` by class of each row, as in the API's response.
    truth : sequence of str
        True labels.
    positive : str
        The class whose probability ranks the rows.

    Raises
    ------
    ValueError
        When the lengths differ.
    """
    labels = np.array([str(prediction["label"]) for prediction in predictions])
    expected = np.array(truth)
    if len(labels) != len(expected):
        raise ValueError(f"{len(labels)} predictions for {len(expected)} rows")
    probabilities = np.array([float(prediction["probabilities"][positive]) for prediction in predictions])
    is_positive = expected == positive
    return PredictionScore(
        rows=len(expected),
        accuracy=float(np.mean(labels == expected)),
        majority=float(max(np.mean(is_positive), 1 - np.mean(is_positive))),
        roc_auc=float(roc_auc_score(is_positive, probabilities)),
    )
