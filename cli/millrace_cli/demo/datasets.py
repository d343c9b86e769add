"""The two tables of the demonstration, each split into what is uploaded and what is held back."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer

from millrace_cli.demo.churn import TARGET as CHURN_TARGET
from millrace_cli.demo.churn import ChurnTable, add_malformed, generate_churn

SEED = 7
CHURN_ROWS = 4_000
CHURN_HELD_BACK = 400
CHURN_MALFORMED = 240
BREAST_CANCER_HELD_BACK = 0.2


@dataclass(frozen=True, slots=True)
class DemoDataset:
    """One table.

    Parameters
    ----------
    upload : Path
        What the model is trained on.
    held_back : Path
        Rows that the stack never sees with their truth: the features alone.
    truth : list of str
        The held-back rows' target, as text.
    positive : str
        The class whose probability is measured.
    target : str or None
        The target column to name when uploading; None lets the stack find it.
    """

    model: str
    title: str
    upload: Path
    held_back: Path
    truth: list[str]
    positive: str
    target: str | None = None


def make_datasets(folder: Path) -> list[DemoDataset]:
    """Write both tables under ``folder``; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    return [make_breast_cancer(folder), make_churn(folder)]


def make_breast_cancer(folder: Path) -> DemoDataset:
    """Write the Wisconsin diagnostic table that scikit-learn ships: 569 tumours, 30 measurements."""
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
        title="scikit-learn's breast cancer table: 30 numbers, target found by its name",
        upload=upload,
        held_back=features,
        truth=[labels[index] for index in held_back],
        positive="malignant",
    )


def make_churn(folder: Path) -> DemoDataset:
    """Write the made-up customers: every kind of column, missing values, malformed rows."""
    table = generate_churn(CHURN_ROWS + CHURN_HELD_BACK, SEED)
    held_back, uploaded = table.rows[:CHURN_HELD_BACK], table.rows[CHURN_HELD_BACK:]
    upload, features = folder / "churn.csv", folder / "churn_held_back.csv"
    add_malformed(ChurnTable(table.header, uploaded), CHURN_MALFORMED, SEED).write(upload)
    ChurnTable(table.header[:-1], [row[:-1] for row in held_back]).write(features)
    return DemoDataset(
        model="churn",
        title=f"generated customers: dates, categories, booleans, gaps, {CHURN_MALFORMED} malformed rows",
        upload=upload,
        held_back=features,
        truth=[row[-1] for row in held_back],
        positive="yes",
        target=CHURN_TARGET,
    )


def count_rows(path: Path) -> int:
    """Return how many rows a CSV file holds, without its header."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1
