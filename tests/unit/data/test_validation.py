"""A run's uploads become datasets, verdicts and prepared splits."""

import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import millrace
import numpy as np
import pytest
from millrace.contracts import ValidationVerdict
from millrace.data import ingest
from millrace.data.dataset import upload_id
from millrace.data.ingest import validate_run
from millrace.data.prepared import PreparedSplit, load_split
from millrace.data.read import DEFAULT_LIMITS, UploadLimits
from millrace.entities import Cause, LedgerEntry, Run, Source
from millrace.errors import ModelDeletedError, ServiceUnavailableError
from millrace.hashing import hash_strings
from millrace.layout import SPLITS, prepared_key, split_key
from millrace.names import make_cause_id, make_run_id
from millrace.registry.transactions import DeleteModel, RegistryTransaction
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

from tests.captured_rows import make_feedback, make_row, store_feedback, store_rows
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
        self.latest_run = ""

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

    def validate(
        self, *sources: Source, now: datetime = NOW, limits: UploadLimits = DEFAULT_LIMITS
    ) -> tuple[Run, ValidationVerdict]:
        run = self.run(*sources, now=now)
        self.latest_run = run.run_id
        verdict = validate_run(run, registry=self.registry, data_store=self.store, now=now, limits=limits)
        finished = self.registry.get_run(MODEL, run.run_id)
        self.registry.release_run(MODEL, run.run_id, None, None)
        return finished, verdict

    def splits(self, run: Run) -> dict[str, PreparedSplit]:
        return {name: load_split(self.store.get(split_key(MODEL, run.run_id, name))) for name in SPLITS}

    def contents(self) -> dict[str, bytes]:
        keys = self.store.keys()
        return {key: self.store.get(key) for key in keys}

    def json(self, key: str) -> dict:
        return json.loads(self.store.get(key))

    def only_json(self, prefix: str, name: str) -> dict:
        (key,) = [key for key in self.store.keys(prefix) if not name or key.endswith("/" + name)]
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
    assert names == ["data.parquet", "manifest.json", "profile.json", "report.html", "validation.json"]
    splits = workshop.splits(run)
    assert sum(len(split) for split in splits.values()) == 60
    for split in splits.values():
        assert set(split.target.tolist()) == {0, 1}
        assert split.features.numbers.dtype == np.float32
    assert (run.status, run.stage, run.started_at) == ("running", "validating", NOW)
    assert run.summary["features"] == {"number": 1, "category": 1, "boolean": 1}


class TestAModelThatWasDeleted:
    @staticmethod
    def delete(workshop, minutes):
        now = NOW + timedelta(minutes=minutes)
        state = workshop.registry.get_state(MODEL)
        entry = LedgerEntry(MODEL, f"deleted-{minutes}", now, "ann", "model_deleted", "not needed")
        workshop.registry.commit(RegistryTransaction(entry, state.revision, (DeleteModel(),)))

    def test_its_run_is_refused_before_it_reads_anything(self, workshop):
        run = workshop.run(workshop.upload("churn.csv", churn_csv()))
        self.delete(workshop, 5)
        with pytest.raises(ModelDeletedError):
            validate_run(run, registry=workshop.registry, data_store=workshop.store, now=NOW)
        assert workshop.registry.list_datasets(MODEL) == []
        assert workshop.registry.get_run(MODEL, run.run_id).status == "queued"

    def test_made_again_it_knows_nothing_of_the_data_before_even_of_the_same_content(self, workshop):
        workshop.validate(workshop.upload("churn.csv", churn_csv()))
        self.delete(workshop, 30)
        workshop.uploads = 60
        again = workshop.upload("again.csv", churn_csv(header="years,tariff,churned,label"))
        run, verdict = workshop.validate(again, now=NOW + timedelta(minutes=61))
        assert (verdict.outcome, verdict.rows) == ("accepted", 60)
        schema = workshop.json(f"prepared/{MODEL}/{run.run_id}/schema.json")
        assert schema["version"] == 2
        assert {column["name"] for column in schema["columns"]} >= {"years", "tariff"}
        assert [dataset.schema_version for dataset in workshop.registry.list_datasets(MODEL)] == [1, 2]
        _, same = workshop.validate(workshop.upload("same.csv", churn_csv()), now=NOW + timedelta(minutes=90))
        assert same.outcome == "rejected"  # it lacks the columns of the model that there is now


def test_validating_a_run_again_gives_the_same_result(workshop):
    sources = workshop.upload("good.csv", churn_csv()), workshop.upload("bad.csv", "a,b\n")
    run = workshop.run(*sources)
    verdict = validate_run(run, registry=workshop.registry, data_store=workshop.store, now=NOW)
    documents = workshop.contents()
    again = validate_run(
        workshop.registry.get_run(MODEL, run.run_id),
        registry=workshop.registry,
        data_store=workshop.store,
        now=NOW + timedelta(minutes=5),
    )
    assert again == verdict
    assert workshop.contents() == documents
    assert len(workshop.registry.list_datasets(MODEL)) == 1
    workshop.registry.file_notes(MODEL)
    assert [entry.action for entry in workshop.registry.list_ledger(MODEL)].count("dataset_rejected") == 1
    assert workshop.registry.get_state(MODEL).schema_version == 1


def test_a_rejected_file_is_kept_with_its_verdict_and_the_ledger_knows(workshop):
    source = workshop.upload("my file..csv", "age,label\n1,1\n")
    run, verdict = workshop.validate(source)

    assert verdict.outcome == "rejected"
    assert (run.status, run.stage, run.finished_at) == ("rejected", "finished", NOW)
    assert run.reasons[0].startswith("my file..csv: every row has the same target")
    cause_id = make_cause_id("upload", source.bucket, source.key, source.version_id)
    prefix = f"quarantine/{MODEL}/{cause_id}/"
    assert workshop.store.get(prefix + "original/my file..csv") == b"age,label\n1,1\n"
    document = workshop.json(prefix + "validation.json")
    assert document["outcome"] == "rejected"
    assert document["file"] == source.key
    assert document["reasons"] == [
        finding["message"] for finding in document["findings"] if finding["severity"] == "error"
    ]
    workshop.registry.file_notes(MODEL)
    (entry,) = [entry for entry in workshop.registry.list_ledger(MODEL) if entry.action == "dataset_rejected"]
    assert "every row has the same target" in entry.reason
    assert entry.details["verdict"] == prefix + "validation.json"
    assert workshop.registry.list_datasets(MODEL) == []


def test_a_rejected_upload_does_not_block_the_next(workshop):
    workshop.validate(workshop.upload("bad.csv", b"PAR1 cut in half"))
    _, verdict = workshop.validate(workshop.upload("good.csv", churn_csv()), now=NOW + timedelta(hours=1))
    assert verdict.outcome == "accepted"


def test_one_accepted_source_of_several_is_enough_and_the_others_are_told(workshop):
    run, verdict = workshop.validate(
        workshop.upload("empty.csv", ""),
        workshop.upload("good.csv", churn_csv()),
        workshop.upload("x.csv", "a,a\n1,2\n"),
    )
    assert verdict.outcome == "accepted"
    assert verdict.reasons == [
        "empty.csv: the file is empty: upload it again with a header and rows",
        "x.csv: the header repeats 'a'; give every column its own name",
    ]
    assert run.reasons == tuple(verdict.reasons)
    assert run.summary["rejected_files"] == 2


def test_verdicts_are_short_however_much_is_wrong(workshop):
    sources = [workshop.upload(f"{'long' * 60}{i}.csv", ",".join("a" * 1_000) + "\n1\n") for i in range(30)]
    run, verdict = workshop.validate(*sources)
    assert len(verdict.reasons) == 5
    assert max(len(reason) for reason in verdict.reasons) <= 300
    assert len(run.reasons) == 20


def test_malformed_rows_are_kept_beside_the_dataset(workshop):
    body = churn_csv() + "old,plus,no,1\n1,2\n33.5,pro,yes,\n"
    run, verdict = workshop.validate(workshop.upload("churn.csv", body))
    assert (verdict.outcome, verdict.rows, run.summary["quarantined_rows"]) == ("accepted", 60, 3)
    key = f"quarantine/{MODEL}/{verdict.dataset_ids[0]}/rows.jsonl"
    rows = [json.loads(line) for line in workshop.store.get(key).decode().splitlines()]
    assert [(row["line"], row["column"]) for row in rows] == [(62, "age"), (63, None), (64, "label")]


def test_a_later_upload_is_held_to_the_schema(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv()))
    run, verdict = workshop.validate(
        workshop.upload("second.csv", churn_csv(header="years,plan,churned,label")), now=NOW + timedelta(hours=1)
    )
    assert verdict.outcome == "rejected"
    assert "the feature column 'age' is missing" in run.reasons[0]
    assert workshop.registry.get_state(MODEL).schema_version == 1


def test_metadata_can_replace_the_schema(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv()))
    body = churn_csv(header="years,plan,churned,label")
    run, verdict = workshop.validate(
        workshop.upload("second.csv", body, schema="replace"), now=NOW + timedelta(hours=1)
    )
    assert verdict.outcome == "accepted"
    assert workshop.registry.get_state(MODEL).schema_version == 2
    assert verdict.rows == 60
    schema = TableSchema.from_dict(workshop.json(f"prepared/{MODEL}/{run.run_id}/schema.json"))
    assert schema.version == 2
    assert [column.name for column in schema.features] == ["years", "plan", "churned"]
    # The same again changes nothing: the schema is what it was to become.
    workshop.validate(workshop.upload("third.csv", body, schema="replace"), now=NOW + timedelta(hours=2))
    assert workshop.registry.get_state(MODEL).schema_version == 2


def test_content_that_is_uploaded_again_is_the_latest(workshop):
    workshop.registry.put_spec(MODEL, ModelSpec(combine="latest"))
    old, _ = workshop.validate(workshop.upload("may.csv", churn_csv(60)))
    new, _ = workshop.validate(workshop.upload("june.csv", churn_csv(60, first=60)), now=NOW + timedelta(hours=1))
    assert new.dataset_ids != old.dataset_ids
    again = workshop.upload("may-again.csv", churn_csv(60))
    renewed, _ = workshop.validate(again, now=NOW + timedelta(hours=2))
    assert renewed.dataset_ids == old.dataset_ids
    # A later run, which was not started by that upload, takes it for the latest too.
    scheduled, _ = workshop.validate(now=NOW + timedelta(hours=3))
    assert scheduled.dataset_ids == old.dataset_ids
    record = next(each for each in workshop.registry.list_datasets(MODEL) if each.dataset_id == old.dataset_ids[0])
    assert record.source.key.endswith("/may.csv")
    assert record.uploaded_at == record.renewed_at == again.uploaded_at


def test_known_content_is_recognised(workshop):
    first, _ = workshop.validate(workshop.upload("first.csv", churn_csv()))
    again, verdict = workshop.validate(
        workshop.upload("renamed.csv", churn_csv().replace("\n", "\r\n")), now=NOW + timedelta(hours=1)
    )
    assert verdict.outcome == "accepted"
    assert again.dataset_ids == first.dataset_ids
    folder = f"datasets/{MODEL}/{first.dataset_ids[0]}/"
    # The column `churned` is a copy of the label.
    assert [finding["check"] for finding in workshop.json(f"{folder}validation.json")["findings"]] == ["leakage"]
    document = workshop.only_json(f"{folder}uploads/", "")
    assert [finding["check"] for finding in document["findings"]] == ["leakage", "known_content"]
    assert "first.csv" in document["findings"][1]["message"]


def test_a_dataset_is_written_once(workshop):
    body = churn_csv() + "too,many,cells,in,this,row\n"
    first, _ = workshop.validate(workshop.upload("first.csv", body))
    (dataset,) = first.dataset_ids
    folder = f"datasets/{MODEL}/{dataset}/"
    before = {key: stored for key, stored in workshop.contents().items() if key.startswith(folder)}
    workshop.validate(workshop.upload("again.csv", body), now=NOW + timedelta(hours=1))
    after = {key: stored for key, stored in workshop.contents().items() if key.startswith(folder)}
    assert {key: after[key] for key in before} == before
    assert [key for key in after if key not in before] == [
        f"{folder}uploads/{upload_id(workshop.registry.get_run(MODEL, workshop.latest_run).sources[0])}.json"
    ]
    assert len(workshop.registry.list_datasets(MODEL)) == 1
    # Both uploads' rows were set aside, each beside its own verdict.
    assert len(workshop.store.keys(f"quarantine/{MODEL}/")) == 2


def test_the_manifest_says_where_a_dataset_comes_from_and_what_it_is(workshop):
    source = workshop.upload("first.csv", churn_csv() + "too,many,cells,in,this,row\n")
    run, _ = workshop.validate(source)
    (first,) = run.dataset_ids
    manifest = workshop.json(f"datasets/{MODEL}/{first}/manifest.json")
    assert manifest["dataset_id"] == first
    assert manifest["run_id"] == run.run_id
    assert manifest["code_version"] == millrace.__version__
    assert manifest["source"]["key"] == source.key
    assert manifest["source"]["version_id"] == source.version_id
    assert (manifest["schema_version"], manifest["schema_revision"]) == (1, 0)
    assert manifest["row_counts"] == {"read": 61, "accepted": 60, "quarantined": 1}
    assert manifest["checks"]["errors"] == 0
    assert sum(manifest["checks"]["by_name"].values()) == manifest["checks"]["warnings"] > 0
    assert manifest["parents"] == []
    for name, sha256 in manifest["sha256"].items():
        body = workshop.store.get(f"datasets/{MODEL}/{first}/{name}")
        assert hashlib.sha256(body).hexdigest() == sha256
    assert set(manifest["sha256"]) >= {"data.parquet", "profile.json", "validation.json"}
    later, _ = workshop.validate(workshop.upload("more.csv", churn_csv(70)), now=NOW + timedelta(hours=1))
    second = workshop.json(f"datasets/{MODEL}/{later.dataset_ids[-1]}/manifest.json")
    assert second["parents"] == [first]


def test_every_upload_has_a_report_that_a_browser_opens(workshop):
    workshop.validate(workshop.upload("good.csv", churn_csv()))
    workshop.validate(workshop.upload("bad.csv", "nothing,here\n1,2\n"))
    keys = workshop.store.keys()
    reports = [key for key in keys if key.endswith("/report.html")]
    assert sorted(key.split("/")[0] for key in reports) == ["datasets", "quarantine"]
    for key in reports:
        body = workshop.store.get(key)
        assert workshop.store.content_type(key) == "text/html; charset=utf-8"
        assert body.startswith(b"<!DOCTYPE html>")
        assert (b">accepted<" if key.startswith("datasets/") else b">rejected<") in body
    manifest = workshop.only_json("datasets/", "manifest.json")
    (accepted,) = [key for key in reports if key.startswith("datasets/")]
    assert manifest["sha256"]["report.html"] == hashlib.sha256(workshop.store.get(accepted)).hexdigest()


def test_datasets_add_up_and_rows_that_came_before_count_once(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    run, verdict = workshop.validate(workshop.upload("more.csv", churn_csv(90)), now=NOW + timedelta(hours=1))
    assert verdict.rows == 90
    assert len(verdict.dataset_ids) == 2
    manifest = workshop.json(f"prepared/{MODEL}/{run.run_id}/manifest.json")
    assert manifest["dataset_ids"] == verdict.dataset_ids
    assert manifest["repeated_rows_left_out"] == 60
    assert sum(manifest["rows"].values()) == 90
    for split in SPLITS:
        assert sum(manifest["class_counts"][split].values()) == manifest["rows"][split]


def test_a_holdout_row_stays_a_holdout_row_when_data_are_added(workshop):
    before, _ = workshop.validate(workshop.upload("first.csv", churn_csv(200)))
    after, _ = workshop.validate(workshop.upload("more.csv", churn_csv(150, first=200)), now=NOW + timedelta(hours=1))
    old, new = workshop.splits(before), workshop.splits(after)
    for name in SPLITS:
        assert set(old[name].row_ids.tolist()) < set(new[name].row_ids.tolist())


def with_ids(labels: list[int]) -> str:
    return "id,age,label\n" + "".join(f"{i},{20 + i % 7},{label}\n" for i, label in enumerate(labels))


def test_of_rows_with_an_identifier_the_newest_is_used(workshop):
    workshop.validate(workshop.upload("first.csv", with_ids([0, 1] * 20)))
    run, verdict = workshop.validate(
        workshop.upload("corrected.csv", with_ids([1, 0] * 15)), now=NOW + timedelta(hours=1)
    )
    assert verdict.rows == 40
    splits = workshop.splits(run)
    ids = np.concatenate([split.row_ids for split in splits.values()])
    targets = dict(zip(ids.tolist(), np.concatenate([s.target for s in splits.values()]).tolist(), strict=True))
    expected = dict(
        zip(hash_strings(np.array([str(i) for i in range(40)])).tolist(), [1, 0] * 15 + [0, 1] * 5, strict=True)
    )
    assert targets == expected


@pytest.mark.parametrize(
    ("spec", "rows"),
    [(ModelSpec(combine="latest"), 40), (ModelSpec(window_days=1), 100), (ModelSpec(), 100)],
)
def test_the_spec_says_which_datasets_are_combined(workshop, spec, rows):
    workshop.registry.put_spec(MODEL, spec)
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    _, verdict = workshop.validate(workshop.upload("more.csv", churn_csv(40, first=60)), now=NOW + timedelta(hours=1))
    assert verdict.rows == rows


def test_a_window_leaves_old_datasets_out(workshop):
    workshop.registry.put_spec(MODEL, ModelSpec(window_days=1))
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    run, verdict = workshop.validate(now=NOW + timedelta(days=3))
    assert verdict.outcome == "rejected"
    assert run.reasons == ("the model has no accepted dataset to train on: upload one",)


def test_a_run_without_uploads_trains_on_what_there_is(workshop):
    first, _ = workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    scheduled, verdict = workshop.validate(now=NOW + timedelta(days=1))
    assert (verdict.outcome, verdict.rows) == ("accepted", 60)
    assert scheduled.dataset_ids == first.dataset_ids


def test_a_run_without_anything_is_rejected(workshop):
    run, verdict = workshop.validate()
    assert verdict.outcome == "rejected"
    assert run.status == "rejected"


def test_what_the_prepared_schema_has_seen_is_what_the_run_trains_on(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    run, _ = workshop.validate(
        workshop.upload("more.csv", churn_csv(60, first=60).replace("plus", "gold")), now=NOW + timedelta(hours=1)
    )
    schema = TableSchema.from_dict(workshop.json(f"prepared/{MODEL}/{run.run_id}/schema.json"))
    assert schema.column("plan").categories == ("basic", "gold", "plus", "pro")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            UploadLimits(max_bytes=1_000_000),
            "the upload has 1 MB; at most 1 MB, unpacked, and 15,000,000 rows are read at once",
        ),
        (
            UploadLimits(max_rows=1_000),
            "the upload has more than 1,000 rows; at most 2,500 MB, unpacked, and 1,000 rows",
        ),
    ],
)
def test_too_large_a_file_is_told_its_limit(workshop, limits, told):
    run, _ = workshop.validate(workshop.upload("large.csv", b"a,label\n" + b"1,2\n" * 300_000), limits=limits)
    assert run.reasons[0].startswith(f"large.csv: {told}")
    assert run.reasons[0].endswith("upload it as several datasets, which are trained on together")


def test_a_compressed_file_is_measured_unpacked(workshop):
    body = gzip.compress(b"a,label\n" + b"1,2\n" * 300_000)
    run, _ = workshop.validate(workshop.upload("large.csv.gz", body), limits=UploadLimits(max_bytes=1_000_000))
    assert run.reasons == ("large.csv.gz: the file unpacks to more than 1 MB: upload several datasets",)


def test_limits_follow_from_memory_up_to_what_was_measured():
    assert UploadLimits.for_memory(3_008) == UploadLimits.for_memory(10_240) == UploadLimits()
    assert UploadLimits.for_memory(1_504).max_rows == UploadLimits().max_rows // 2


def test_an_upload_that_is_gone_is_a_verdict(workshop):
    run, verdict = workshop.validate(Source("bucket", f"incoming/{MODEL}/gone.csv", "v9", NOW))
    assert verdict.outcome == "rejected"
    assert run.reasons == ("gone.csv: the uploaded object is gone",)


def test_a_failing_bucket_is_an_error_not_a_verdict(workshop, monkeypatch):
    run = workshop.run(workshop.upload("good.csv", churn_csv()))

    def unavailable(key: str, version_id: str | None = None) -> bytes:
        raise ServiceUnavailableError("throttled")

    monkeypatch.setattr(workshop.store, "head", unavailable)
    with pytest.raises(ServiceUnavailableError):
        validate_run(run, registry=workshop.registry, data_store=workshop.store, now=NOW)


def test_metadata_name_the_target_and_the_task(workshop):
    body = "age,income\n" + "".join(f"{20 + i % 50},{i % 4}\n" for i in range(60))
    run, verdict = workshop.validate(workshop.upload("t.csv", body, target="income", task="regression"))
    assert verdict.outcome == "accepted"
    assert (run.summary["target"], run.summary["task"]) == ("income", "regression")
    assert workshop.splits(run)["train"].target.dtype == np.float64


def test_entities_too_few_to_split_are_refused(workshop):
    rows = "".join(f"{i % 4},{i % 7},{i % 2}\n" for i in range(60))
    workshop.registry.put_spec("churn", ModelSpec(id_column="owner"))
    run, verdict = workshop.validate(workshop.upload("t.csv", "owner,b,label\n" + rows))
    assert verdict.outcome == "rejected"
    assert run.reasons == ("only 4 rows or entities in all; at least 10 are needed",)


def test_few_distinct_rows_stand_on_every_side(workshop):
    run, verdict = workshop.validate(workshop.upload("t.csv", "a,b,label\n" + "1,2,0\n2,1,1\n" * 30))
    assert verdict.outcome == "accepted"
    assert all(set(split.target.tolist()) == {0, 1} for split in workshop.splits(run).values())


def test_a_training_set_says_what_each_dataset_gave_and_which_were_left_out(workshop):
    workshop.registry.put_spec(MODEL, ModelSpec(window_days=10))
    old, _ = workshop.validate(workshop.upload("old.csv", with_ids([0, 1] * 30)))
    workshop.uploads = 60 * 24 * 12
    first, _ = workshop.validate(workshop.upload("first.csv", with_ids([0, 1] * 20)), now=NOW + timedelta(days=12))
    body = with_ids([1, 0] * 15) + "3,99,1\n"
    run, _ = workshop.validate(workshop.upload("corrected.csv", body), now=NOW + timedelta(days=12, hours=1))
    manifest = workshop.json(f"prepared/{MODEL}/{run.run_id}/manifest.json")
    assert [dataset["dataset_id"] for dataset in manifest["datasets"]] == manifest["dataset_ids"]
    counts = [
        {name: dataset[name] for name in ("rows", "used", "superseded", "repeated")} for dataset in manifest["datasets"]
    ]
    assert counts == [
        {"rows": 40, "used": 10, "superseded": 30, "repeated": 0},
        {"rows": 31, "used": 30, "superseded": 0, "repeated": 1},
    ]
    assert sum(manifest["rows"].values()) == sum(count["used"] for count in counts)
    (left_out,) = manifest["datasets_left_out"]
    assert left_out["dataset_id"] == old.dataset_ids[0]
    assert "window of 10 days" in left_out["reason"]
    assert (manifest["run_id"], manifest["combine"], manifest["window_days"]) == (run.run_id, "all", 10)
    for name, sha256 in manifest["sha256"].items():
        assert hashlib.sha256(workshop.store.get(f"prepared/{MODEL}/{run.run_id}/{name}")).hexdigest() == sha256
    assert first.dataset_ids[0] == manifest["dataset_ids"][0]


def test_reference_statistics_are_those_of_the_training_split(workshop):
    run, _ = workshop.validate(workshop.upload("first.csv", churn_csv(200)))
    reference = workshop.json(f"prepared/{MODEL}/{run.run_id}/reference.json")
    train = workshop.splits(run)["train"]
    assert reference["rows"] == len(train)
    age = next(feature for feature in reference["features"] if feature["name"] == "age")
    assert age["mean"] == pytest.approx(float(train.features.numbers[:, 0].mean()), rel=1e-6)
    assert sum(age["histogram"]["counts"]) == len(train)
    assert reference["target"]["shares"]["1"] == pytest.approx(float(train.target.mean()))


def dated_csv(rows: int, shift: int = 0) -> str:
    lines = [
        f"2026-{1 + (row + shift) // 28:02d}-{1 + (row + shift) % 28:02d},{row % 9},{row % 2}" for row in range(rows)
    ]
    return "\n".join(["day,x,label", *lines]) + "\n"


def test_a_split_by_time_trains_on_the_old_and_judges_on_the_new(workshop):
    workshop.registry.put_spec(MODEL, ModelSpec.parse({"split": {"by": "time", "column": "day"}}))
    run, verdict = workshop.validate(workshop.upload("first.csv", dated_csv(100)))
    assert verdict.outcome == "accepted"
    splits = workshop.splits(run)
    days = {name: split.features.numbers[:, 0] for name, split in splits.items()}
    assert days["train"].max() < days["validation"].min()
    assert days["validation"].max() < days["test"].min()
    manifest = workshop.json(f"prepared/{MODEL}/{run.run_id}/manifest.json")
    assert manifest["split"]["by"] == "time"
    assert manifest["split"]["test_from"] == "2026-03-25T00:00:00Z"


def test_a_split_by_a_column_that_there_is_not_is_refused_with_the_way_to_mend_it(workshop):
    workshop.validate(workshop.upload("first.csv", dated_csv(100)))
    workshop.registry.put_spec(MODEL, ModelSpec.parse({"split": {"by": "group", "column": "who"}}))
    run, verdict = workshop.validate(now=NOW + timedelta(hours=1))
    assert verdict.outcome == "rejected"
    assert "columns: {who: {role: ignored}}" in run.reasons[0]


def test_a_column_that_the_spec_asks_for_is_learnt_from_beside_the_data_that_lacks_it(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    workshop.registry.put_spec(MODEL, ModelSpec.parse({"columns": {"city": {"role": "feature"}}}))
    lines = churn_csv(60, first=60).splitlines()
    body = "\n".join([lines[0] + ",city", *(line + f",c{row % 3}" for row, line in enumerate(lines[1:]))])
    run, verdict = workshop.validate(workshop.upload("more.csv", body), now=NOW + timedelta(hours=1))
    assert (verdict.outcome, verdict.rows) == ("accepted", 120)
    schema = TableSchema.from_dict(workshop.json(f"prepared/{MODEL}/{run.run_id}/schema.json"))
    assert (schema.version, schema.revision) == (1, 1)
    assert schema.column("city").nullable
    assert schema.column("city").categories == ("c0", "c1", "c2")
    strings = np.concatenate([split.features.strings[:, -1] for split in workshop.splits(run).values()])
    assert sorted(np.unique(strings, return_counts=True)[1].tolist()) == [20, 20, 20, 60]


def test_a_column_that_says_nothing_of_itself_is_left_out_with_a_warning(workshop):
    workshop.validate(workshop.upload("first.csv", churn_csv(60)))
    lines = churn_csv(60, first=60).splitlines()
    body = "\n".join([lines[0] + ",city", *(line + ",x" for line in lines[1:])])
    run, _ = workshop.validate(workshop.upload("more.csv", body), now=NOW + timedelta(hours=1))
    document = workshop.json(f"datasets/{MODEL}/{run.dataset_ids[-1]}/validation.json")
    assert "new_column" in [finding["check"] for finding in document["findings"]]
    assert document["schema"]["revision"] == 0


class TestServedRows:
    """What was predicted, and became true, an hour before the run."""

    def serve(self, workshop, numbers):
        served = NOW - timedelta(hours=1)
        rows = [
            make_row(
                number,
                predicted_at=served + timedelta(seconds=number),
                features={"age": 1_000.0 + number, "plan": "pro", "churned": float(number % 2)},
            )
            for number in numbers
        ]
        store_rows(workshop.store, rows)
        reported = served + timedelta(minutes=30)
        store_feedback(
            workshop.store,
            [make_feedback(n, outcome=str(n % 2), observed_at=reported, received_at=reported) for n in numbers],
        )

    def train(self, workshop, **retraining):
        workshop.registry.put_spec(MODEL, ModelSpec.parse({"retraining": retraining}))
        run, verdict = workshop.validate(workshop.upload("churn.csv", churn_csv(100)))
        assert verdict.outcome == "accepted", run.reasons
        ages = np.concatenate([split.features.numbers for split in workshop.splits(run).values()]).max(axis=1)
        return run, workshop.json(prepared_key(MODEL, run.run_id, "manifest.json")), int((ages >= 1_000).sum())

    def test_they_are_left_alone_unless_the_spec_wants_them(self, workshop):
        self.serve(workshop, range(40))
        run, manifest, served = self.train(workshop)
        assert (served, manifest["captured_rows"]) == (0, {})
        assert "captured_rows" not in run.summary

    def test_they_are_learnt_from_once_each_and_counted(self, workshop):
        self.serve(workshop, range(40))
        self.serve(workshop, range(40))
        run, manifest, served = self.train(workshop, captured_rows=True)
        assert served == 40
        assert manifest["captured_rows"]["trained_on"] == 40
        assert run.summary["captured_rows"] == manifest["captured_rows"]
        assert [dataset["used"] for dataset in manifest["datasets"]] == [100]
        assert run.summary["rows"] == 140

    def test_when_there_are_none_the_run_goes_on_and_says_so(self, workshop):
        _, manifest, served = self.train(workshop, captured_rows=True)
        assert (served, manifest["captured_rows"]["captured"]) == (0, 0)

    @pytest.mark.parametrize("poison", [{"row_id": "\ud800"}, {"features": {"age": 1.7e308}}, {"row_id": "a\0"}])
    def test_a_row_that_cannot_be_stored_fails_no_upload(self, workshop, poison):
        self.serve(workshop, range(40))
        store_rows(workshop.store, [make_row(90, **poison)], "poison")
        store_feedback(workshop.store, [make_feedback(90, outcome="yes")], "poison")
        _, manifest, _ = self.train(workshop, captured_rows=True)
        assert manifest["captured_rows"]["trained_on"] >= 40

    def test_a_fault_that_nobody_foresaw_leaves_the_captured_rows_out_and_says_so(self, workshop, monkeypatch):
        self.serve(workshop, range(40))
        actual = ingest.prepare

        def prepare(schema, tables, *rest):
            if tables.before:
                raise UnicodeError("poison")
            return actual(schema, tables, *rest)

        monkeypatch.setattr(ingest, "prepare", prepare)
        run, manifest, served = self.train(workshop, captured_rows=True)
        assert (served, run.summary["rows"]) == (0, 100)
        assert manifest["captured_rows"] == run.summary["captured_rows"]
        assert manifest["captured_rows"]["obstacle"] == "captured rows or feedback cannot be read: UnicodeError"

    def test_a_fault_in_captures_that_an_upload_is_compared_with_does_not_reject_it(self, workshop, monkeypatch):
        workshop.registry.put_spec(MODEL, ModelSpec.parse({"checks": {"skew_threshold": 0.1}}))
        assert workshop.validate(workshop.upload("a.csv", churn_csv(100)))[1].outcome == "accepted"
        monkeypatch.setattr(ingest, "profile_captures", Mock(side_effect=UnicodeError("poison")))
        assert workshop.validate(workshop.upload("b.csv", churn_csv(120)))[1].outcome == "accepted"
        monkeypatch.setattr(ingest, "profile_captures", Mock(side_effect=ServiceUnavailableError("busy")))
        with pytest.raises(ServiceUnavailableError):
            workshop.validate(workshop.upload("c.csv", churn_csv(130)))


def test_two_rows_of_a_rare_class_are_quarantined_and_the_others_train(workshop):
    lines = [f"{row},{('Good', 'Bad')[row % 2]}" for row in range(600)]
    lines[100], lines[401] = "100,Reformed Criminals", "401,Reformed Criminals"
    run, verdict = workshop.validate(workshop.upload("dc.csv", "x,label\n" + "\n".join(lines) + "\n"))

    assert verdict.outcome == "accepted"
    assert verdict.rows == 598
    assert run.summary["quarantined_rows"] == 2
    findings = workshop.only_json("datasets/", "validation.json")["findings"]
    assert {finding["check"] for finding in findings} >= {"rare_class", "unknown_class"}
    assert {finding["severity"] for finding in findings} == {"warning"}
