"""What hashed words are worth against a vocabulary of the commonest, and what a text costs a prediction.

    python benchmarks/training/texts.py

Texts are generated: 20 words of 5,000 whose frequencies follow Zipf's law; 60 of the rarer ones, drawn anew for each
table, carry the signal. Areas under the curve are means over tables.
"""

import argparse
import statistics
import timeit
import warnings
from collections.abc import Callable
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
from millrace.features import build_features, fill_token_counts
from millrace.schema import Column, TableSchema
from millrace.serving.explain import Explainer, choose_background
from millrace.serving.model import OnnxModel
from millrace.serving.request import RecordsTable
from millrace.serving.rows import RowReader
from millrace.training.candidates import get_candidate
from millrace.training.export import export_onnx
from millrace.training.preprocessing import FeatureTable
from millrace.training.search_space import SEARCH_SPACES
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

WORDS = 5_000
LENGTH = 20
HOLDOUT = 3_000
#: A word of fewer training rows is in no vocabulary.
LEAST_ROWS = 5
CALLS = 2_000
REPEATS = 5

Matrix = npt.NDArray[np.float32]


def generate(rows: int, seed: int = 0) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
    """Return word numbers of shape (rows, LENGTH), outcomes, and the best possible area under the curve."""
    shares = 1 / np.arange(1, WORDS + 1)
    rng = np.random.default_rng(seed)
    weights = np.zeros(WORDS)
    weights[rng.choice(np.arange(20, 800), 60, replace=False)] = rng.choice([-2.0, 2.0], 60)
    texts = rng.choice(WORDS, size=(rows, LENGTH), p=shares / shares.sum())
    signal = weights[texts].sum(axis=1)
    outcomes = (rng.random(rows) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    return texts, outcomes, float(roc_auc_score(outcomes[-HOLDOUT:], signal[-HOLDOUT:]))


def commonest(texts: npt.NDArray[np.int64], width: int) -> Matrix:
    """Count the words whose presence varies most over the training rows."""
    train = texts[:-HOLDOUT]
    present = np.zeros(WORDS)
    for row in train:
        present[np.unique(row)] += 1
    share = present / len(train)
    chosen = np.argsort(-share * (1 - share))[:width]
    chosen = chosen[present[chosen] >= LEAST_ROWS]
    place = np.full(WORDS, len(chosen))
    place[chosen] = np.arange(len(chosen))
    return _counted(place[texts], np.ones_like(texts), len(chosen) + 1)[:, :-1]


def hashed(texts: npt.NDArray[np.int64], width: int) -> Matrix:
    """Hash the words as the product does."""
    matrix = np.empty((len(texts), 1 + width), dtype=np.float32)
    fill_token_counts(matrix, (" ".join(f"w{word}" for word in row) for row in texts.tolist()))
    return matrix


def hashed_unsigned(texts: npt.NDArray[np.int64], width: int) -> Matrix:
    """Hash the words, without a sign."""
    place = np.array([crc32(f"w{word}".encode()) % width for word in range(WORDS)])
    return _counted(place[texts], np.ones_like(texts), width)


def _counted(places: npt.NDArray[np.int64], values: npt.NDArray[np.int64], width: int) -> Matrix:
    matrix = np.zeros((len(places), width), dtype=np.float32)
    for column in range(places.shape[1]):
        np.add.at(matrix, (np.arange(len(places)), places[:, column]), values[:, column])
    return matrix


def areas(matrix: Matrix, outcomes: npt.NDArray[np.int64]) -> list[float]:
    """Return the holdout's area under the curve of a linear model and of boosting."""
    models = (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)),
        HistGradientBoostingClassifier(learning_rate=0.05, max_iter=150, max_leaf_nodes=15, l2_regularization=1),
    )
    found = []
    for model in models:
        model.fit(matrix[:-HOLDOUT], outcomes[:-HOLDOUT])
        found.append(float(roc_auc_score(outcomes[-HOLDOUT:], model.predict_proba(matrix[-HOLDOUT:])[:, 1])))
    return found


def show_quality(sizes: list[int], tables: int) -> None:
    """Print the table of columns that stand for a text."""
    kinds: list[tuple[str, Callable[[npt.NDArray[np.int64], int], Matrix], int]] = [
        ("the 200 commonest words", commonest, 200),
        ("256 hashed, all counts positive", hashed_unsigned, 256),
        ("256 hashed, signed", hashed, 256),
        ("512 hashed, all counts positive", hashed_unsigned, 512),
        ("512 hashed, signed", hashed, 512),
    ]
    drawn = [[generate(rows + HOLDOUT, seed) for seed in range(tables)] for rows in sizes]
    print("| columns | " + " | ".join(f"{rows:,} rows" for rows in sizes) + " |")
    print("|---|" + "---|" * len(sizes))
    for name, build, width in kinds:
        cells = [np.mean([areas(build(texts, width), y) for texts, y, _ in same], axis=0) for same in drawn]
        shown = [", ".join(f"{value:.3f}" for value in cell) for cell in cells]
        print(f"| {name} | {' | '.join(shown)} |", flush=True)
    print(f"| the best possible | {' | '.join(f'{np.mean([best for *_, best in same]):.3f}' for same in drawn)} |")


def show_cost() -> None:
    """Print what one row with a text takes, against the same row without."""
    texts, outcomes, _ = generate(HOLDOUT)
    rng = np.random.default_rng(1)
    columns: dict[str, npt.NDArray[Any]] = {
        "age": rng.normal(size=HOLDOUT),
        "visits": rng.normal(size=HOLDOUT),
        "plan": rng.choice(np.array(["a", "b"], dtype=object), HOLDOUT),
        "text": np.array([" ".join(f"w{word}" for word in row) for row in texts.tolist()], dtype=object),
    }
    plain = (Column("age", "number"), Column("visits", "number"), Column("plan", "category"))
    target = Column("y", "category", "target")
    print("\n| candidate | one row with a text of 20 words, against one without | one explanation |")
    print("|---|---|---|")
    for name in ("logistic_regression", "hist_gradient_boosting", "neural_network"):
        taken = [
            _times(name, TableSchema((*some, target), "binary", ("n", "y")), columns, outcomes)
            for some in (plain, (*plain, Column("text", "text")))
        ]
        (row, explained), (row_with, explained_with) = taken
        print(f"| {name} | {row_with / row:.1f}x, {row_with:.3f} ms | {explained_with / explained:.1f}x |", flush=True)


def _times(
    name: str, schema: TableSchema, columns: dict[str, npt.NDArray[Any]], outcomes: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return milliseconds of reading and scoring one row, and of explaining it."""
    features = build_features(schema, columns, HOLDOUT)
    space = next(one for one in SEARCH_SPACES if one.candidate == name)
    pipeline = get_candidate(name, "binary").build("binary", features, {**space.fixed, **space.first}, 0)
    model = OnnxModel.load(export_onnx(pipeline.fit(FeatureTable(features), outcomes), features, "binary"), schema)
    reader = RowReader(schema)
    record = [{column.name: columns[column.name].tolist()[0] for column in schema.features}]
    explainer = Explainer(schema, choose_background(schema, features, 0))
    row = reader.read(RecordsTable(record)).features(0, 1)

    def score() -> Any:
        return model.run(reader.read(RecordsTable(record)).features(0, 1))

    def explain() -> Any:
        return explainer.explain(row, lambda rows: model.run(rows)[:, 1])

    scored = statistics.median(timeit.repeat(score, number=CALLS, repeat=REPEATS)) / CALLS
    explained = statistics.median(timeit.repeat(explain, number=5, repeat=REPEATS)) / 5
    return 1_000 * scored, 1_000 * explained


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[1_500, 10_000], help="training rows")
    parser.add_argument("--tables", type=int, default=5, help="of each size")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        show_quality(arguments.rows, arguments.tables)
        show_cost()


if __name__ == "__main__":
    main()
