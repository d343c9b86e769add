"""Measure how long a changed mix of real rows takes to be told: adults, of whom more or fewer have a degree.

    python benchmarks/monitoring/real_mix.py --adults adults.parquet
    python benchmarks/monitoring/real_mix.py --adults adults.parquet --graduates 0 --days 30      # false alarms
    python benchmarks/monitoring/real_mix.py --adults adults.parquet --quiet-days 21 --days 3

The table is the census's (Becker and Kohavi 1996, *Adult*, UCI Machine Learning Repository). 5,000 rows are the
training data, 2,000 the holdout, and every hour draws from the others. After two (or ``--quiet-days``) quiet days, rows
are drawn so that a given share of them has a degree (0 changes nothing).
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "shared")]

from millrace.data.reference import describe_reference
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import Reference
from millrace.monitoring.context import MonitoredVersion
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec
from production import MonitoredStream
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

START = datetime(2026, 5, 4, tzinfo=UTC)
TARGET = "class"
DEGREES = ("Bachelors", "Masters", "Doctorate", "Prof-school")
TRAINING_ROWS, HOLDOUT_ROWS = 5_000, 2_000


class Adults:
    """The table, a model of some of its rows, and streams of the others."""

    def __init__(self, path: Path, seed: int) -> None:
        frame = pd.read_parquet(path).sample(frac=1.0, random_state=seed, ignore_index=True)
        features = frame.drop(columns=TARGET)
        words = [name for name in features if not pd.api.types.is_numeric_dtype(features[name])]
        features[words] = features[words].astype(object).where(features[words].notna(), "")
        classes, outcomes = np.unique(frame[TARGET].astype(str), return_inverse=True)
        training = slice(0, TRAINING_ROWS)
        holdout = slice(TRAINING_ROWS, TRAINING_ROWS + HOLDOUT_ROWS)
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, max_categories=200)
        model = make_pipeline(
            make_column_transformer((encoder, words), remainder="passthrough"),
            HistGradientBoostingClassifier(random_state=seed),
        ).fit(features[training], outcomes[training])
        self.predictions = model.predict_proba(features)
        self.outcomes = outcomes
        self.columns = {name: features[name].to_numpy(object if name in words else np.float64) for name in features}
        columns = [
            Column(name, "category", categories=tuple(sorted(set(features[name][training]) - {""})))
            if name in words
            else Column(name, "integer")
            for name in features
        ]
        target = Column(TARGET, "category", role="target", categories=tuple(classes))
        self.schema = TableSchema(columns=(*columns, target), task="binary", classes=tuple(classes))
        typed = {
            name: values[training].astype(np.str_) if name in words else values[training]
            for name, values in self.columns.items()
        }
        reference = Reference.build(describe_reference(self.schema, typed, outcomes[training]), self.schema)
        predictions = self.predict(np.arange(len(frame))[holdout])
        profile = PredictionProfile(
            predictions=PredictionHistogram.count(predictions),
            outcomes=OutcomeHistogram.count(predictions, outcomes[holdout]),
        )
        self.monitored = MonitoredVersion("binary", tuple(classes), reference, profile, "roc_auc")
        rest = np.arange(holdout.stop, len(frame))
        has_degree = features["education"].isin(DEGREES).to_numpy()[rest]
        self.graduates, self.others, self.rest = rest[has_degree], rest[~has_degree], rest

    def predict(self, rows: np.ndarray) -> ClassPredictions:
        """Return the predictions of some rows."""
        probabilities = self.predictions[rows]
        return ClassPredictions(probabilities.argmax(axis=1), probabilities)

    def draw(self, generator: np.random.Generator, rate: int, share: float) -> np.ndarray:
        """Draw rows of an hour; a share of 0 leaves the mix as it is."""
        if not share:
            return generator.choice(self.rest, rate)
        graduates = generator.binomial(rate, share)
        return np.concatenate(
            [generator.choice(self.graduates, graduates), generator.choice(self.others, rate - graduates)]
        )


def first_alert(
    adults: Adults, rate: int, share: float, hours: tuple[int, int], seed: int
) -> tuple[int | None, str, int]:
    """Return after how many hours the inputs' or predictions' shift was told and of what, and the alerts before."""
    quiet, changed = hours  # Without and with the change
    stream = MonitoredStream(adults.schema, adults.monitored, ModelSpec(), START)
    generator, before = np.random.default_rng((seed, 3)), 0
    for hour in range(quiet + changed):
        rows = adults.draw(generator, rate, share if hour >= quiet else 0.0)
        columns = {name: values[rows] for name, values in adults.columns.items()}
        stream.serve(hour, columns, adults.predict(rows), adults.outcomes[rows])
        stream.label(hour)
        for _, transitions in stream.monitor(hour):
            for one in transitions:
                if one.step != "opened":
                    continue
                if share and hour >= quiet and one.incident.event == "DriftDetected":
                    return hour + 1 - quiet, ", ".join(list(one.incident.findings)[:3]), before
                before += 1
    return None, "", before


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adults", type=Path, required=True)
    parser.add_argument("--graduates", type=float, nargs="+", default=[0.32, 0.40])
    parser.add_argument("--rows-per-hour", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--quiet-days", type=int, default=2)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    print(
        "| graduates | rows an hour | seed | told after, hours | by | alerts without a change |\n"
        "|---|---|---|---|---|---|"
    )
    for seed in range(chosen.seeds):
        adults = Adults(chosen.adults, seed)
        for share in chosen.graduates:
            for rate in chosen.rows_per_hour:
                told, subjects, others = first_alert(
                    adults, rate, share, (24 * chosen.quiet_days, 24 * chosen.days), seed
                )
                print(
                    f"| {share or 'as before'} | {rate} | {seed} | {told or 'never'} | {subjects} | {others} |",
                    flush=True,
                )
