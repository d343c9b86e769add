"""A run's uploads become datasets, verdicts and prepared splits."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from millrace.contracts import ValidationVerdict
from millrace.data.prepared import PreparedSplit, load_split
from millrace.data.validation import validate_run
from millrace.layout import SPLITS, split_key
from millrace.names import make_cause_id, make_run_id
from millrace.registry.entities import Cause, LedgerEntry, Run, Source

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry

NOW = datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
MODEL = "churn"


class Workshop:
    """A model with its bucket and registry, to which files are uploaded and runs are made."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.store = MemoryObjectStore()
        self.uploads = 0

    def upload(self, name: str, body: bytes | str, **metadata: str) -> Source:
        self.uploads += 1
        key = f"incoming/{MODEL}/{name}"
        content = body.encode() if isinstance(body, str) else body
        version_id = self.store.upload(key, content, metadata)
        return Source("bucket", key, version_id, NOW + timedelta(minutes=self.uploads))

    def run(self, *sources: Source, now: datetime = NOW) -> Run:
        cause = Cause(
            make_cause_id(*(source.key + source.version_id for source in sources), str(now)), MODEL, "upload", now
        )
        run = Run(MODEL, make_run_id(cause.cause_id, now), (cause.cause_id,), "upload", now, sources)
        self.registry.claim_cause(cause, run, LedgerEntry(MODEL, cause.cause_id, now, "test", "", ""))
        return run

    def validate(self, *sources: Source, now: datetime = NOW) -> tuple[Run, ValidationVerdict]:
        run = self.run(*sources, now=now)
        verdict = validate_run(run, registry=self.registry, data_store=self.store, now=now)
        finished = self.registry.get_run(MODEL, run.run_id)
        self.registry.release_run(MODEL, run.run_id, None, None)
        return finished, verdict

    def splits(self, run: Run) -> dict[str, PreparedSplit]:
        return {name: load_split(self.store.get(split_key(MODEL, run.run_id, name))) for name in SPLITS}

    def json(self, key: str) -> dict:
        return json.loads(self.store.get(key))

    def only_json(self, prefix: str, name: str) -> dict:
        (key,) = [key for key in self.store.keys(prefix) if key.endswith("/" + name)]
        return self.json(key)


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def churn_csv(rows: int = 60, first: int = 0, header: str = "age,plan,churned,label") -> str:
    plans = ("basic", "plus", "pro")
    lines = [
        f"{20 + row * 7 % 60}.{row},{plans[row % 3]},{('yes', 'no')[row % 2]},{row % 2}"
        for row in range(first, first + rows)
    ]
    return "\n".join((header, *lines)) + "\n"


def test_an_upload_for_a_new_model_becomes_a_dataset_and_three_splits(workshop):
    run, verdict = workshop.validate(workshop.upload("churn.csv", churn_csv()))

    assert verdict.outcome == "accepted"
    assert verdict.rows == 60
    (dataset,) = workshop.registry.list_datasets(MODEL)
    assert verdict.dataset_ids == [dataset.dataset_id] == list(run.dataset_ids)
    assert (dataset.rows, dataset.schema_version, dataset.quarantined_rows) == (60, 1, 0)
    names = [key.rsplit("/", 1)[1] for key in workshop.store.keys(f"datasets/{MODEL}/{dataset.dataset_id}/")]
    assert names == ["data.parquet", "manifest.json", "profile.json", "validation.json"]
    splits = workshop.splits(run)
    assert sum(len(split) for split in splits.values()) == 60
    for split in splits.values():
        assert set(split.target.tolist()) == {0, 1}
        assert split.features.numbers.dtype == np.float32
    assert (run.status, run.stage, run.started_at) == ("running", "validating", NOW)
    assert run.summary["features"] == {"number": 1, "category": 1, "boolean": 1}
