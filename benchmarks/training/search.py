"""Compare the model that a run selects with the best that scikit-learn's own search finds with the same budget.

    python benchmarks/training/search.py

Both get the same rows, and as many fits: a run with its default number of trials, and, for each of scikit-learn's own
estimators that have a search space here, a ``RandomizedSearchCV`` with that number of draws shared among them. The best
of each side by cross-validation is measured on the same holdout, and the difference by a paired bootstrap.
"""

import argparse
import platform
import warnings
from datetime import UTC, datetime
from typing import Any

import numpy as np
from millrace.data.dataset_documents import PreparedManifest
from millrace.data.prepared import PreparedSplit
from millrace.entities import Run, Trial
from millrace.metrics.bootstrap import bootstrap
from millrace.metrics.catalogue import Metric, get_metric
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.fitting import FittedTrial, fit_trial
from millrace.training.planning import plan_search
from millrace.training.search_plan import TrainingCapacity
from scipy import stats
from sklearn import ensemble, linear_model, model_selection, neighbors, neural_network, pipeline, preprocessing
from sklearn.exceptions import ConvergenceWarning
from tables import Table, make_tables
from threadpoolctl import threadpool_limits

SCORING = {"binary": "roc_auc", "multiclass": "neg_log_loss", "regression": "neg_root_mean_squared_error"}
NOW = datetime(2026, 5, 3, tzinfo=UTC)
CAPACITY = TrainingCapacity(memory_mb=3_008, concurrency=10, large_data="sample", account_executions=1_000)
CONFIDENCE = 0.95
RESAMPLES_SEED = 0


def prepared_manifest(table: Table) -> PreparedManifest:
    """Describe a table's splits, as ``validate_dataset`` does; a search needs no more of the manifest."""
    splits = {name: table.splits[name] for name in ("train", "validation")}
    fields: dict[str, Any] = dict.fromkeys(PreparedManifest.__struct_fields__)
    fields["rows"] = {name: len(split) for name, split in splits.items()}
    fields["bytes"] = {name: split.nbytes for name, split in splits.items()}
    classes = range(len(table.schema.classes))
    fields["class_counts"] = {
        name: {table.schema.classes[one]: int(np.sum(split.target == one)) for one in classes}
        for name, split in splits.items()
    }
    return PreparedManifest(**fields)


def plan(table: Table, spec: ModelSpec | None = None) -> list[Trial]:
    """Plan a run's trials, as ``plan_training`` does."""
    run = Run("benchmark", "20260503T000000-000000000000", (), "manual", NOW)
    spec, prepared = spec or ModelSpec(), prepared_manifest(table)
    return plan_search(run, table.schema, spec, prepared=prepared, capacity=CAPACITY, now=NOW)[1]


def selected(table: Table, trials: list[Trial], metric: Metric) -> tuple[Trial, FittedTrial]:
    """Fit every trial and return the best."""
    train, validation = table.splits["train"], table.splits["validation"]
    fitted = [(trial, fit_trial(trial, table.schema, train, validation)) for trial in trials]
    return min(fitted, key=lambda pair: metric.gain(0.0, pair[1].metrics[metric.name]))


def searches(table: Table, budget: int) -> list[Any]:
    """Return scikit-learn's searches of the same families, ``budget`` draws in all."""
    is_number = table.schema.task == "regression"
    scaled: list[Any] = [
        (linear_model.Ridge(), {"alpha": stats.loguniform(1e-3, 1e3)})
        if is_number
        else (linear_model.LogisticRegression(max_iter=1000), {"C": stats.loguniform(1e-3, 1e2)}),
        (
            neural_network.MLPRegressor(max_iter=200) if is_number else neural_network.MLPClassifier(max_iter=200),
            {"hidden_layer_sizes": [(16,), (32,), (64,), (32, 16)], "alpha": stats.loguniform(1e-5, 1)},
        ),
        (
            neighbors.KNeighborsRegressor() if is_number else neighbors.KNeighborsClassifier(),
            {"n_neighbors": stats.randint(3, 51)},
        ),
    ]
    trees: list[Any] = [
        (
            ensemble.HistGradientBoostingRegressor() if is_number else ensemble.HistGradientBoostingClassifier(),
            {
                "learning_rate": stats.loguniform(0.02, 0.3),
                "max_iter": stats.randint(50, 301),
                "max_leaf_nodes": stats.randint(5, 64),
                "min_samples_leaf": stats.randint(5, 101),
            },
        ),
        *(
            (kind(n_estimators=100), {"max_depth": stats.randint(4, 25), "min_samples_leaf": stats.randint(1, 31)})
            for kind in (
                (ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor)
                if is_number
                else (ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier)
            )
        ),
    ]
    steps = [(pipeline.make_pipeline(preprocessing.StandardScaler(), model), grid) for model, grid in scaled] + [
        (pipeline.make_pipeline(model), grid) for model, grid in trees
    ]
    draws = [budget // len(steps) + (position < budget % len(steps)) for position in range(len(steps))]
    return [
        (model, {f"{model.steps[-1][0]}__{name}": values for name, values in grid.items()}, count)
        for (model, grid), count in zip(steps, draws, strict=True)
    ]


def best_of_search(table: Table, budget: int, folds: int) -> tuple[str, Any]:
    """Run scikit-learn's searches on training and validation rows together; return the best, fitted as ours is."""
    train, validation = table.splits["train"], table.splits["validation"]
    rows = np.concatenate([train.features.numbers, validation.features.numbers])
    target = np.concatenate([train.target, validation.target])
    found = []
    for model, grid, draws in searches(table, budget):
        if not draws:
            continue
        search = model_selection.RandomizedSearchCV(
            model, grid, n_iter=draws, scoring=SCORING[table.schema.task], cv=folds, random_state=0, refit=False
        )
        search.fit(rows, target)
        found.append((search.best_score_, type(model.steps[-1][1]).__name__, model.set_params(**search.best_params_)))
    _, name, best = max(found, key=lambda entry: entry[0])
    return name, best.fit(train.features.numbers, train.target)


def predictions_of(model: Any, split: PreparedSplit, task: str) -> Any:
    """Return probabilities, or values."""
    return (
        model.predict(split.features.numbers) if task == "regression" else model.predict_proba(split.features.numbers)
    )


def difference(table: Table, metric: Metric, ours: Any, theirs: Any) -> tuple[float, float, float, float]:
    """Return both values and the interval of what ours gains, over the same draws of the holdout."""
    holdout = table.splits["test"]
    samples, values = [], []
    for predictions in (ours, theirs):
        measured = metric.statistic(holdout.target, predictions)
        samples.append(bootstrap({metric.name: measured}, len(holdout), seed=RESAMPLES_SEED)[metric.name])
        values.append(float(measured(np.ones((1, len(holdout))))[0]))
    gains = metric.gain(1, 0) * (samples[0] - samples[1])
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(gains, [tail, 1 - tail])
    return values[0], values[1], float(low), float(high)


def measure(table: Table) -> str:
    """Return a table's line."""
    metric = get_metric(table.schema.task, None)
    trials = plan(table)
    with threadpool_limits(1):
        trial, fitted = selected(table, trials, metric)
        name, theirs = best_of_search(table, len(trials), max(2, trials[0].folds))
    holdout = table.splits["test"]
    ours = OnnxModel.load(fitted.onnx_bytes, table.schema).run(holdout.features)
    value, other, low, high = difference(table, metric, ours, predictions_of(theirs, holdout, table.schema.task))
    optimum = f"{table.optimum:.4g}" if table.optimum is not None else "-"
    verdict = "same" if low <= 0 <= high else ("better" if low > 0 else "**worse**")
    return (
        f"| {table.name} | {metric.name} | {trial.candidate} {value:.4g} | {name} {other:.4g}"
        f" | {low:+.4f} to {high:+.4f} | {verdict} | {optimum} |"
    )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", help="names of tables; default: all")
    wanted = parser.parse_args().tables
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.simplefilter("ignore", UserWarning)
    print(f"{platform.machine()}, Python {platform.python_version()}\n")
    print("| table | metric | selected by a run | best of scikit-learn's search | gain, 95 % | | known optimum |")
    print("|---|---|---|---|---|---|---|")
    for table in make_tables():
        if not wanted or table.name in wanted:
            print(measure(table), flush=True)


if __name__ == "__main__":
    main()
