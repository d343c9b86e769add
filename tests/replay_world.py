"""A model with real versions, captures as serving writes them, and replays of them, in memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from millrace.captures.records import CapturedRow, FeedbackRecord, expand_line, find_line
from millrace.data.reference import describe_reference
from millrace.evaluation.analysis import profile_predictions
from millrace.layout import replay_key, version_key
from millrace.manifest import Manifest
from millrace.replay.replay_documents import ReplayReport
from millrace.replay.replay_requests import request_replay
from millrace.replay.replay_run import ReplayRun, ReplayStores, replay_captures
from millrace.schema import TableSchema
from millrace.serving.capture import CaptureWriter
from millrace.serving.model import LoadedModel, load_version
from millrace.serving.request import PredictionRequest, RecordsTable
from millrace.serving.rows import RowReader
from millrace.serving.scoring import Prediction, score
from millrace.spec import ModelSpec

from tests.captured_rows import store_feedback, store_rows
from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, NOW, make_entry, make_version, point_alias
from tests.serving_models import sha256, version_artifacts

REPLAY = "20260503T141500-0f3a9c2b7d1e"


class ReplayWorld:
    """Captures begin a day before ``NOW``, and follow each other after ``gap``."""

    gap = timedelta(minutes=7)

    def __init__(self, **spec: Any) -> None:
        self.registry, self.events = MemoryRegistry(), MemoryEvents()
        self.data, self.models = MemoryObjectStore("data"), MemoryObjectStore("models")
        self.registry.put_spec(MODEL, ModelSpec.model_validate(spec))
        self.rows: list[CapturedRow] = []
        self.loaded: dict[int, LoadedModel] = {}
        self.requests = 0

    def register(self, number: int, onnx: bytes, schema: TableSchema, **signature: Any) -> None:
        """Register a version whole; the first is the champion."""
        artifacts = version_artifacts(onnx, schema, **signature)
        version = replace(make_version(number), task=schema.task)
        artifacts["manifest.json"] = Manifest.of(version, artifacts, None).write()
        for name, body in artifacts.items():
            self.models.put(version_key(MODEL, number, name), body)
        version = replace(version, manifest_sha256=sha256(artifacts["manifest.json"]))
        self.registry.put_version(version, make_entry(f"version-{number}-registered"))
        if number == 1:
            point_alias(self.registry, "champion", 1)

    def profile(self, number: int, records: Sequence[Mapping[str, Any]], noise: float = 0.0) -> None:
        """Store a version's training data and holdout, with outcomes as probable as it says; ``noise`` of values."""
        loaded, generator = self.load(number), np.random.default_rng(number)
        rows = RowReader(loaded.schema).read(RecordsTable(list(records)))
        typed = rows.columns.items()
        columns = {name: one.astype(np.str_) if one.dtype.kind == "O" else one for name, one in typed}
        outputs = loaded.onnx.run(rows.features(0, rows.n_rows))
        if loaded.schema.classes:
            sums = outputs.astype(np.float64).cumsum(axis=1)
            target = np.minimum((sums < generator.random((len(sums), 1))).sum(axis=1), sums.shape[1] - 1)
        else:
            target = outputs + generator.normal(0.0, noise, len(outputs))
        described = describe_reference(loaded.schema, columns, target)
        profile = profile_predictions(
            loaded.schema, outputs, target, train_target=target, threshold=None, groups={}, columns=columns
        )
        self.models.put(version_key(MODEL, number, "reference.json"), described.write())
        if profile is not None:
            self.models.put(version_key(MODEL, number, "prediction_profile.json"), profile.write())

    def load(self, number: int) -> LoadedModel:
        """Load a version as serving does."""
        if number not in self.loaded:
            self.loaded[number] = load_version(self, MODEL, number)  # type: ignore[arg-type]  # it reads no alias
        return self.loaded[number]

    def manifest_sha256(self, model: str, version: int) -> str:
        return self.registry.get_version(model, version).manifest_sha256

    def artifact(self, model: str, version: int, name: str) -> bytes:
        return self.models.get(version_key(model, version, name))

    def serve(self, records: Iterable[Mapping[str, Any]], version: int = 1, **changes: Any) -> list[CapturedRow]:
        """Serve one request and capture it; returns its rows."""
        loaded, at = self.load(version), NOW - timedelta(days=1) + self.gap * self.requests
        self.requests += 1
        request = PredictionRequest(RecordsTable(list(records)))
        rows = RowReader(loaded.schema).read(request.table)
        prediction = Prediction(loaded, request, rows, score(loaded, rows), f"p-{self.requests}")
        lines = CaptureWriter(loaded).lines(prediction, "mlflow", f"r-{self.requests}", at)
        captured = [row for line in lines for row in expand_line(find_line(line) or {})]
        if changes:
            captured = [CapturedRow(**{**_fields(row), **changes}) for row in captured]
        self.rows += captured
        return captured

    def report_outcomes(self, outcomes: Mapping[str, str | float], after: timedelta = timedelta(hours=1)) -> None:
        """Report ground truth by prediction id."""
        at = NOW - timedelta(days=1) + after
        records = [
            FeedbackRecord(f"f{place}", MODEL, name, None, outcome, at, at, position=place)
            for place, (name, outcome) in enumerate(outcomes.items())
        ]
        store_feedback(self.data, records, f"f{after.total_seconds():.0f}")

    def replay(
        self, candidate: int = 2, since: str | None = "2d", replay_id: str = REPLAY, now: datetime = NOW
    ) -> ReplayReport:
        """Request a replay, and let the function work until it is finished."""
        store_rows(self.data, self.rows)
        self.request(candidate, since, replay_id, now)
        while self.run(replay_id, now=now).outcome == "more":
            pass
        return self.report(replay_id)

    def request(
        self, candidate: int = 2, since: str | None = "2d", replay_id: str = REPLAY, now: datetime = NOW
    ) -> dict[str, Any]:
        return request_replay(
            MODEL,
            candidate,
            since,
            replay_id=replay_id,
            caller="ann",
            registry=self.registry,
            data_store=self.data,
            publisher=self.events,
            now=now,
        )

    def run(
        self,
        replay_id: str = REPLAY,
        *,
        now: datetime = NOW,
        token: str = "t",  # noqa: S107 - part of a name
        remaining_seconds: Callable[[], float] = lambda: float("inf"),
    ) -> ReplayRun:
        stores = ReplayStores(self.registry, self.registry.store, self.data, self.models)
        return replay_captures(
            MODEL,
            replay_id,
            stores=stores,
            publisher=self.events,
            now=now,
            token=token,
            remaining_seconds=remaining_seconds,
        )

    def report(self, replay_id: str = REPLAY) -> ReplayReport:
        return ReplayReport.read(self.data.get(replay_key(MODEL, replay_id, "report.json")))


def _fields(row: CapturedRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__}
