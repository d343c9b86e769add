"""Ranges of files: cut exactly, counted exactly, and read as the whole file is."""

import csv
import io
import json
import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace.data.file_ranges import HEAD_BYTES, CutFile, FileHead, cut_parquet, cut_text, open_range, read_head
from millrace.data.read import DEFAULT_LIMITS, open_table
from millrace.data.typed_table import convert, read_types, to_values
from millrace.documents import to_plain
from millrace.errors import InvalidInputError, NoRowsError
from millrace.schema import Column
from millrace.spec.data import ReadSpec

VALUES = ["a", "b,c", 'say "hi"', "two\nlines", "x\r\ny", '"', "\n", "", '""\n""', "é☃", "1.5", " "]


def head_of(body: bytes, name: str = "t.csv") -> FileHead:
    return read_head(body[:HEAD_BYTES], len(body), name, ReadSpec())


def cut(body: bytes, target: int, piece: int, name: str = "t.csv") -> tuple[FileHead, CutFile]:
    head = head_of(body, name)
    pieces = (body[start : start + piece] for start in range(head.start, len(body), piece))
    return head, cut_text(pieces, head, target)


def cut_by_turns(body: bytes, target: int, piece: int, name: str = "t.csv") -> tuple[FileHead, CutFile, int]:
    """Cut with an interruption after every range; returns the number of calls too."""
    head, found, calls = head_of(body, name), None, 0
    while found is None or not found.is_complete:
        start = found.ranges[-1].end if found else head.start
        pieces = (body[at : at + piece] for at in range(start, len(body), piece))
        found = cut_text(pieces, head, target, before=found, is_late=lambda: True)
        calls += 1
    return head, found, calls


def read_rows(reader) -> list[tuple]:
    """Return every row of a reader in order; a malformed one as its reason."""
    rows = []
    for batch in reader.batches():
        found = [*zip(batch.lines.tolist(), map(tuple, batch.strings.to_pylist()), strict=True)]
        values = zip(*[batch.strings.column(name).to_pylist() for name in reader.names], strict=True)
        found = [*zip(batch.lines.tolist(), values, strict=True)]
        found += [(row.line, row.reason) for row in batch.malformed]
        rows += [row for _, row in sorted(found, key=lambda pair: pair[0])]
    return rows


def read_ranges(body: bytes, head: FileHead, found: CutFile) -> list[tuple]:
    rows = []
    for one in found.ranges:
        part = body[one.start : one.end]
        delimited = None if head.delimited is None else to_plain(head.delimited)
        try:
            reader = open_range(
                lambda part=part: io.BytesIO(part), head.format, ReadSpec(), DEFAULT_LIMITS, delimited=delimited
            )
            read = read_rows(reader)
        except NoRowsError:
            read = []
        assert len(read) == one.rows
        rows += read
    return rows


def nasty_file(rng: random.Random) -> bytes:
    width, ending = rng.randint(2, 4), rng.choice(["\n", "\r\n"])
    file = io.StringIO()
    writer = csv.writer(file, lineterminator=ending, quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    writer.writerow(f"c{place}" for place in range(width))
    for _ in range(rng.randint(1, 60)):
        if rng.random() < 0.05:
            file.write(ending)
        else:
            writer.writerow(rng.choice(VALUES) for _ in range(width if rng.random() < 0.95 else width + 1))
    text = file.getvalue()
    text = text.removesuffix(ending) if rng.random() < 0.3 else text
    return text.encode("utf-8-sig" if rng.random() < 0.2 else "utf-8")


def test_ranges_of_nasty_files_are_read_as_the_whole():
    rng, cuts = random.Random(5), 0
    for _ in range(120):
        body = nasty_file(rng)
        try:
            whole = read_rows(open_table(body, "t.csv"))
        except InvalidInputError:
            continue
        head, found = cut(body, rng.randint(5, 200), rng.choice([1, 7, 64, 4096]))
        assert not found.reason
        assert found.ranges[0].start == head.start
        assert found.ranges[-1].end == len(body)
        assert all(one.end == other.start for one, other in zip(found.ranges, found.ranges[1:], strict=False))
        assert read_ranges(body, head, found) == whole
        cuts += len(found.ranges) - 1
    assert cuts > 500


def test_a_cut_that_goes_on_after_every_range_is_read_as_the_whole():
    rng, calls = random.Random(8), 0
    for _ in range(60):
        body = nasty_file(rng)
        try:
            whole = read_rows(open_table(body, "t.csv"))
        except InvalidInputError:
            continue
        target, piece = rng.randint(5, 200), rng.choice([1, 7, 64, 4096])
        head, found, turns = cut_by_turns(body, target, piece)
        assert found.ranges[-1].end == len(body)
        assert all(one.end == other.start for one, other in pairwise(found.ranges))
        assert read_ranges(body, head, found) == whole
        assert found.regular == cut(body, target, piece)[1].regular
        calls += turns
    assert calls > 250


def test_a_fault_after_an_interruption_is_found():
    body = b"a,b\n" + b"1,2\n" * 99 + b'5" pipe,2\n' + b"3,4\n" * 9
    _, found, calls = cut_by_turns(body, 64, 64)
    assert calls > 5
    assert "quotes" in found.reason
    assert not found.ranges


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'a,b\n1,2\n5" pipe,2\n' + b"3,4\n" * 9, "quotes"),
        (b'a,b\n1,2\n"x"y,2\n' + b"3,4\n" * 9, "quotes"),
        (b"a,b\n" + b"1,2\n" * 9 + b'3,"4', "quotes"),
        (b"a,b\n1,2\r3,4\r" + b"5,6\n" * 9, "line feeds"),
        (b"a,b\n" + b"1,2\n" * 400_000 + b"3,\0\n", "line feeds"),
        (b"a,b\n" + b"1,2\n" * 400_000 + "3,é\n".encode("cp1252"), "UTF-8"),
        (b'a,b\n1,"' + b"x" * (9 << 20), "longer than 8 MB"),
    ],
)
def test_a_file_that_a_range_could_be_read_otherwise_of_is_not_cut(body, reason):
    _, found = cut(body, 8, 1 << 20)
    assert reason in found.reason
    assert not found.ranges


def test_json_lines_are_cut_at_line_feeds_and_blank_lines_are_no_rows():
    rng = random.Random(3)
    for _ in range(100):
        lines = [json.dumps({"a": rng.choice(VALUES), "b": place}) for place in range(rng.randint(2, 40))]
        for _ in range(rng.randint(0, 3)):
            lines.insert(rng.randint(1, len(lines)), rng.choice(["", "  ", "not json", "\t\r"]))
        body = ("\n".join(lines) + rng.choice(["", "\n", "\r\n"])).encode()
        head, found = cut(body, rng.randint(100, 300), rng.choice([7, 64, 4096]), "t.jsonl")
        whole = read_rows(open_table(body, "t.jsonl"))
        assert sum(one.rows for one in found.ranges) == len(whole)
        assert head.format == "json_lines"
        ranges = [body[one.start : one.end] for one in found.ranges]
        if all(b"{" in part for part in ranges):
            assert read_ranges(body, head, found) == whole


def test_the_notation_of_the_beginning_holds_for_every_range():
    body = b"a;b\n1,5;x\n" + b"1.234;y\n" * 500 + b"2,5;z\n"
    head, found = cut(body, 100, 64)
    assert head.delimited is not None
    assert head.delimited.numbers.decimal == ","
    assert len(found.ranges) > 5
    reader = open_range(
        lambda: io.BytesIO(body[found.ranges[3].start : found.ranges[3].end]),
        "delimited",
        ReadSpec(),
        DEFAULT_LIMITS,
        delimited=to_plain(head.delimited),
    )
    assert reader.numbers == open_table(body, "t.csv").numbers


def test_row_groups_are_ranges_and_read_alone(tmp_path):
    path, table = tmp_path / "t.parquet", pa.table({"a": range(1_000), "b": [f"w{row % 7}" for row in range(1_000)]})
    pq.write_table(table, path, row_group_size=100)
    with path.open("rb") as file:
        names, found = cut_parquet(file, path.stat().st_size, 1_500)
    assert names == ("a", "b")
    assert sum(one.rows for one in found.ranges) == 1_000
    assert 2 < len(found.ranges) < 10
    body = bytearray(path.read_bytes())
    one = found.ranges[1]
    # Nothing but the footer and the groups is looked at.
    body[4 : one.start] = bytes(one.start - 4)
    body[one.end : found.ranges[-1].end] = bytes(found.ranges[-1].end - one.end)
    path.write_bytes(body)
    rows = read_rows(open_range(path, "parquet", ReadSpec(), DEFAULT_LIMITS, groups=one.groups))
    first = found.ranges[0].rows
    assert rows == [(str(row), f"w{row % 7}") for row in range(first, first + one.rows)]


@pytest.mark.parametrize(
    ("values", "kind", "column"),
    [
        ([1, None, -3, 2**53 + 1, -(2**62)], pa.int64(), Column("a", "number", nullable=True)),
        ([1, 0, 255], pa.uint8(), Column("a", "integer")),
        ([0.1, None, -0.0, 3.4e38], pa.float32(), Column("a", "number", nullable=True)),
        ([True, None, False], pa.bool_(), Column("a", "boolean", nullable=True)),
        (["x", None, " NA ", "", "é"], pa.string(), Column("a", "category", nullable=True)),
        ([0, None, 1_700_000_000_123], pa.timestamp("ms", "Europe/Oslo"), Column("a", "datetime", formats=("iso",))),
        ([-1, 1_700_000_000_123_456], pa.timestamp("us"), Column("a", "datetime", formats=("iso",))),
        ([-1, 1_700_000_000], pa.timestamp("s"), Column("a", "datetime", formats=("iso",))),
    ],
)
def test_types_of_parquet_are_read_as_their_text_would_be(tmp_path, values, kind, column):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array(values, kind), "b": range(len(values))}), path, use_dictionary=False)
    reader = open_range(path, "parquet", ReadSpec(), DEFAULT_LIMITS, groups=(0, 1))
    (typed,), (text,) = reader.batches(read_types([column])), reader.batches()
    assert list(typed.typed) == ["a"]
    assert not text.typed
    one, other = convert(column, typed), convert(column, text)
    np.testing.assert_array_equal(to_values(one.stored), to_values(other.stored))
    assert one.bad is other.bad is None
