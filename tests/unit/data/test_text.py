"""A text file is read once where its encoding does not matter, and rightly where it turns out to matter late."""

import gzip
import io
from itertools import islice, pairwise
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.data import blocks, content
from millrace.data.blocks import BlockReader, block_sizes
from millrace.data.content import TextFile, WholeLines
from millrace.data.read import UploadLimits, open_table
from millrace.errors import InvalidInputError, PayloadTooLargeError

from tests.tables import read_all, read_table

#: More than is looked at before a file is read, so that what follows comes late.
ROWS = content.SAMPLE_BYTES // 8 + 10_000
LONG = b"city,label\n" + b"Paris,0\n" * ROWS
LATE = "Zürich,1\n"


def test_a_file_of_ascii_is_read_once(monkeypatch):
    monkeypatch.setattr(content, "detect_encoding", mock.Mock(side_effect=AssertionError("looked through before")))
    table = read_all(open_table(LONG, "t.csv"))
    assert len(table) == ROWS
    assert table.description["encoding"] == "utf-8"
    assert table.findings == ()


def test_who_asks_early_is_told_the_encoding():
    reader = open_table(LONG + LATE.encode("cp1252"), "t.csv")
    assert reader.description["encoding"] == "cp1252"
    assert [finding.check for finding in reader.findings] == ["encoding"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("late", "name", "told"),
    [
        (LATE.encode(), "utf-8", []),
        (LATE.encode("cp1252"), "cp1252", ["encoding"]),
        (b"Z\x81,1\n", "latin-1", ["encoding"]),
    ],
)
def test_a_letter_far_into_the_file_is_read_in_its_encoding(late, name, told, packed):
    body = LONG + late
    table = read_table(gzip.compress(body, 1, mtime=0) if packed else body, "t.csv.gz" if packed else "t.csv")
    assert table.strings.column("city")[-1].as_py() == late.decode(name).split(",")[0]
    assert (len(table), table.lines[-1]) == (ROWS + 1, ROWS + 2)
    assert table.description["encoding"] == name
    assert [finding.check for finding in table.findings] == told


def test_a_line_far_into_the_file_that_is_not_valid_is_set_aside():
    table = read_table(LONG + LATE.encode() + LATE.encode("cp1252") + b"Bern,0\n", "t.csv")
    assert table.strings.column("city")[-2:].to_pylist() == ["Zürich", "Bern"]
    assert [(row.line, row.reason) for row in table.malformed] == [(ROWS + 3, "not valid utf-8 text")]
    assert [finding.check for finding in table.findings] == ["mixed_encodings"]


def test_json_lines_far_into_the_file_are_read_in_their_encoding():
    body = b'{"city": "Paris", "label": 0}\n' * 50_000 + '{"city": "Zürich", "label": 1}\n'.encode("cp1252")
    table = read_table(body, "t.jsonl")
    assert table.strings.column("city")[-1].as_py() == "Zürich"
    assert table.description["encoding"] == "cp1252"


@given(st.lists(st.sampled_from(["ab", "é", "\n", "\r\n", "12345678"]), max_size=30).map("".join), st.integers(1, 12))
def test_pieces_are_the_file_and_end_with_a_line_where_one_ends(text, size):
    body = text.encode()
    with mock.patch.object(content, "_LINE_END_BYTES", 6):
        reader = WholeLines(io.BytesIO(body))
        pieces = list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == body
    start = 0
    for piece in pieces[:-1]:
        assert len(piece) <= size
        assert piece.endswith(b"\n") == (b"\n" in body[start : start + size][-6:])
        start += len(piece)


def test_blocks_grow_to_their_size_and_shrink_towards_the_end():
    lines = b"1,2\n" * 20_000
    with (
        mock.patch.object(blocks, "BLOCK_BYTES", 8_000),
        TextFile(content.Content(lines, content.DEFAULT_LIMITS)).open() as stream,
    ):
        sizes = [len(block.body) for block in BlockReader(stream, ",", 1, block_sizes(2, len(lines))).blocks()]
    assert sizes[:5] == [1_000, 2_000, 4_000, 8_000, 8_000]
    assert sizes[-5:-1] == [4_684, 4_000, 4_000, 4_000]
    assert all(later <= earlier for earlier, later in pairwise(sizes[3:]))
    assert sum(sizes) == len(lines)


@pytest.mark.parametrize(("columns", "expected", "sizes"), [(2, None, [1, 2, 4, 8, 8]), (256, 10, [16, 16, 16])])
def test_blocks_do_not_shrink_where_the_end_is_unknown_or_columns_cost_most(columns, expected, sizes):
    assert [size >> 20 for size in islice(block_sizes(columns, expected), len(sizes))] == sizes


@given(st.integers(0, 10**12))
def test_every_block_has_a_size_however_large_a_file_is_said_to_be(expected):
    assert all(1 << 20 <= size <= 8 << 20 for size in islice(block_sizes(2, expected), 100))


def test_a_header_larger_than_what_is_looked_at_is_read():
    names = [f"{position}_{'x' * 600}" for position in range(1_999)] + ["label"]
    cells = [["1"] * 2_000, ["2"] * 2_000]
    body = "\n".join(",".join(line) for line in (names, *cells)).encode()
    assert body.index(b"\n") > content.SAMPLE_BYTES
    table = read_table(body, "t.csv")
    assert table.names == names
    assert len(table) == 2


@pytest.mark.parametrize("ending", ["\n", "\r", "\r\n"])
def test_a_file_is_opened_by_its_first_lines_whatever_ends_them(ending):
    body = ("city,label" + ending + f"Paris,0{ending}" * ROWS).encode()
    reader = open_table(body, "t.csv")
    assert reader.names == ["city", "label"]
    assert next(iter(reader.batches())).lines[0] == 2


def test_a_line_that_never_ends_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"abc," * 4_000_000)
    with pytest.raises(InvalidInputError, match="the first line is longer than 8 MB"):
        open_table(path, "t.csv")


def test_the_size_of_an_archive_is_unknown(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n")
    assert (
        content.Content(path, content.DEFAULT_LIMITS).size
        == content.Content(b"a,b\n", content.DEFAULT_LIMITS).size
        == 4
    )
    assert content.Content(gzip.compress(b"a,b\n", mtime=0), content.DEFAULT_LIMITS).size is None


@pytest.mark.parametrize("pack", [bytes, lambda body: gzip.compress(body, mtime=0)])
def test_a_file_may_not_be_larger_than_it_may_unpack_to(pack):
    body = b"a,b\n" + b"1,2\n" * 1_000
    assert len(read_all(open_table(pack(body), "t.csv", limits=UploadLimits(max_bytes=len(body))))) == 1_000
    with pytest.raises(PayloadTooLargeError, match="unpacks to more than 0 MB"):
        read_all(open_table(pack(body), "t.csv", limits=UploadLimits(max_bytes=len(body) - 1)))
