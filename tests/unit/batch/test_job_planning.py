"""Plans of batch jobs: what is cut, what is scored as one part, and what is refused, in words."""

import gzip
import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from millrace.batch.job import MAX_LANE_PARTS, BatchJob, SourceObject
from millrace.batch.job_planning import PART_BYTES, plan_job, plan_parts
from millrace.batch.text_cuts import UnfinishedCutsError
from millrace.data.read import UploadLimits
from millrace.errors import ConflictError, InvalidInputError, NoRowsError, PayloadTooLargeError
from millrace.layout import job_key
from millrace.ports import ListedObject
from millrace.spec.data import ReadSpec

from tests.batch_jobs import HEADER, NOW, ROW, churn_model, new_job
from tests.fakes.memory_object_store import MemoryObjectStore

FILE = f"{HEADER}\n{ROW}\n".encode()


class MadeUpStore(MemoryObjectStore):
    """A store with one object of any size, whose lines are made when they are read."""

    def __init__(self, size: int) -> None:
        super().__init__("data")
        line = f"{ROW}\n".encode()
        self._header = f"{HEADER}\n".encode()
        self._lines = line * (PART_BYTES // len(line))
        self._width = len(line)
        self.size, self.read = size - (size - len(self._header)) % len(line), 0

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:
        end = min(end, self.size)
        self.read += end - start
        head = self._header[start:end]
        begin = max(0, start - len(self._header)) % self._width
        return head + self._lines[begin : begin + end - start - len(head)]


def plan(store: MemoryObjectStore, job: BatchJob, *, lanes: int = 4, read: ReadSpec | None = None, **options):
    return plan_parts(job, churn_model(), read or ReadSpec(), store, lanes=lanes, **options)


def test_a_large_file_is_cut_in_one_pass_without_being_stored(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 8 << 20)
    store = MadeUpStore(size=40 << 20)
    source = SourceObject(key="score/churn/rows.csv", size=store.size)
    found, parts = plan(store, replace_sources(new_job(store), source))
    width, rows = len(ROW) + 1, (store.size - len(HEADER) - 1) // (len(ROW) + 1)
    assert found.rows == sum(part.rows or 0 for part in parts) == rows
    assert store.read < store.size + (2 << 20)
    assert 4 <= len(parts) <= 5
    first = 1
    for part in parts:
        (piece,) = part.pieces
        assert piece.first_row == first
        assert piece.end is not None
        assert (piece.end - piece.start) == width * (piece.rows or 0)
        first += piece.rows or 0


def replace_sources(job: BatchJob, *sources: SourceObject) -> BatchJob:
    return BatchJob.read(
        {**json.loads(job.write()), "sources": [json.loads(json.dumps(as_plain(one))) for one in sources]}
    )


def as_plain(source: SourceObject) -> dict:
    return {"key": source.key, "size": source.size, "etag": source.etag, "version_id": source.version_id}


class ManyFiles(MemoryObjectStore):
    """A folder of so many small files, all alike, that are never stored."""

    def __init__(self, count: int) -> None:
        super().__init__("data")
        self.count, self.reads = count, 0

    def list(self, prefix: str):
        for number in range(self.count):
            yield ListedObject(f"{prefix}part-{number:06d}.csv", len(FILE), datetime(2026, 1, 1, tzinfo=UTC), "e")

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:
        self.reads += 1
        return FILE[start:end]


def test_a_hundred_thousand_small_files_share_parts():
    store = ManyFiles(100_000)
    job = new_job(store, folder="score/churn/day/")
    found = plan_job(job, churn_model(), ReadSpec(), store, lanes=8)
    assert (found.objects, found.parts, found.lanes) == (100_000, 200, 8)
    assert store.reads <= 6  # the columns of the first ones; the others are checked when they are read
    lanes = json.loads(store.get(job_key("b-1", "lanes.json")))
    assert sorted(part["part"] for lane in lanes for part in lane["parts"]) == list(range(200))
    body = store.get(job_key("b-1", "parts.jsonl"))
    for lane in lanes:
        for pointer in lane["parts"]:
            assert json.loads(body[pointer["start"] : pointer["end"]])["number"] == pointer["part"]


def test_a_lane_of_the_most_parts_fits_into_a_payload():
    pointers = [{"part": n, "start": n * 10_000_000, "end": (n + 1) * 10_000_000} for n in range(MAX_LANE_PARTS)]
    assert len(json.dumps({"lane": 0, "parts": pointers})) < 256_000


def test_more_parts_than_the_lanes_take_are_refused(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.MAX_PART_FILES", 1)
    with pytest.raises(PayloadTooLargeError, match=r"2,001 parts, and 1 lanes take 2,000: .*ScoringConcurrency"):
        plan(ManyFiles(2_001), new_job(ManyFiles(0), folder="score/churn/day/"), lanes=1)


def store_with(**bodies: bytes) -> tuple[MemoryObjectStore, BatchJob]:
    store = MemoryObjectStore("data")
    keys = [f"score/churn/{name.replace('_', '.')}" for name in bodies]
    for key, body in zip(keys, bodies.values(), strict=True):
        store.put(key, body)
    return store, new_job(store, *keys)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            FILE.replace(b"age", b"Age "),
            r"rows.csv: 'age' is missing; the model does not know 'Age': did you mean 'age'",
        ),
        (b"PK\x03\x04" + FILE, "rows.csv: the file is a ZIP archive"),
        (b"\x1f\x8b\x08\x00damaged", "rows.csv: the gzip file is damaged"),
        (b"[{}]", "rows.csv: the file is one JSON array"),
        (b"PAR1" + FILE, "rows.csv: the Parquet file is damaged"),
    ],
)
def test_what_is_no_table_of_the_model_is_refused_before_anything_is_scored(body, message):
    store, job = store_with(rows_csv=body)
    with pytest.raises(InvalidInputError, match=message):
        plan(store, job)


def test_columns_in_another_order_further_ones_and_absent_ones_are_as_in_requests():
    names = HEADER.split(",")[::-1]
    names.remove("city")
    text = ",".join([*names, "further"]) + "\n" + ",".join(["1"] * (len(names) + 1)) + "\n"
    store, job = store_with(rows_csv=text.encode())
    found, _ = plan(store, job)
    assert found.warnings == (
        "the column 'city' is not in the file: scored as missing",
        "1 column unknown to the model: ignored",
    )


@pytest.mark.parametrize("body", [b"", b"  \n", b"\n\n\n"])
def test_files_without_anything_are_refused(body):
    store, job = store_with(rows_csv=body)
    with pytest.raises(NoRowsError, match="every file is empty"):
        plan(store, job)


def test_an_empty_folder_is_refused():
    store = MemoryObjectStore("data")
    store.put("score/churn/day/_SUCCESS", b"")
    with pytest.raises(InvalidInputError, match="no file below 'score/churn/day/'"):
        plan(store, new_job(store, folder="score/churn/day/"))


@pytest.mark.parametrize(
    ("sources", "folder", "destination"),
    [
        ((), "score/churn/", "score/churn/out/"),
        ((), "scored/churn/b-0/", "scored/churn/"),
        (("scored/churn/b-1/rows.csv",), None, "scored/churn/b-1/"),
    ],
)
def test_results_among_the_sources_are_refused(sources, folder, destination):
    store = MemoryObjectStore("data")
    for key in sources:
        store.put(key, FILE)
    with pytest.raises(InvalidInputError, match="choose another destination"):
        plan(store, new_job(store, *sources, folder=folder, destination=destination))


def test_a_long_archive_is_refused_in_words_and_a_short_one_is_one_part(monkeypatch):
    body = gzip.compress(FILE + f"{ROW}\n".encode() * 200_000)
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 10_000)
    store, job = store_with(rows_csv_gz=body)
    (part,) = plan(store, job)[1]
    assert part.rows is None
    with pytest.raises(PayloadTooLargeError, match=r"gzipped, so that .* about \d+ MB unpacked, and at most 5 MB are"):
        plan(store, job, limits=UploadLimits(max_bytes=5_000_000))


@pytest.mark.parametrize(
    ("text", "encoding", "reason"),
    [
        ('5" pipe', "utf-8", "quotes inside values"),
        ("Zürich", "cp1252", "not written in UTF-8"),
        ("Zürich", "utf-16", "not written in UTF-8"),
    ],
)
def test_what_cannot_be_cut_is_one_part_or_refused(text, encoding, reason, monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 1_000)
    body = (FILE.decode() + ROW.replace("Oslo", text) + "\n" + f"{ROW}\n" * 500).encode(encoding)
    store, job = store_with(rows_csv=body)
    found, parts = plan(store, job)
    assert len(parts) == 1
    assert reason in found.warnings[0]
    with pytest.raises(PayloadTooLargeError, match="scored in one call"):
        plan(store, job, limits=UploadLimits(max_bytes=10_000))


def test_an_object_that_was_replaced_or_cut_off_since_it_was_listed_is_not_planned():
    store, job = store_with(rows_csv=FILE)
    (source,) = job.sources
    store.put(source.key, FILE + FILE)
    pinned = plan(store, job)[1]
    assert pinned[0].pieces[0].source == source  # its version still has those bytes
    unpinned = replace_sources(job, SourceObject(key=source.key, size=source.size, etag=source.etag))
    with pytest.raises(ConflictError, match="replaced"):
        plan(store, unpinned)


def test_a_level_that_the_version_has_no_intervals_for_is_refused_at_once():
    store, job = store_with(rows_csv=FILE)
    loaded = replace(churn_model(), calibration=None)
    job = BatchJob.read({**json.loads(job.write()), "interval": 0.9})
    with pytest.raises(InvalidInputError, match="registered without calibration rows"):
        plan_parts(job, loaded, ReadSpec(), store, lanes=1)


def test_a_file_that_takes_longer_than_a_call_is_cut_on_by_the_next(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 8 << 20)
    store = MadeUpStore(size=40 << 20)
    job = replace_sources(new_job(store), SourceObject(key="score/churn/rows.csv", size=store.size))
    whole, _ = plan(store, job)
    read_at_once, store.read, counted = store.read, 0, []
    while True:
        try:
            found = plan_job(job, churn_model(), ReadSpec(), store, lanes=4, is_late=lambda: True)
            break
        except UnfinishedCutsError as unfinished:
            counted.append(unfinished.rows)
    assert len(counted) == 3
    assert counted == sorted(set(counted))
    assert found.rows == whole.rows
    parts = [json.loads(line) for line in store.get(job_key(job.job_id, "parts.jsonl")).splitlines()]
    ranges = [(piece["start"], piece["end"]) for part in parts for piece in part["pieces"]]
    assert all(one[1] == other[0] for one, other in pairwise(ranges))
    assert ranges[-1][1] == store.size
    # Each call reads the beginning again, and requests a piece ahead.
    assert store.read < read_at_once + len(counted) * (10 << 20)


def test_an_object_that_is_replaced_between_two_calls_is_cut_anew(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 8 << 20)
    store = MadeUpStore(size=20 << 20)
    job = replace_sources(new_job(store), SourceObject(key="score/churn/rows.csv", size=store.size, etag="one"))
    with pytest.raises(UnfinishedCutsError):
        plan_job(job, churn_model(), ReadSpec(), store, lanes=4, is_late=lambda: True)
    other = replace_sources(job, SourceObject(key="score/churn/rows.csv", size=store.size, etag="two"))
    store.read = 0
    plan_job(other, churn_model(), ReadSpec(), store, lanes=4)
    assert store.read > store.size


def test_a_plan_is_made_once():
    store, job = store_with(rows_csv=FILE)
    first = plan_job(job, churn_model(), ReadSpec(), store, lanes=4)
    store.put(job.sources[0].key, FILE + FILE)
    assert plan_job(job, churn_model(), ReadSpec(delimiter=";"), store, lanes=9) == first
    assert first.rows == 1
    assert job.created_at == NOW


def explained_job(store: MemoryObjectStore, body: bytes, name: str = "rows.csv") -> BatchJob:
    store.put(f"score/churn/{name}", body)
    return new_job(store, f"score/churn/{name}", explain=True)


def test_more_rows_than_a_file_may_have_to_be_explained_are_refused_with_their_limit(monkeypatch):
    monkeypatch.setattr("millrace.batch.explained_rows.MAX_PART_EVALUATIONS", 576 * 3 + 575)
    store, line = MemoryObjectStore("data"), f"{ROW}\n".encode()
    assert plan(store, explained_job(store, FILE + 2 * line))[0].rows == 3
    refused = explained_job(store, FILE + 3 * line)
    with pytest.raises(PayloadTooLargeError, match=r"rows.csv has 4 rows, and .* at most 3, because one takes 576"):
        plan(store, refused)
    assert plan(store, new_job(store, "score/churn/rows.csv"))[0].rows == 4
    for number, count in enumerate((1, 2, 1, 3, 1)):
        store.put(f"score/churn/some/{number}.csv", f"{HEADER}\n".encode() + count * line)
    _, parts = plan(store, new_job(store, folder="score/churn/some/", explain=True))
    assert [part.rows for part in parts] == [3, 1, 3, 1]
    _, parts = plan(store, new_job(store, folder="score/churn/some/"))
    assert [part.rows for part in parts] == [8]


def test_rows_to_explain_that_cannot_be_counted_are_refused_with_a_remedy(monkeypatch):
    store = MemoryObjectStore("data")
    archive = explained_job(store, gzip.compress(FILE), "rows.csv.gz")
    with pytest.raises(InvalidInputError, match=r"rows.csv.gz cannot be counted beforehand, and .* 20 files"):
        plan(store, archive)
    monkeypatch.setattr("millrace.batch.job_planning.MAX_KNOWN_FILES", 1)
    for number in range(4):
        store.put(f"score/churn/many/{number}.csv", FILE)
    with pytest.raises(InvalidInputError, match="at most 1 files"):
        plan(store, new_job(store, folder="score/churn/many/", explain=True))


def test_a_version_without_data_for_explanations_is_refused_before_files_are_read():
    store = MemoryObjectStore("data")
    job, bare = explained_job(store, b"no table"), replace(churn_model(), read_background=None)
    with pytest.raises(InvalidInputError, match="without data for explanations: train it again"):
        plan_parts(job, bare, ReadSpec(), store, lanes=1)
