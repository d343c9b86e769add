"""Fit the defaults of other libraries, and AutoGluon, on a table; runs in their environment, called by ``quality.py``.

    python run_rivals.py FOLDER SECONDS RIVAL...

``FOLDER`` holds ``table.npz`` and ``table.json``; predictions of the holdout and figures are written beside them. All
run on one thread, and are fitted on training and validation rows. Categories are given natively; a date becomes the
numbers that Millrace makes of one, but AutoGluon, which makes its own, gets it as it is.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: scikit-learn's boosting takes no more categories of a column.
MAX_HGB_CATEGORIES = 255
LATENCY_ROWS = 20

warnings.simplefilter("ignore")


class Table:
    """The table of a folder: frames of both parts and the target."""

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        with np.load(folder / "table.npz", allow_pickle=False) as arrays:
            self.target = arrays["target"]
            self.holdout = arrays["test"]
            self.fitted = np.concatenate([arrays["train"], arrays["validation"]])
            columns = {name: arrays[f"column_{number}"] for number, name in enumerate(self.about["columns"])}
        self.task, self.seed = self.about["task"], self.about["seed"]
        self.raw = pd.DataFrame({name: _series(values) for name, values in columns.items()})
        for name in self.categories:
            known = sorted(set(columns[name][self.fitted]) - {""})
            self.raw[name] = pd.Categorical(self.raw[name], categories=known)

    @property
    def categories(self) -> list[str]:
        """Names of the categorical columns."""
        return [name for name in self.about["columns"] if self.about["columns"][name] == "category"]

    def frames(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the rows to fit and the holdout, dates as numbers."""
        frame = self.raw.copy()
        for name, kind in self.about["columns"].items():
            if kind == "datetime":
                date = frame.pop(name)
                frame[f"{name} day"] = (date - pd.Timestamp("2000-01-01")) / pd.Timedelta(days=1)
                frame[f"{name} month"], frame[f"{name} weekday"] = date.dt.month, date.dt.weekday
                frame[f"{name} hour"] = date.dt.hour
        return frame.iloc[self.fitted], frame.iloc[self.holdout]


def _series(values: Any) -> Any:
    return pd.Series(values).replace("", None) if values.dtype.kind == "U" else pd.Series(values)


def _predict(model: Any, task: str, rows: Any) -> Any:
    return np.asarray(model.predict(rows) if task == "regression" else model.predict_proba(rows), dtype=np.float64)


def hist_gradient_boosting(table: Table) -> Any:
    """Fit scikit-learn's boosting by histograms."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    fitted, holdout = table.frames()
    for name in table.categories:
        if len(fitted[name].cat.categories) > MAX_HGB_CATEGORIES:
            fitted, holdout = (part.assign(**{name: part[name].cat.codes}) for part in (fitted, holdout))
    kind = HistGradientBoostingRegressor if table.task == "regression" else HistGradientBoostingClassifier
    model = kind(random_state=table.seed).fit(fitted, table.target[table.fitted])
    return _predict(model, table.task, holdout)


def lightgbm(table: Table) -> Any:
    """Fit LightGBM."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    fitted, holdout = table.frames()
    renamed = {name: f"c{number}" for number, name in enumerate(fitted.columns)}
    kind = LGBMRegressor if table.task == "regression" else LGBMClassifier
    model = kind(random_state=table.seed, n_jobs=1, verbose=-1)
    model.fit(fitted.rename(columns=renamed), table.target[table.fitted])
    return _predict(model, table.task, holdout.rename(columns=renamed))


def xgboost(table: Table) -> Any:
    """Fit XGBoost."""
    from xgboost import XGBClassifier, XGBRegressor

    fitted, holdout = table.frames()
    renamed = {name: f"c{number}" for number, name in enumerate(fitted.columns)}
    kind = XGBRegressor if table.task == "regression" else XGBClassifier
    model = kind(random_state=table.seed, n_jobs=1, enable_categorical=True)
    model.fit(fitted.rename(columns=renamed), table.target[table.fitted])
    return _predict(model, table.task, holdout.rename(columns=renamed))


def catboost(table: Table) -> Any:
    """Fit CatBoost."""
    from catboost import CatBoostClassifier, CatBoostRegressor

    fitted, holdout = table.frames()
    names = table.categories
    fitted, holdout = (
        part.assign(**{name: part[name].astype(object).where(part[name].notna(), "") for name in names})
        for part in (fitted, holdout)
    )
    kind = CatBoostRegressor if table.task == "regression" else CatBoostClassifier
    model = kind(random_seed=table.seed, thread_count=1, verbose=0, allow_writing_files=False, cat_features=names)
    model.fit(fitted, table.target[table.fitted])
    return _predict(model, table.task, holdout)


def autogluon(table: Table, seconds: float, folder: Path) -> tuple[Any, dict[str, float]]:
    """Fit AutoGluon's default search within so many seconds."""
    from autogluon.tabular import TabularPredictor

    frame = table.raw.assign(**{"the target": table.target})
    kinds = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "root_mean_squared_error"}
    predictor = TabularPredictor(
        "the target",
        problem_type=table.task,
        eval_metric=kinds[table.task],
        path=str(folder / "autogluon"),
        verbosity=0,
    )
    predictor.fit(frame.iloc[table.fitted], time_limit=seconds, num_cpus=1, **table.about["autogluon"])
    holdout = frame.iloc[table.holdout].drop(columns="the target")
    times = []
    for row in range(LATENCY_ROWS):
        began = time.perf_counter()
        predictor.predict(holdout.iloc[row : row + 1])
        times.append(time.perf_counter() - began)
    figures = {"latency": float(np.median(times)), "bytes": float(predictor.disk_usage())}
    if table.task == "regression":
        return predictor.predict(holdout).to_numpy(np.float64), figures
    shares = predictor.predict_proba(holdout)
    predictions = np.zeros((len(holdout), table.about["classes"]))
    predictions[:, [int(name) for name in shares.columns]] = shares.to_numpy()
    return predictions, figures


def main() -> None:
    """Fit each rival that is named."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    table = Table(folder)
    predictions, figures = {}, {}
    for name in sys.argv[3:]:
        began, worked = time.perf_counter(), time.process_time()
        extra: dict[str, float] = {}
        try:
            if name == "autogluon":
                predictions[name], extra = autogluon(table, seconds, folder)
            else:
                predictions[name] = globals()[name](table)
        except Exception as error:  # noqa: BLE001 - a rival that fails is a result
            figures[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
            continue
        figures[name] = {"wall": time.perf_counter() - began, "processor": time.process_time() - worked, **extra}
    np.savez(folder / "predictions.npz", **predictions)
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
