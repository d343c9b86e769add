"""A model that serves, and its traffic, in memory."""

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.data.reference import describe_reference
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.layout import captures_key, feedback_key, version_key
from millrace.monitoring.monitor import monitor_model
from millrace.names import CHAMPION
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import make_entry, make_version, point_alias
from tests.unit.monitoring.builders import CLASSES, SCHEMA, make_columns

START = datetime(2026, 5, 3, tzinfo=UTC)
MODEL = "churn"


def chance_of_yes(columns):
    """Probability of the class ``yes`` in truth and in the model: higher for older people."""
    age = np.nan_to_num(columns["age"], nan=40.0)
    return 1.0 / (1.0 + np.exp(-(age - 40.0) / 8.0))


def predict(columns):
    chance = chance_of_yes(columns)
    return ClassPredictions((chance >= 0.5).astype(np.int64), np.stack([1 - chance, chance], axis=1))


class Served:
    """A champion, its captures and its feedback."""

    def __init__(self, spec: ModelSpec | None = None, *, reference=True, profile=True) -> None:
        self.registry, self.data, self.models = MemoryRegistry(), MemoryObjectStore("data"), MemoryObjectStore("models")
        self.registry.put_spec(MODEL, spec or ModelSpec())
        self.rows = 0
        self.runs = 0
        self.publish_version(1, reference=reference, profile=profile)

    def publish_version(self, version, *, reference=True, profile=True, age_shift=0.0):
        created = make_version(version=version, model=MODEL)
        created = replace(created, created_at=START - timedelta(days=1))
        self.registry.put_version(created, make_entry(f"v{version}", MODEL, START))
        point_alias(self.registry, CHAMPION, version, MODEL, START)
        columns = make_columns(4_000, 99, age_shift=age_shift)
        draw = np.random.default_rng(7)
        outcomes = (draw.random(4_000) < chance_of_yes(columns)).astype(np.int64)
        reference_document = describe_reference(SCHEMA, columns | {"city": columns["city"].astype(np.str_)}, outcomes)
        predictions = predict(columns)
        kept = PredictionProfile(
            predictions=PredictionHistogram.count(predictions),
            outcomes=OutcomeHistogram.count(predictions, outcomes),
            estimate_errors={"accuracy": {"age": 0.02}, "roc_auc": {"age": 0.02}},
        )
        documents = {"signature.json": json.dumps({"schema": SCHEMA.to_dict()}).encode()}
        documents |= {"reference.json": reference_document.write()} if reference else {}
        documents |= {"prediction_profile.json": kept.write()} if profile else {}
        for name, document in documents.items():
            self.models.put(version_key(MODEL, version, name), document)

    def capture(self, hour, rows=400, *, version=1, name="", torn=False, flip=0.0, feedback=False, leave=(), **changes):
        """Rows of one hour, and their outcomes; ``hour`` counts from START."""
        begin = START + timedelta(hours=hour)
        columns = make_columns(rows, 1_000 + int(hour * 7) + rows, **changes)
        predictions = predict(columns)
        draw = np.random.default_rng(int(hour * 13) + 5)
        outcomes = (draw.random(rows) < chance_of_yes(columns)) ^ (draw.random(rows) < flip)
        captured = []
        for row in range(rows):
            features = {key: _plain(values[row]) for key, values in columns.items() if key not in leave}
            chance = float(predictions.probabilities[row, 1])
            captured.append(
                CapturedRow(
                    prediction_id=f"p{self.rows + row}-0",
                    request_id="r",
                    request_rows=1,
                    predicted_at=begin + timedelta(seconds=3_600 * row / rows),
                    model=MODEL,
                    version=version,
                    protocol="mlflow",
                    row_id=None,
                    sampling_rate=1.0,
                    features=features,
                    unknown=(),
                    omitted=0,
                    prediction={
                        "label": CLASSES[int(chance >= 0.5)],
                        "probabilities": {"no": 1 - chance, "yes": chance},
                    },
                )
            )
        body = gzip.compress("\n".join(row.to_line() for row in captured).encode())
        self.data.put(captures_key(MODEL, begin, name or f"part-{hour}"), body[: len(body) // 2] if torn else body)
        if feedback:
            self.report([row.prediction_id for row in captured], [CLASSES[int(one)] for one in outcomes], hour + 0.5)
        self.rows += rows
        return captured

    def report(self, prediction_ids, outcomes, hour, name=""):
        """Outcomes, received at ``hour``."""
        timestamp = START + timedelta(hours=hour)
        records = [
            FeedbackRecord(f"f-{identifier}-{outcome}-{hour}", MODEL, identifier, None, outcome, timestamp, timestamp)
            for identifier, outcome in zip(prediction_ids, outcomes, strict=True)
        ]
        body = "\n".join(record.to_line() for record in records).encode()
        self.data.put(feedback_key(MODEL, timestamp, name or f"feedback-{hour}"), body)

    def monitor(self, hour, **more):
        """One run of the monitor at ``hour``."""
        self.runs += 1
        return monitor_model(
            MODEL,
            registry=self.registry,
            data_store=self.data,
            model_store=self.models,
            serving=more.pop("serving", None),
            now=START + timedelta(hours=hour),
            token=more.pop("token", f"run{self.runs}"),
            **more,
        )


def _plain(value):
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    return value
