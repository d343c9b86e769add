"""What goes wrong while a job is scored: nothing is lost, nothing is doubled, and the job says so."""

import gzip
import io
import json

import pyarrow.parquet as pq
import pytest
from millrace.batch.finishing import finish_job
from millrace.batch.job import JobManifest, Part
from millrace.batch.job_planning import plan_job
from millrace.batch.part_scoring import score_part, score_planned
from millrace.documents import from_plain
from millrace.errors import ServiceUnavailableError
from millrace.layout import receipt_key
from millrace.spec.data import ReadSpec
from msgspec.structs import replace

from tests.batch_jobs import HEADER, NOW, ROW, churn_model, new_job, pointers, read_results, run_job, score_text
from tests.fakes.memory_object_store import MemoryObjectStore

KEY = "score/churn/rows.csv"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 500)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 200)


def rows(count: int, first: int = 1) -> str:
    return "".join(f"c{row},{18 + row % 60},1.5,true,yes,family,Oslo,\n" for row in range(first, first + count))


def planned(text: str, *, cut: bool = True):
    """Return a store with a planned job of one file, whose object is not pinned by its version."""
    store = MemoryObjectStore("data")
    store.put(KEY, text.encode())
    job = new_job(store, KEY)
    found = plan_job(job, churn_model(), ReadSpec(), store, lanes=2)
    assert (found.parts > 2) == cut
    return store, job


class Dying(MemoryObjectStore):
    """A store whose worker dies before, or just after, one write."""

    def arm(self, before: str = "", after: str = "") -> None:
        self.before, self.after = before, after

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        before, after = getattr(self, "before", ""), getattr(self, "after", "")
        if before and before in key:
            raise KeyboardInterrupt
        super().put(key, body, content_type)
        if after and after in key:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "moment",
    [{"before": "part-00001"}, {"after": "part-00001"}, {"before": "receipts/00001"}, {"after": "receipts/00001"}],
)
def test_a_worker_that_dies_at_any_write_loses_and_doubles_nothing(moment):
    store = Dying("data")
    store.put(KEY, f"{HEADER}\n{rows(60)}".encode())
    job, loaded = new_job(store, KEY), churn_model()
    plan_job(job, loaded, ReadSpec(), store, lanes=2)
    parts = sorted(pointers(store, job), key=lambda one: one.part)
    store.arm(**moment)
    score_planned(job, parts[0], loaded, store)
    with pytest.raises(KeyboardInterrupt):
        score_planned(job, parts[1], loaded, store)
    store.arm()
    unfinished = finish_job(job, store, now=NOW)
    assert unfinished.outcome == "incomplete"
    assert not store.keys(f"{job.destination}_SUCCESS")
    assert 1 not in unfinished.missing_parts if moment == {"after": "receipts/00001"} else 1 in unfinished.missing_parts
    for part in parts:
        score_planned(job, part, loaded, store)
    assert finish_job(job, store, now=NOW).outcome == "complete"
    results = read_results(store, job)
    assert results.column("row").to_pylist() == list(range(1, 61))
    assert results.column("customer_id").to_pylist() == [f"c{row}" for row in range(1, 61)]
    assert store.get(f"{job.destination}_SUCCESS") == b""


def test_a_part_that_is_delivered_twice_is_there_once_and_a_scored_one_is_not_scored_again():
    store, job = planned(f"{HEADER}\n{rows(60)}")
    (part, *others), loaded = pointers(store, job), churn_model()
    first = score_planned(job, part, loaded, store, clock=lambda: 0.0)
    versions = len(list(store.list_versions(first.key)))
    assert score_planned(job, part, loaded, store) == first
    assert len(list(store.list_versions(first.key))) == versions
    # Two at once: both find no receipt, and write the same.
    store.delete([receipt_key(job.job_id, part.part)])
    assert score_planned(job, part, loaded, store, clock=lambda: 0.0) == first
    for other in others:
        score_planned(job, other, loaded, store)
    assert finish_job(job, store, now=NOW).rows == 60


def test_an_object_that_is_replaced_meanwhile_fails_its_parts_and_never_mixes():
    store = MemoryObjectStore("data")
    store.put(KEY, f"{HEADER}\n{rows(60)}".encode())
    job = new_job(store, folder="score/churn/")
    loaded = churn_model()
    plan_job(job, loaded, ReadSpec(), store, lanes=2)
    first, *rest = sorted(pointers(store, job), key=lambda one: one.part)
    assert not score_planned(job, first, loaded, store).fault
    store.put(KEY, f"{HEADER}\n{rows(60, 100)}".encode())
    assert "replaced" in score_planned(job, rest[0], loaded, store).fault
    manifest = finish_job(job, store, now=NOW)
    assert manifest.outcome == "failed"
    assert "part 1: score/churn/rows.csv: the object" in manifest.reasons[0]
    assert not store.keys(f"{job.destination}_SUCCESS")


def test_an_object_with_a_version_is_scored_as_it_was():
    store, job = planned(f"{HEADER}\n{rows(60)}")
    store.put(KEY, b"something else")
    manifest = run_job(store, job)
    assert (manifest.outcome, manifest.rows) == ("complete", 60)


def test_a_torn_archive_fails_in_words():
    packed = gzip.compress(f"{HEADER}\n{rows(3_000)}".encode(), mtime=0)
    store = MemoryObjectStore("data")
    # Longer than the head that the planner looks at, so that only scoring comes to its end.
    store.put(f"{KEY}.gz", packed[:-9])
    job = new_job(store, f"{KEY}.gz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace.batch.job_planning.HEAD_BYTES", 5_000)
        manifest = run_job(store, job)
    assert manifest.outcome == "failed"
    assert manifest.reasons == (f"part 0: {KEY}.gz: the gzip file is damaged or cut off: upload it again",)
    assert not store.keys(f"{job.destination}part-")


def test_a_stray_quote_makes_one_part_whose_rows_are_all_there():
    text = f"{HEADER}\n{rows(30)}" + 'c31,20,1.5,true,yes,5" pipe,Oslo,\n' + rows(30, 32)
    store, job = planned(text, cut=False)
    manifest = run_job(store, job)
    assert (manifest.outcome, manifest.rows, manifest.parts) == ("complete", 61, 1)
    assert read_results(store, job).column("customer_id").to_pylist() == [f"c{row}" for row in range(1, 62)]


def test_a_file_of_a_folder_without_a_column_fails_with_its_name(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.MAX_KNOWN_FILES", 0)
    store = MemoryObjectStore("data")
    for number in range(6):
        header = HEADER.replace("plan", "tariff") if number == 5 else HEADER
        store.put(f"score/churn/day/{number}.csv", f"{header}\n{rows(3)}".encode())
    store.put("score/churn/day/empty.csv", b"")
    store.put("score/churn/day/_SUCCESS", b"")
    job = new_job(store, folder="score/churn/day/")
    manifest = run_job(store, job)
    assert manifest.outcome == "failed"
    assert "score/churn/day/5.csv: 'plan' is missing; the model does not know 'tariff'" in manifest.reasons[0]
    store.put("score/churn/day/5.csv", f"{HEADER}\n{rows(3)}".encode())
    again = new_job(store, folder="score/churn/day/", job_id="b-2", destination="scored/churn/b-2/")
    assert run_job(store, again).outcome == "complete"
    results = read_results(store, again)
    assert results.column("row").to_pylist() == [1, 2, 3] * 6
    assert results.column("file").to_pylist() == [f"score/churn/day/{n}.csv" for n in range(6) for _ in range(3)]


def test_a_store_that_is_busy_is_tried_again_and_leaves_no_receipt():
    store, job = planned(f"{HEADER}\n{rows(60)}")

    class Busy(MemoryObjectStore):
        def get_range(self, key: str, start: int, end: int, **options) -> bytes:
            if key == KEY:
                raise ServiceUnavailableError("slow down")
            return store.get_range(key, start, end, **options)

        def get(self, key: str, version_id: str | None = None) -> bytes:
            return store.get(key, version_id)

    with pytest.raises(ServiceUnavailableError):
        score_planned(job, pointers(store, job)[0], churn_model(), Busy("data"))
    assert not store.keys(f"jobs/{job.job_id}/receipts/")


def test_a_part_whose_rows_are_not_those_that_were_counted_fails():
    store, job = planned(f"{HEADER}\n{rows(60)}")
    part = from_plain(Part, json.loads(store.get("jobs/b-1/parts.jsonl").splitlines()[0]))
    (piece,) = part.pieces
    wrong = Part(number=0, pieces=(replace(piece, rows=(piece.rows or 0) + 1),))
    assert "were counted" in score_part(job, wrong, churn_model(), store).fault


def test_refused_rows_have_their_place_their_reason_and_no_value():
    text = f"{HEADER}\n{ROW}\nc2,secret,1,true,yes,basic,Oslo,\nc3,30\nc4,31,1,perhaps,yes,basic,Oslo,\n{ROW}\n"
    manifest, results = score_text(text, max_refused_share=0.6)
    assert (manifest.outcome, manifest.rows, manifest.refused) == ("complete", 5, 3)
    assert results.column("prediction").is_null().to_pylist() == [False, True, True, True, False]
    errors = results.column("error").to_pylist()
    assert errors[1].startswith("age: expects a number")
    assert errors[2:4] == ["2 fields where the header has 8", "active: expects true or false, got another string"]
    assert set(manifest.refused_by_reason) == set(errors) - {None}
    assert "secret" not in str(errors)


def test_errors_are_listed_up_to_a_bound_and_counted_beyond():
    store = MemoryObjectStore("data")
    store.put(KEY, f"{HEADER}\n{rows(10)}".encode() + b"x,y,1,true,yes,basic,Oslo,\n" * 501)
    job = new_job(store, KEY)
    manifest = run_job(store, job)
    assert manifest.outcome == "failed"
    assert "501 of 511 rows were refused (98.0%), and max_refused_share allows 10.0%" in manifest.reasons[0]
    lines = store.get(f"{job.destination}errors.jsonl").decode().splitlines()
    assert json.loads(lines[0]) == {
        "row": 11,
        "column": "age",
        "reason": "expects a number, got a string",
        "file": None,
    }
    assert len(lines) <= 501
    assert sum(manifest.refused_by_reason.values()) == 501


def test_results_with_inputs_and_as_csv():
    manifest, results = score_text(
        f"{HEADER},prediction\n{ROW},mine\nc2,30\n", join=True, format="csv", max_refused_share=1
    )
    assert results.column_names[:3] == ["row", "prediction", "decision"]
    assert results.column("input_prediction").to_pylist() == ["mine", ""]
    assert results.column("city").to_pylist() == ["Oslo", ""]
    assert manifest.files[0].name == "part-00000.csv"


def test_the_manifest_adds_up_and_its_hashes_are_those_of_the_files():
    store, job = planned(f"{HEADER}\n{rows(60)}")
    manifest = run_job(store, job)
    stored = JobManifest.read(store.get(f"{job.destination}manifest.json"))
    assert stored == manifest
    assert sum(one.rows for one in manifest.files) == manifest.rows == manifest.predictions.rows == 60
    assert sum(manifest.predictions.labels.values()) == 60
    for one in manifest.files:
        body = store.get(f"{job.destination}{one.name}")
        assert pq.read_metadata(io.BytesIO(body)).num_rows == one.rows
        assert len(body) == one.size
    assert manifest.cost["usd"] > 0
    assert manifest.missing == {"signed_up": 60}
